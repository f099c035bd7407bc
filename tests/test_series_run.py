"""Runs of series from a search to the fused report, and what their models say of files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeseries
import numpy as np
import pytest
import soundfile
from command import HERE, in_process
from fakeseries import ALONE, HOP, NAME, OUTPUTS, STEPS, belts
from inprocess import run_in_process
from made_sets import CASES
from reported import Page
from scipy.stats import pearsonr

from orchestrator.models.answers import FilePrediction
from orchestrator.models.bundle import export
from orchestrator.models.files import as_csv, as_json, label_track, table
from orchestrator.models.inference import Predictor
from orchestrator.plan.options import Options
from orchestrator.runs.counts import load_counts
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.compare import compare
from orchestrator.training import fold as training
from orchestrator.training.trial import read_epoch_scores
from systems.errors import UserError
from systems.predictions import Predictions

LEARNERS = ("mean", "dirichlet", "simplex", "fold_weights", "selection")
TEST = [i for i in STEPS if i.startswith("test")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        fakeseries.registered(patch)
        yield tmp_path_factory.mktemp("runs")


def options(root: Path, name: str, **more: Any) -> Options:
    about: dict[str, Any] = {
        "system": "fakepaper/series", "dataset": NAME, "storage": str(root), "name": name,
        "trials": 2, "top_k": 2, "stack": ",".join(LEARNERS), "budget": "paper", **more,
    }  # fmt: skip
    return Options(**about)


@pytest.fixture(scope="module")
def honest(root: Path) -> RunDir:
    """Trained on four recordings, validated on two."""
    return run_in_process(options(root, "honest"))


@pytest.fixture(scope="module")
def folds(root: Path) -> RunDir:
    """Folds that hold out two recordings of the one part, or one of the other."""
    return run_in_process(options(root, "folds", protocol="paper", set={"training.epochs": 4}))


def said_in(path: Path) -> tuple[np.ndarray, ...]:
    """The values [T, D] of each recording."""
    values = Predictions.load(path).frame_values
    assert values is not None
    return values


def final(run: RunDir, trial: int) -> Path:
    """What a trial's final model said of the test part."""
    return next((run.trial(trial).path).rglob("predictions/test_*.npz"))


def pcc(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(truth[:, d], said[:, d])[0, 1] for d in range(2)]))


def test_scores_are_the_libraries(honest: RunDir) -> None:
    scores = read_json(honest.scores)
    truth = np.concatenate([belts(i) for i in TEST])
    said = {row["learner"]: row for row in scores["rows"] if row["best"] or row["learner"]}
    assert set(said) == {None, *LEARNERS}
    best = read_json(honest.members)["members"][0]["trial"]
    paths: dict[str | None, Path] = {name: honest.learner(name).test for name in LEARNERS}
    paths[None] = final(honest, best)
    for name, path in paths.items():
        found = Predictions.load(path)
        assert found.clip_ids == tuple(TEST)
        assert (found.clip_scores, found.frame_hop) == (None, HOP)
        values = found.frame_values
        assert values is not None
        assert [len(one) for one in values] == [STEPS[i] for i in TEST]
        metrics = said[name]["metrics"]
        every = np.concatenate(values)
        assert metrics["pcc"]["value"] == pytest.approx(pcc(truth, every), abs=1e-6)
        within = np.mean([
            pearsonr(belts(i)[:, d], one[:, d])[0]
            for i, one in zip(TEST, values, strict=True) for d in range(2)
        ])  # fmt: skip
        assert metrics["mean_pcc"]["value"] == pytest.approx(within, abs=1e-6)
        off = np.sqrt(((every - truth) ** 2).mean(axis=0)).mean()
        assert metrics["rmse"]["value"] == pytest.approx(off, abs=1e-6)
        assert set(said[name]["classes"]) == set(OUTPUTS)
        chest = np.corrcoef(truth[:, 0], every[:, 0])[0, 1]
        assert said[name]["classes"]["chest"]["pcc"] == pytest.approx(chest, abs=1e-6)
    ids, _, rows = load_counts(honest.test_counts)
    assert ids == tuple(TEST)
    assert all(row.counts["pcc"].shape == (3, 2, 6) for row in rows)


def test_a_fused_series_is_that_of_its_members(honest: RunDir) -> None:
    trials = [m["trial"] for m in read_json(honest.members)["members"]]
    each = [said_in(final(honest, n)) for n in trials]
    for name in ("mean", "dirichlet", "simplex", "selection"):
        said = said_in(honest.learner(name).test)
        weights = (read_json(honest.learner(name).scores)["weights"] or {}).get(
            "members", [0.5] * 2
        )
        for place, one in enumerate(said):
            expected = sum(w * e[place] for w, e in zip(weights, each, strict=True))
            np.testing.assert_allclose(one, expected, atol=1e-6)


def test_the_only_recording_that_validates_is_scored_by_an_epoch_that_it_did_not_choose(
    root: Path,
) -> None:
    run = run_in_process(options(root, "alone", dataset=ALONE, trials=2, stack="mean,dirichlet"))
    for member in read_json(run.members)["members"]:
        last = read_epoch_scores(run.trial(member["trial"]), 0)[-1]
        assert last.shape == (STEPS["devel_00"], 2)
        value = member["out_of_fold"]["value"]
        assert value == pytest.approx(pcc(belts("devel_00"), last), abs=1e-6)
    assert load_counts(run.validation_counts)[0] == ("devel_00",)
    refused = {row["name"]: row["why"] for row in read_json(run.results)["refused"]}
    assert set(refused) == {"mean", "dirichlet"}
    assert "single clip" in refused["mean"]


def test_each_of_two_that_validate_is_scored_by_an_epoch_that_the_other_chose(
    honest: RunDir,
) -> None:
    ids, steps = ("devel_00", "devel_01"), STEPS["devel_00"]
    for member in read_json(honest.members)["members"]:
        epochs = read_epoch_scores(honest.trial(member["trial"]), 0)
        first, second = epochs[:, :steps], epochs[:, steps:]
        by_first, by_second = (
            int(np.argmax([pcc(belts(i), one) for one in part]))
            for i, part in zip(ids, (first, second), strict=True)
        )
        said = np.concatenate([first[by_second], second[by_first]])
        value = pcc(np.concatenate([belts(i) for i in ids]), said)
        assert member["out_of_fold"]["value"] == pytest.approx(value, abs=1e-6)


def test_each_recording_is_scored_by_an_epoch_that_others_chose(folds: RunDir) -> None:
    held_out = [("train_00", "train_01"), ("train_02", "train_03"), ("devel_00",), ("devel_01",)]
    assert folds.plan.splits["folds"] == [[4, 2], [4, 2], [5, 1], [5, 1]]
    for member in read_json(folds.members)["members"]:
        trial = folds.trial(member["trial"])
        epochs = [read_epoch_scores(trial, fold) for fold in range(4)]
        truth = [np.concatenate([belts(i) for i in ids]) for ids in held_out]
        best = [1 + int(np.argmax([pcc(t, one) for one in by_epoch]))
                for t, by_epoch in zip(truth, epochs, strict=True)]  # fmt: skip
        assert member["best_steps"] == best
        chosen = [round(np.median([b for g, b in enumerate(best) if g != f])) for f in range(4)]
        said = [by_epoch[step - 1] for by_epoch, step in zip(epochs, chosen, strict=True)]
        value = pcc(np.concatenate(truth), np.concatenate(said))
        assert member["out_of_fold"]["value"] == pytest.approx(value, abs=1e-6)


def test_stage_two_of_series_is_judged_and_reported(folds: RunDir) -> None:
    results = read_json(folds.results)
    assert {row["name"] for row in results["stack"]} == set(LEARNERS)
    for row in results["stack"]:
        said = Predictions.load(folds.learner(row["name"]).out_of_fold)
        truth = np.concatenate([belts(i) for i in said.clip_ids])
        value = pcc(truth, np.concatenate(said.frame_values or ()))
        assert row["out_of_fold"]["value"] == pytest.approx(value, abs=1e-6)
        assert row["compared"]["among"] == len(LEARNERS)
    page = Page((folds.path / "report" / "index.html").read_text())
    pictures = [alt for alt in page.alts if "over time, true and predicted" in alt]
    assert len(pictures) == len(results["test"]["examples"]) == 3
    assert "chest, belly" in pictures[0]


def test_examples_are_the_truth_and_what_was_said(honest: RunDir) -> None:
    test = read_json(honest.results)["test"]
    best = read_json(honest.members)["members"][0]["trial"]
    said = dict(zip(TEST, said_in(final(honest, best)), strict=True))
    found = {one["clip"]: one["series"] for one in test["examples"]}
    assert list(found) == sorted(found, key=lambda i: found[i]["pcc"]), "the worst first"
    for clip_id, series in found.items():
        values = said[clip_id]
        assert series["hop"] == HOP
        assert series["pcc"] == pytest.approx(pcc(belts(clip_id), values), abs=1e-6)
        for d, name in enumerate(OUTPUTS):
            np.testing.assert_allclose(series["true"][name], belts(clip_id)[:, d], rtol=1e-3)
            np.testing.assert_allclose(series["predicted"][name], values[:, d], rtol=1e-3)


def test_two_runs_of_series_are_compared_over_recordings(honest: RunDir, folds: RunDir) -> None:
    rows = {(row["part"], row["who"], row["metric"]): row for row in compare(honest, folds)["rows"]}
    truth = np.concatenate([belts(i) for i in TEST])
    values = [pcc(truth, np.concatenate(said_in(run.learner("mean").test)))
              for run in (honest, folds)]  # fmt: skip
    row = rows["test", "mean", "pcc"]
    assert (row["first"], row["second"]) == pytest.approx(values, abs=1e-6)
    assert row["difference"]["value"] == pytest.approx(values[1] - values[0], abs=1e-6)


# Files


def series(found: FilePrediction) -> np.ndarray:
    """The values [T, D] that are said of a file, which has no tags and no events."""
    assert (found.tags, found.events) == ({}, None)
    assert found.series is not None
    assert (found.series.hop, found.series.outputs) == (HOP, OUTPUTS)
    return found.series.values


@pytest.mark.parametrize("model", ["best", "mean", "fold_weights"])
@pytest.mark.parametrize("run", ["honest", "folds"])
def test_files_get_what_the_run_predicted(
    run: str, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: RunDir = request.getfixturevalue(run)
    predictor = Predictor.load(export(folder, tmp_path / "bundle", model=model))
    found = predictor.predict_files([fakeseries.written(i, tmp_path) for i in TEST])
    best = read_json(folder.members)["members"][0]["trial"]
    path = final(folder, best) if model == "best" else folder.learner(model).test
    for one, values in zip(found, said_in(path), strict=True):
        np.testing.assert_allclose(series(one), values, atol=2e-5)


def test_what_is_said_of_a_file_is_written_as_csv_and_json(honest: RunDir, tmp_path: Path) -> None:
    predictor = Predictor.load(export(honest, tmp_path / "bundle", model="mean"))
    found = predictor.predict_files([fakeseries.written(i, tmp_path) for i in TEST[:2]])
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert list(rows[0]) == ["file", "time", *OUTPUTS]
    assert len(rows) == STEPS[TEST[0]] + STEPS[TEST[1]]
    assert [float(row["time"]) for row in rows[:3]] == [0.0, 0.04, 0.08]
    values = np.concatenate([series(one) for one in found])
    np.testing.assert_allclose([[float(row[o]) for o in OUTPUTS] for row in rows], values)
    first, second = json.loads(as_json(found))
    assert set(first) == {"file", "duration", "series"}
    assert second["series"]["belly"] == pytest.approx(series(found[1])[:, 1].tolist())
    assert f"{STEPS[TEST[0]]} values every 0.04 s" in table(found)
    with pytest.raises(UserError, match="no events"):
        label_track(found[0])


def test_tags_are_no_csv() -> None:
    with pytest.raises(UserError, match="no values over time"):
        as_csv([FilePrediction("a.wav", 1.0, {"dog": 0.3}, None)])


def test_ten_minutes_are_followed_to_their_end(honest: RunDir, tmp_path: Path) -> None:
    sound = np.tile(fakeseries.Beside(()).read("test_01")[0][0], 60)[: 600 * 16_000]
    soundfile.write(tmp_path / "long.wav", sound, 16_000)
    done = in_process("predict", "honest", str(tmp_path / "long.wav"), "--storage",
                      str(honest.root), "--format", "csv", "--output", str(tmp_path / "long.csv"),
                      cwd=tmp_path, check=True)  # fmt: skip
    assert "long.csv" in done.stdout
    with open(tmp_path / "long.csv", newline="") as file:
        said = np.array([[float(row[o]) for o in OUTPUTS] for row in csv.DictReader(file)])
    assert said.shape == (15_000, 2)
    period = STEPS["test_01"]
    truth = np.tile(belts("test_01"), (60, 1))[:15_000]
    early, late = slice(0, period), slice(period * 40, period * 41)
    assert pcc(truth[late], said[late]) == pytest.approx(pcc(truth[early], said[early]), abs=0.1)


# Kills, withheld labels, fusions


class Killed(BaseException):
    """As a signal that nothing catches."""


def test_a_killed_run_goes_on_to_the_same_digits(
    honest: RunDir, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, append = [], training.append_step

    def killed(*about: Any) -> None:
        done.append(about)
        if len(done) == 5:  # in the second trial, in its second epoch
            raise Killed
        append(*about)

    with monkeypatch.context() as patch:
        patch.setattr(training, "append_step", killed)
        with pytest.raises(Killed):
            run_in_process(options(root, "killed"))
    in_process("run", "--resume", "killed", "--storage", str(root), *HERE, cwd=root, check=True)
    again = RunDir(root / "killed")
    assert read_json(again.members) == read_json(honest.members)
    for kept in ("rows", "examples"):
        assert read_json(again.scores)[kept] == read_json(honest.scores)[kept]
    for name in LEARNERS:
        ours, theirs = (said_in(run.learner(name).out_of_fold) for run in (again, honest))
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_withheld_series_are_written_for_those_who_have_them(root: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "compare2020_breathing")
    case.make(tmp_path / "set")
    run = run_in_process(options(root, "withheld", dataset=case.name, data=str(tmp_path / "set"),
                                 trials=1, stack="mean,fold_weights"))  # fmt: skip
    scores = read_json(run.scores)
    assert (scores["label_kind"], scores["rows"]) == ("withheld", [])
    files = {row["learner"]: run.path / row["file"] for row in scores["submissions"]}
    assert set(files) == {None, "mean", "fold_weights"}
    with open(files["mean"], newline="") as text:
        rows = [float(row["prediction"]) for row in csv.DictReader(text)]
    said = np.concatenate(said_in(run.learner("mean").test))
    np.testing.assert_allclose(rows, said[:, 0], atol=1e-6)


def test_a_fusion_of_series_and_what_learns_from_one(root: Path) -> None:
    for system, more in (("fakepaper/breath", {"stack": None}), ("fakepaper/follower", {})):
        asked = {"system": system, "dataset": "synthetic_breath", "protocol": "paper", "trials": 1,
                 "stack": "none", **more}  # fmt: skip
        name = system.split("/")[1]
        args = [f"--{key}={value}" for key, value in asked.items() if value is not None]
        in_process("run", *args, "--budget", "paper", "--name", name, "--storage", str(root), *HERE,
                   "--gpus-per-trial", "0", "--concurrency", "1", cwd=root, check=True)  # fmt: skip
    fused = read_json(root / "breath" / "results.json")["test"]["rows"]
    fused = [row for row in fused if not row["trivial"]]
    trial = RunDir(root / "breath.fakepaper.wide").trial(0)
    each = [said_in(trial.fold_predictions(fold)) for fold in range(4)]
    for place, one in enumerate(said_in(next(trial.path.rglob("test_fold_mean_*.npz")))):
        np.testing.assert_allclose(one, np.mean([e[place] for e in each], axis=0), atol=1e-6)
    assert fused[-1]["learner"] == "fold_weights"
    assert fused[-1]["metrics"]["pcc"]["value"] > min(r["metrics"]["pcc"]["value"] for r in fused)
    taught = Predictions.load(root / "follower" / "required" / "teacher" / "fold0.npz")
    assert taught.frame_embeddings is not None
    assert [len(one) for one in taught.frame_embeddings] == [1000] * len(taught.clip_ids)
    assert read_json(root / "follower" / "results.json")["test"]["rows"]
