"""The trivial row, what one reaches who hears nothing: it stands wherever figures stand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakedata import events_of, registered
from inprocess import run_in_process
from reported import Page
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score

from orchestrator.members.trivial import TrivialRows, best_constant
from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from orchestrator.tracking.views import read_views
from systems import data
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.splits import make_splits
from systems.kinds import Truth, kind
from systems.metrics import metric


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        sets = registered(patch)
        sets.add("named", {"train": (40, "class"), "test": (16, "class")}, ("test",))
        sets.add("timed", {"train": (40, "tags"), "test": (16, "events")}, ("test",))
        yield tmp_path_factory.mktemp("runs")


def labelled(kind_name: str, values: list[Any], classes: str) -> Dataset:
    ids = [f"clip{n}" for n in range(len(values))]
    clips = tuple(Clip(i, "train", "labelled", i, 1.0) for i in ids)
    labels = Labels(kind_name, dict(zip(ids, values, strict=True)))  # type: ignore[arg-type]
    return Dataset("made", "any", tuple(classes), clips, {"train": labels}, {}, {},
                   None, test_part=None)  # type: ignore[arg-type]  # fmt: skip


def test_of_classes_it_is_scikit_learns_dummy_fitted_fold_by_fold() -> None:
    r = np.random.default_rng(0)
    names = r.choice(list("abc"), 60, p=[0.5, 0.3, 0.2])
    dataset = labelled("class", names.tolist(), "abc")
    splits = make_splits(dataset, 0)
    said = TrivialRows(dataset, splits).out_of_fold("accuracy").said
    of = dataset.labels["train"].values
    for place, fold in enumerate(splits.folds):
        x = np.zeros((len(fold.train), 1))
        judge = DummyClassifier(strategy="prior").fit(x, [of[i] for i in fold.train])
        rows = said.rows(np.flatnonzero(np.isin(said.clip_ids, fold.validation)))
        expected = judge.predict_proba(np.zeros((len(fold.validation), 1)))
        np.testing.assert_allclose(rows.clip_scores, expected, err_msg=str(place))


def test_of_tags_it_is_the_best_constant_decision_by_the_metric() -> None:
    r = np.random.default_rng(1)
    there = r.random((80, 4)) < [0.9, 0.6, 0.05, 0.05]
    values = [tuple(np.array(list("abcd"))[row]) for row in there]
    dataset = labelled("tags", values, "abcd")
    ids, truth = tuple(dataset.labels["train"].values), there.astype(float)
    for name, average in (("clip_macro_f1", "macro"), ("clip_micro_f1", "micro")):
        every = [np.array([b >> k & 1 for k in range(4)]) for b in range(16)]
        best = max(f1_score(truth, np.tile(one, (80, 1)), average=average, zero_division=0)
                   for one in every)  # fmt: skip
        row = best_constant(dataset, ids, name).row
        assert row is not None
        found = f1_score(truth, np.tile(row > 0.5, (80, 1)), average=average, zero_division=0)
        assert found == pytest.approx(best)
    assert metric("clip_auc").worth(
        Truth("tags", truth, tuple("abcd")),
        best_constant(dataset, ids, "clip_auc").says(ids, 4),
    ) == pytest.approx(0.5)


def test_of_numbers_it_is_the_mean_of_what_trained() -> None:
    values = np.random.default_rng(2).normal(3, 2, size=(50, 2))
    dataset = labelled("values", [tuple(row) for row in values], "xy")
    splits = make_splits(dataset, 0)
    said = TrivialRows(dataset, splits).out_of_fold("rmse").said
    assert said.clip_values is not None
    place = {clip_id: row for row, clip_id in enumerate(dataset.labels["train"].values)}
    for fold in splits.folds:
        mean = values[[place[i] for i in fold.train]].mean(axis=0)
        rows = np.isin(said.clip_ids, fold.validation)
        np.testing.assert_allclose(said.clip_values[rows], np.tile(mean, (rows.sum(), 1)))


def test_a_random_ranking_depends_on_the_clip_alone() -> None:
    truth = Truth("relevance", np.eye(6), tuple("abcdef"))
    random = kind("relevance").constants(truth)[0]
    ids = [f"query{n}" for n in range(400)]
    rows = random.says(ids, 6)
    np.testing.assert_array_equal(random.says(ids[7:9], 6), rows[7:9])
    targets = np.eye(6)[np.arange(400) % 6]
    expected = np.mean([1 / rank for rank in range(1, 7)])  # of a uniform rank
    assert metric("mrr").worth(Truth("relevance", targets), rows) == pytest.approx(
        expected, abs=0.06
    )


def test_it_stands_in_every_table(root: Path) -> None:
    run = run_in_process(
        Options(
            system="fakepaper/classes", dataset="named", storage=str(root), name="named", trials=2,
            top_k=2, stack="mean,logreg_multinomial", budget="paper", final="fold_mean",
            set={"training.learning_rate": 0.02},
        )
    )  # fmt: skip
    results = read_json(run.results)
    trivial = results["trivial"]
    assert trivial["words"] == "the most frequent class"
    assert trivial["out_of_fold"] == trivial["searched"]  # all folds are searched
    row = next(row for row in results["test"]["rows"] if row["trivial"])
    truth = [events_of(f"test_{n:02d}")[0].label for n in range(16)]
    assert row["metrics"]["accuracy"]["value"] == accuracy_score(truth, ["high"] * 16)
    for learner in results["stack"]:
        gain = learner["out_of_fold"]["value"] - trivial["out_of_fold"]["value"]
        assert learner["versus_trivial"]["value"] == pytest.approx(gain)
    tables = {}
    for name in ("leaderboard", "stack", "test"):
        with open(run.report / f"{name}.csv", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert tables["leaderboard"][0]["trial"] == tables["stack"][0]["learner"] == "trivial"
    assert float(tables["stack"][0]["value"]) == trivial["out_of_fold"]["value"]
    assert tables["test"][0]["trivial"] == "True"
    assert float(tables["test"][0]["accuracy"]) == row["metrics"]["accuracy"]["value"]
    text = Page((run.report / "index.html").read_text()).text
    assert text.count("the most frequent class") >= 3
    shown = read_views(run, driving=False)[0].metrics
    assert shown["trivial/accuracy"] == trivial["searched"]["value"]
    assert shown["trivial/test/accuracy"] == row["metrics"]["accuracy"]["value"]


def test_of_events_it_is_whole_clips(root: Path) -> None:
    dataset = data.load("timed", None)
    rows = TrivialRows(dataset, make_splits(dataset, 0))
    ids = [clip.clip_id for clip in dataset.part("test")]
    labels = dataset.open_sealed("test", lambda: None)
    truth = kind("events").truth(labels, ids, dataset.classes)
    for name, value in (("segment_f1", 0.5), ("event_er", 1.0)):
        counts = metric(name).counts(truth, rows.of(name, ids).said)
        assert counts is not None
        found = metric(name).value(counts)
        assert found == pytest.approx(value) if name == "event_er" else found >= value
