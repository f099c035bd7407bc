"""A search by a metric of events, where the validation labels tell of time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakedata import events_of, labels_of, registered
from inprocess import run_in_process

from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import data
from systems.data.dataset import Event
from systems.data.splits import TrainingData, make_splits, training_data
from systems.errors import UserError
from systems.kinds import kind
from systems.metrics import metric
from systems.predictions import Predictions
from systems.training.history import History

PARTS = {"train": (24, "tags"), "validation": (12, "events"), "test": (8, "events")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        sets = registered(patch)
        for name in ("strong", "weak_er"):  # fakepaper.yaml names their metrics
            sets.add(name, PARTS, ("test",), about={"official_validation": "validation"})
        sets.add("strong_folds", {"train": (24, "events"), "test": (8, "events")}, ("test",))
        yield tmp_path_factory.mktemp("runs")


def options(root: Path, dataset: str, **more: Any) -> Options:
    about: Any = {"trials": 2, "top_k": 2, "stack": "mean,exact_events", "budget": "paper",
                  "final": "fold_mean", "name": dataset, "set": {"training.learning_rate": 0.03},
                  **more}  # fmt: skip
    return Options(system="fakepaper/small", dataset=dataset, storage=str(root), **about)


def check(run: RunDir, name: str) -> None:
    """Values of trials and members are the metric of the events that lie in their files."""
    about, plan = metric(name), run.plan
    assert (plan.metric, plan.mode) == (name, about.mode)
    labels = labels_of("validation", 12, "events")
    for member in read_json(run.members)["members"]:
        trial = run.trial(member["trial"])
        said, crossed = (
            Predictions.load(path) for path in (trial.predictions(0), trial.crossed(0))
        )
        truth = kind("events").truth(labels, said.clip_ids, plan.classes)
        value = about.value(about.count(truth, said.events))
        honest = about.value(about.count(truth, crossed.events))
        result = read_json(trial.result)
        assert result["value"] == pytest.approx(honest)  # by an epoch that other clips chose
        assert result["interval"][0] <= honest <= result["interval"][1]
        curve = [line[name] for line in trial.read_metrics() if line["fold"] == 0]
        assert len(set(curve)) > 1
        best = max(curve) if about.mode == "max" else min(curve)
        assert value == pytest.approx(best)
        assert result["best_steps"] == [1 + curve.index(best)]
        assert member["out_of_fold"]["value"] == pytest.approx(honest)
    values = [read_json(run.trial(m["trial"]).result)["value"]
              for m in read_json(run.members)["members"]]  # fmt: skip
    assert values == sorted(values, reverse=about.mode == "max")


@pytest.mark.parametrize(("dataset", "name"), [("strong", "event_f1"), ("weak_er", "event_er")])
def test_a_search_follows_events_from_epochs_to_members(
    dataset: str, name: str, root: Path
) -> None:
    run = run_in_process(options(root, dataset, set={"training.learning_rate": 0.03}))
    check(run, name)
    stack = {row["name"]: row for row in read_json(run.results)["stack"]}
    assert stack["mean"]["metric"] == "clip_macro_f1"  # fused scores have no times of their own
    assert stack["exact_events"]["metric"] == "event_f1"
    rows = read_json(run.scores)["rows"]
    assert all(name in row["metrics"] for row in rows)
    assert (run.report / "index.html").exists()


def made(labels: str, name: str) -> TrainingData:
    dataset = data.load(labels, None)
    return training_data(dataset, make_splits(dataset, 0), 0, name)


def test_an_epoch_is_judged_by_its_events(root: Path) -> None:
    seen = made("strong", "event_f1")
    assert seen.validation is not None
    ids = seen.validation.clip_ids
    assert seen.validation.events == tuple(map(events_of, ids))
    scores = np.full((12, 2), 0.5, np.float32)
    frames = tuple(np.zeros((4, 2), np.float32) for _ in ids)

    def said(right: int) -> Predictions:
        wrong = (Event(0.0, 0.05, "low"),)
        events = tuple(events_of(i) if n < right else wrong for n, i in enumerate(ids))
        return Predictions.of(ids, seen.classes, clip_scores=scores, frame_scores=frames,
                              frame_hop=0.25, events=events)  # fmt: skip

    history = History()
    values = [history.judge(epoch, said(right), seen) for epoch, right in ((1, 6), (2, 12), (3, 3))]
    assert values[1] == 1.0
    assert values[1] > values[0] > values[2]
    assert history.crossed_step == 2
    mute = Predictions.of(ids, seen.classes, clip_scores=scores)
    with pytest.raises(UserError, match="event_f1 reads events"):
        history.judge(4, mute, seen)
    fewer = History()
    by_errors = made("strong", "event_er")
    errors = [fewer.judge(epoch, said(right), by_errors) for epoch, right in ((1, 12), (2, 0))]
    assert errors[0] == 0.0 < errors[1]
    assert fewer.crossed_step == 1


def test_what_is_asked_for_judges_and_what_gives_no_frames_cannot_be_judged_by_events(
    root: Path,
) -> None:
    asked = options(root, "strong_folds", stack="none", set={}, metric="event_er")
    plan: Plan = make_plan(asked)[0]
    assert (plan.metric, plan.mode) == ("event_er", "min")
    tagger = Options(
        system="fakepaper/tagger", dataset="strong_folds", storage=str(root), metric="event_f1"
    )
    with pytest.raises(UserError, match="reads events, and fakepaper/tagger gives clip_scores"):
        make_plan(tagger)
