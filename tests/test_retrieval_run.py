"""Runs of queries that search a gallery: from the search to report, files and another gallery."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakegallery
import numpy as np
import pytest
from command import HERE, in_process
from fakegallery import ITEMS, NAME, queries, target
from inprocess import run_in_process
from reported import Page
from scipy.stats import rankdata

from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.models.search import search
from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.compare import compare
from orchestrator.training import fold as training
from orchestrator.training.trial import read_epoch_scores
from systems.errors import UserError
from systems.predictions import Predictions

LEARNERS = ("mean", "rank_mean")
EVERY = (*ITEMS["train"], *ITEMS["test"])
TEST = queries("test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        fakegallery.registered(patch)
        yield tmp_path_factory.mktemp("runs")


def options(root: Path, name: str, **more: Any) -> Options:
    about: dict[str, Any] = {
        "system": "fakepaper/searcher", "dataset": NAME, "storage": str(root), "name": name,
        "trials": 2, "top_k": 2, "stack": ",".join(LEARNERS), "budget": "paper", **more,
    }  # fmt: skip
    return Options(**about)


@pytest.fixture(scope="module")
def run(root: Path) -> RunDir:
    return run_in_process(options(root, "refitted"))


@pytest.fixture(scope="module")
def folds(root: Path) -> RunDir:
    """Trained on pairs; the folds' models predict."""
    more = {"final": "fold_mean", "set": {"pairs": "true"}}
    return run_in_process(options(root, "folds", **more))


def ranks(ranking: np.ndarray, ids: tuple[str, ...], part: str) -> np.ndarray:
    """The rank of each query's target among the recordings of its part; the mean among ties."""
    mine = ranking[:, [EVERY.index(item) for item in ITEMS[part]]]
    own = [ITEMS[part].index(target(i)) for i in ids]
    return rankdata(-mine, axis=1)[np.arange(len(ids)), own]


def final(run: RunDir, trial: int) -> Predictions:
    """What a trial's final models said of the test part."""
    path = run.trial(trial).path
    (said, *_) = [*path.rglob("test_fold_mean_*.npz"), *path.rglob("predictions/test_*.npz")]
    return Predictions.load(said)


def test_two_trials_are_fused(run: RunDir) -> None:
    assert len(read_json(run.members)["members"]) == 2


def test_the_test_part_is_scored_among_the_recordings_that_it_searches(run: RunDir) -> None:
    scores = read_json(run.scores)
    best = read_json(run.members)["members"][0]["trial"]
    rows = {r["learner"]: r for r in scores["rows"] if r["best"] or r["learner"]}
    assert set(rows) == {None, *LEARNERS}
    said = {name: Predictions.load(run.learner(name).test) for name in LEARNERS}
    for name, found in {None: final(run, best), **said}.items():
        assert found.clip_ids == tuple(TEST)
        assert found.classes == EVERY
        assert found.ranking is not None
        rank = ranks(found.ranking, found.clip_ids, "test")
        metrics = rows[name]["metrics"]
        assert metrics["mean_rank"]["value"] == pytest.approx(rank.mean())
        assert metrics["mrr"]["value"] == pytest.approx((1 / rank).mean())
        if name != "rank_mean":  # whose ties may share the first place
            assert metrics["recall_at_1"]["value"] == pytest.approx((rank == 1).mean())
    assert rows[None]["metrics"]["mrr"]["value"] > 0.6  # by chance it is 0.52


def test_ranks_are_averaged_within_each_query(run: RunDir) -> None:
    each = [final(run, one["trial"]).ranking for one in read_json(run.members)["members"]]
    expected = np.mean([(rankdata(one, axis=1) - 0.5) / len(EVERY) for one in each
                        if one is not None], axis=0)  # fmt: skip
    said = Predictions.load(run.learner("rank_mean").test).ranking
    assert said is not None
    np.testing.assert_allclose(said, expected)


def test_members_are_scored_by_epochs_that_other_queries_chose(run: RunDir) -> None:
    members = read_json(run.members)["members"]
    folds = len(run.plan.splits["folds"])
    assert folds == 5
    for member in members:
        trial = run.trial(member["trial"])
        chosen = [
            round(np.median([b for g, b in enumerate(member["best_steps"]) if g != fold]))
            for fold in range(folds)
        ]
        ids, said = list[str](), []
        for fold, step in enumerate(chosen):
            epochs = read_epoch_scores(trial, fold)
            ids += Predictions.load(trial.predictions(fold)).clip_ids
            said.append(epochs[step - 1])
        rank = ranks(np.concatenate(said), tuple(ids), "train")
        assert member["out_of_fold"]["value"] == pytest.approx((1 / rank).mean())


def test_a_mean_over_folds_is_the_mean_of_what_they_say(folds: RunDir) -> None:
    trial = folds.trial(read_json(folds.members)["members"][0]["trial"])
    each = [Predictions.load(trial.fold_predictions(fold)).ranking for fold in range(5)]
    said, expected = final(folds, trial.number).ranking, [e for e in each if e is not None]
    assert said is not None
    np.testing.assert_allclose(said, np.mean(expected, axis=0), rtol=1e-6)


def test_it_is_reported_with_its_best_and_worst_queries(run: RunDir) -> None:
    results = read_json(run.results)
    assert {row["name"] for row in results["stack"]} == set(LEARNERS)
    page = Page((run.path / "report" / "index.html").read_text())
    assert sum("test_" in alt for alt in page.alts) == len(results["test"]["examples"])
    for example in results["test"]["examples"]:
        assert example["true_tags"] == [target(example["clip"])]
        (found,) = example["predicted_tags"]
        assert found in ITEMS["test"], "what is not searched is not found"
    worst, best = results["test"]["examples"][0], results["test"]["examples"][-1]
    assert best["true_tags"] == best["predicted_tags"]
    assert best["rank"] == 1.0 <= worst["rank"]
    assert f"is at rank {worst['rank']:g}" in " ".join(page.words)
    assert worst["why"].startswith("one of the worst clips by their ranking")


def test_two_runs_are_compared_query_by_query(run: RunDir, folds: RunDir) -> None:
    rows = {(row["part"], row["who"], row["metric"]): row for row in compare(run, folds)["rows"]}
    values = []
    for one in (run, folds):
        said = Predictions.load(one.learner("mean").test)
        assert said.ranking is not None
        values.append(ranks(said.ranking, said.clip_ids, "test").mean())
    row = rows["test", "mean", "mean_rank"]
    assert (row["first"], row["second"]) == pytest.approx(tuple(values))


# Files


@pytest.mark.parametrize(("name", "model"), [("run", "best"), ("run", "mean"), ("folds", "best")])
def test_files_find_the_known_recordings_as_the_run_said(
    name: str, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: RunDir = request.getfixturevalue(name)
    predictor = Predictor.load(export(folder, tmp_path / "bundle", model=model))
    found = predictor.predict_files([fakegallery.written(i, tmp_path) for i in TEST[:4]])
    best = read_json(folder.members)["members"][0]["trial"]
    said = final(folder, best) if model == "best" else Predictions.load(folder.learner(model).test)
    assert said.ranking is not None
    for one, row in zip(found, said.ranking, strict=False):
        assert (one.ranked, one.events) == (True, None)
        np.testing.assert_allclose(list(one.tags.values()), row, atol=2e-5)


def test_a_folder_is_searched_as_the_gallery_of_the_run(run: RunDir, tmp_path: Path) -> None:
    asked = [str(fakegallery.written(i, tmp_path / "queries")) for i in TEST]
    items = [str(fakegallery.written(i, tmp_path / "gallery")) for i in EVERY]
    predictor = Predictor.load(export(run, tmp_path / "bundle"))
    ranking = final(run, read_json(run.members)["members"][0]["trial"]).ranking
    assert ranking is not None
    for one, row in zip(search(predictor, asked, items), ranking, strict=True):
        np.testing.assert_allclose([one.tags[item] for item in items], row, atol=2e-5)


def test_the_command_lists_the_best_first(run: RunDir, tmp_path: Path) -> None:
    query = fakegallery.written(TEST[0], tmp_path / "queries")
    for item in ITEMS["test"]:
        fakegallery.written(item, tmp_path / "gallery")
    about = ("search", "refitted", str(query), "--gallery", str(tmp_path / "gallery"),
             "--storage", str(run.root))  # fmt: skip
    text = in_process(*about, "--top", "3", cwd=tmp_path, check=True).stdout
    rows = in_process(*about, "--format", "csv", cwd=tmp_path, check=True).stdout
    found = json.loads(in_process(*about, "--format", "json", cwd=tmp_path, check=True).stdout)
    ranking = [one["item"] for one in found[0]["ranking"]]
    scores = [one["score"] for one in found[0]["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert {Path(item).stem for item in ranking} == {*ITEMS["test"]}
    assert [row["item"] for row in csv.DictReader(io.StringIO(rows))] == ranking
    assert [line.split()[1] for line in text.splitlines()[1:4]] == ranking[:3]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "mean"), "best or trial:N"),
        (("--format", "audacity"), "format"),
        (("--top", "0"), "--top"),
    ],
)
def test_what_cannot_be_searched_is_told(
    more: tuple[str, str], message: str, run: RunDir, tmp_path: Path
) -> None:
    query = fakegallery.written(TEST[0], tmp_path / "gallery")
    done = in_process("search", "refitted", str(query), "--gallery", str(query.parent),
                      "--storage", str(run.root), *more, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr


# Kills, workers' rows, what is stored


class Killed(BaseException):
    """As a signal that nothing catches."""


def test_a_killed_run_goes_on_to_the_same_digits(
    run: RunDir, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, append = [], training.append_step

    def killed(*about: Any) -> None:
        done.append(about)
        if len(done) == 5:  # in the second fold of the first trial
            raise Killed
        append(*about)

    with monkeypatch.context() as patch:
        patch.setattr(training, "append_step", killed)
        with pytest.raises(Killed):
            run_in_process(options(root, "killed"))
    in_process("run", "--resume", "killed", "--storage", str(root), *HERE, cwd=root, check=True)
    again = RunDir(root / "killed")
    assert read_json(again.members) == read_json(run.members)
    assert read_json(again.scores)["rows"] == read_json(run.scores)["rows"]


def test_each_input_stores_the_sound_of_its_own_roles(run: RunDir) -> None:
    stores = read_json(run.store)["stores"]
    held = {}
    for name in stores:
        index = read_json(run.root / "store" / name / "index.json")
        held[index["rate"]] = {row[0] for row in index["clips"]}
    assert held == {8000: {*queries("train"), *TEST}, 16_000: {*EVERY}}


def test_without_a_gallery_column_the_triplets_are_refused(root: Path) -> None:
    from dataclasses import replace

    from systems import registry
    from systems.context import Context
    from systems.data.prepare import Waveforms
    from systems.data.splits import make_splits, training_data

    dataset = fakegallery.read()
    fold = training_data(dataset, make_splits(dataset, 0), 0, "mrr")
    gallery = replace(fold.unlabelled["gallery"], columns=tuple({} for _ in EVERY))
    sounds = {
        name: Waveforms(rate, {c.clip_id: fakegallery.render(c.clip_id) for c in dataset.clips})
        for name, rate in (("query", 8000), ("gallery", 16_000))
    }
    entry = registry.get("fakepaper/searcher")
    with pytest.raises(UserError, match="the column 'class' of the gallery"):
        entry.build(entry.config).train(
            replace(fold, unlabelled={"gallery": gallery}), sounds, Context(threads=1)
        )
