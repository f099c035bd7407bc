"""One name is one decision: in the search, out of fold, in stage two and on the test part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakedata import PITCH, events_of, registered
from inprocess import run_in_process
from sklearn.metrics import f1_score

from orchestrator.models.answers import FilePrediction
from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import data
from systems.kinds import KINDS
from systems.predictions import Predictions

PARTS = {
    "timed": {"train": (40, "events"), "test": (16, "class")},
    "named": {"train": (40, "class"), "test": (16, "events")},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        sets = registered(patch)
        for name, parts in PARTS.items():
            sets.add(name, parts, ("test",))
        sets.add("single", {"train": (40, "class"), "test": (16, "class")}, ("test",),
                 METRICS=("clip_macro_f1",))  # fmt: skip
        yield tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", PARTS)
def test_classes_beside_events_are_tags(name: str, root: Path) -> None:
    dataset = data.load(name, None)
    decides = {part: KINDS[dataset.label_kind(part)].decide for part in ("train", "test")}
    assert len(set(decides.values())) == 1
    opened = dataset.open_sealed("test", lambda: None)
    assert opened.kind == dataset.label_kind("test")
    assert opened.tag_matrix(list(opened.values), dataset.classes).sum() == 16


def macro_f1(path: Path, tags: bool) -> float:
    said = Predictions.load(path)
    assert said.clip_scores is not None
    truth = np.array([[e.label == c for c in said.classes for e in events_of(i)]
                      for i in said.clip_ids])  # fmt: skip
    best = np.eye(len(PITCH))[said.clip_scores.argmax(axis=1)] > 0
    found = said.clip_scores > 0.5 if tags else best
    return float(f1_score(truth, found, average="macro", zero_division=0))


@pytest.mark.parametrize(("name", "tags"), [("timed", True), ("single", False)])
def test_out_of_fold_and_test_part_decide_alike(name: str, tags: bool, root: Path) -> None:
    run: RunDir = run_in_process(
        Options(
            system="fakepaper/tagger",
            dataset=name,
            storage=str(root),
            name=name,
            trials=2,
            top_k=2,
            stack="mean,vote",
            budget="paper",
            final="fold_mean",
            set={"training.learning_rate": 0.02},
        )
    )
    results = read_json(run.results)
    for row in results["stack"]:
        folder = run.stack(row["name"])
        assert row["out_of_fold"]["value"] == pytest.approx(
            macro_f1(folder / "out_of_fold.npz", tags)
        )
        tested = next(r for r in results["test"]["rows"] if r["learner"] == row["name"])
        assert tested["metrics"]["clip_macro_f1"]["value"] == pytest.approx(
            macro_f1(folder / "test.npz", tags)
        )
    best = next(row for row in results["test"]["rows"] if row["best"])
    path = next((run.trial(best["trial"]).refit / "predictions").glob("test_fold_mean*.npz"))
    assert best["metrics"]["clip_macro_f1"]["value"] == pytest.approx(macro_f1(path, tags))


def test_a_file_is_decided_as_its_labels_are() -> None:
    scores = {"a": 0.2, "b": 0.4, "c": 0.3}
    assert FilePrediction("x", 1.0, scores, None, exclusive=True).present() == ("b",)
    assert FilePrediction("x", 1.0, scores, None).present() == ()
    assert FilePrediction("x", 1.0, {}, None, exclusive=True).present() == ()
