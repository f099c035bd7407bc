"""Runs whose test labels are withheld, that have none, or several parts and subsets of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakedata import labels_of, registered, write_submission
from inprocess import run_in_process
from reported import Page
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from orchestrator.cli.words import outcome_lines
from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.compare import compare
from orchestrator.tracking.views import read_views
from systems.data.subsets import subset_key
from systems.predictions import Predictions

TRAIN = {"train": (40, "class")}
SUBSETS = {"device b": {"device": ("b",)}, "device b+c": {"device": ("c", "b")},
           "public": {"usage": ("Public",)}, "nowhere": {"device": ("x",)}}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        sets = registered(patch)
        sets.add("hidden", {**TRAIN, "test": (8, "withheld")}, ("test",),
                 write_submission=write_submission)  # fmt: skip
        sets.add("mute", {**TRAIN, "test": (8, "withheld")}, ("test",))
        sets.add("untested", TRAIN, ())
        sets.add("twice", {**TRAIN, "dev": (16, "class"), "eval": (12, "class")}, ("dev", "eval"),
                 SUBSETS=SUBSETS, METRICS=("uar", "accuracy"))  # fmt: skip
        yield tmp_path_factory.mktemp("runs")


def run_on(root: Path, dataset: str, **options: Any) -> RunDir:
    about: Any = {"trials": 2, "top_k": 2, "stack": "mean", "budget": "paper", "final": "fold_mean",
                  "name": f"{dataset}{options.get('final', '')}", **options}  # fmt: skip
    asked = Options(system="fakepaper/classes", dataset=dataset, storage=str(root), **about)
    return run_in_process(asked)


@pytest.fixture(scope="module")
def hidden(root: Path) -> RunDir:
    return run_on(root, "hidden")


@pytest.fixture(scope="module")
def twice(root: Path) -> RunDir:
    return run_on(root, "twice")


def test_withheld_labels_are_predicted_and_written_for_those_who_have_them(hidden: RunDir) -> None:
    scores = read_json(hidden.scores)
    assert (scores["part"], scores["label_kind"], scores["rows"]) == ("test", "withheld", [])
    assert not hidden.ledger.exists()
    files = {row["learner"]: row["file"] for row in scores["submissions"]}
    assert files == {None: "submission/best/answers.csv", "mean": "submission/mean/answers.csv"}
    best = read_json(hidden.members)["members"][0]["trial"]
    said = {
        None: next((hidden.trial(best).refit / "predictions").glob("test_fold_mean_*.npz")),
        "mean": hidden.stack("mean") / "test.npz",
    }
    for learner, file in files.items():
        with open(hidden.path / file, newline="") as text:
            rows = list(csv.reader(text))
        predicted = Predictions.load(said[learner])
        assert predicted.clip_scores is not None
        assert [i for i, _ in rows] == [f"test_{n:02d}" for n in range(8)]
        assert [name for _, name in rows] == [
            ("low", "high")[k] for k in predicted.clip_scores.argmax(axis=1)
        ]


def test_the_result_of_a_run_without_test_labels_is_out_of_fold(hidden: RunDir) -> None:
    results = read_json(hidden.results)
    member = results["members"][0]["out_of_fold"]
    assert member["low"] <= member["value"] <= member["high"]
    lines = outcome_lines(results)
    assert f"accuracy {member['value']:.3f} [{member['low']:.3f}, {member['high']:.3f}]" in lines[0]
    assert sum("submission/" in line for line in lines) == 2
    page = Page((hidden.report / "index.html").read_text())
    assert "submission/mean/answers.csv" in page.text
    assert "labels of the test part are withheld" in page.text
    assert f"{member['value']:.3f}" in page.text
    parent, *others = read_views(hidden, driving=False)
    assert parent.tags["soundsweep.state"] == "complete"
    assert parent.metrics["out_of_fold/accuracy"] == member["value"]
    assert hidden.submission in parent.artifacts
    assert not any(name.startswith("test") for view in (parent, *others) for name in view.metrics)
    found = Predictor.load(export(hidden, hidden.root / "bundle", model="mean"))
    assert found is not None


def test_runs_without_test_labels_are_compared_out_of_fold(hidden: RunDir, root: Path) -> None:
    other = run_on(root, "hidden", final="refit", seed=0)
    rows = compare(hidden, other)["rows"]
    assert {row["part"] for row in rows} == {"validation"}
    assert read_json(other.scores)["submissions"][0]["file"] == "submission/best/answers.csv"


def test_a_reader_that_writes_no_submission_is_said_so(root: Path) -> None:
    run = run_on(root, "mute")
    assert [row["file"] for row in read_json(run.scores)["submissions"]] == [None, None]
    assert "reader of this data writes none" in Page((run.report / "index.html").read_text()).text


@pytest.mark.parametrize("final", ["refit", "fold_mean"])
def test_without_a_test_part_models_are_made_and_nothing_is_predicted(
    final: str, root: Path
) -> None:
    run = run_on(root, "untested", final=final)
    scores = read_json(run.scores)
    assert (scores["part"], scores["rows"], scores["submissions"]) == (None, [], [])
    assert not list(run.path.glob("trials/*/refit/predictions/*.npz"))
    assert "The data has no test part" in Page((run.report / "index.html").read_text()).text
    best = Predictor.load(export(run, root / f"bundle_{final}"))
    stacked = Predictor.load(export(run, root / f"stacked_{final}", model="mean"))
    assert best is not None
    assert stacked is not None
    assert len(outcome_lines(read_json(run.results))) == 3  # two members and a meta-learner


def test_several_test_parts_are_opened_once_each(twice: RunDir) -> None:
    scores = read_json(twice.scores)
    (further,) = scores["further"]
    assert (scores["part"], scores["clips"], scores["openings"]) == ("dev", 16, 1)
    assert (further["part"], further["clips"], further["openings"]) == ("eval", 12, 1)
    opened = [line["part"] for line in read_lines(twice.ledger) if line["run"] == "twice"]
    assert opened == ["dev", "eval"]
    said = Predictions.load(twice.stack("mean") / "test.npz")
    assert said.clip_scores is not None
    best = said.clip_scores.argmax(axis=1)
    for part, found in (("dev", scores), ("eval", further)):
        truth = labels_of(part, found["clips"], "class").values
        rows = [row for row, i in enumerate(said.clip_ids) if i.startswith(part)]
        expected = accuracy_score(
            [truth[said.clip_ids[row]] for row in rows], [("low", "high")[best[r]] for r in rows]
        )
        (row,) = [row for row in found["rows"] if row["learner"] == "mean"]
        assert row["metrics"]["accuracy"]["value"] == pytest.approx(expected)
    lines = outcome_lines(read_json(twice.results))
    assert [line.split()[0] for line in lines] == ["test"] * 4 + ["eval"] * 4  # the trivial row too
    parent = read_views(twice, driving=False)[0]
    (best_row,) = [row for row in further["rows"] if row["best"]]
    assert parent.metrics["test_eval/uar"] == best_row["metrics"]["uar"]["value"]
    assert {row["part"] for row in compare(twice, twice)["rows"]} == {"validation", "test", "eval"}


def test_subsets_are_scored_by_every_metric(twice: RunDir) -> None:
    scores = read_json(twice.scores)
    said = Predictions.load(twice.stack("mean") / "test.npz")
    (row,) = [row for row in scores["rows"] if row["learner"] == "mean"]
    assert list(row["subsets"]) == ["device=b", "device=b+c", "usage=Public"]
    assert row["subsets"]["device=b+c"]["name"] == "device b+c"
    assert subset_key({"usage": ("Public",), "device": ("c", "b")}) == "device=b+c,usage=Public"
    truth = labels_of("dev", 16, "class")
    device = {f"dev_{n:02d}": "aabc"[n // 2 % 4] for n in range(16)}
    inside = {
        "device=b": [i for i in device if device[i] == "b"],
        "device=b+c": [i for i in device if device[i] in "bc"],
        "usage=Public": [i for i in device if truth.columns[i]["usage"] == "Public"],
    }
    assert said.clip_scores is not None
    place = {i: n for n, i in enumerate(said.clip_ids)}
    for key, ids in inside.items():
        found = row["subsets"][key]
        assert found["clips"] == len(ids)
        true = [truth.values[i] for i in ids]
        guess = [("low", "high")[said.clip_scores[place[i]].argmax()] for i in ids]
        assert found["metrics"]["accuracy"]["value"] == pytest.approx(accuracy_score(true, guess))
        uar = found["metrics"]["uar"]
        assert uar["value"] == pytest.approx(balanced_accuracy_score(true, guess))
        assert uar["low"] <= uar["value"] <= uar["high"]
    page = Page((twice.report / "index.html").read_text())
    assert "device b+c (8 clips)" in page.text
    with open(twice.report / "subsets.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {one["subset"] for one in table} == set(inside)
    parent = read_views(twice, driving=False)[0]
    (best,) = [one for one in scores["rows"] if one["best"]]
    names = [name for name in parent.metrics if name.startswith("test/uar/") and "Public" in name]
    assert (
        parent.metrics["test/uar/usage_x3d_Public"]
        == (best["subsets"]["usage=Public"]["metrics"]["uar"]["value"])
    )
    assert len(names) == 3  # with its interval
