"""The kinds of labels: truth, decisions, what they contain, and the metrics that fit them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.members.choose import note
from orchestrator.members.rows import Member, OutOfFold, validation_targets
from orchestrator.members.seen import Members, Targets
from orchestrator.runs.counts import load_counts
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.training.crossed import crossed_scores
from systems import data
from systems.data.dataset import Event, Labels
from systems.data.splits import make_splits, training_data
from systems.errors import UserError
from systems.kinds import KINDS, contained, kind
from systems.metrics import (
    METRICS,
    clip_interval,
    clip_metric,
    metric,
    named,
    scored_by,
    searchable,
    words_of,
)
from systems.predictions import Predictions
from systems.training.history import History

IDS, CLASSES = ("x", "y"), ("a", "b", "c")


def truth_of(name: str, *values: Any, classes: tuple[str, ...] = CLASSES) -> Any:
    labels = Labels(name, dict(zip(IDS, values, strict=True)))  # type: ignore[arg-type]
    return kind(name).truth(labels, IDS, classes)


def test_labels_become_what_is_true() -> None:
    assert truth_of("tags", ("a", "c"), ()).values.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert truth_of("class", "b", "a").values.tolist() == [[0, 1, 0], [1, 0, 0]]
    events = truth_of("events", [Event(0, 1, "b"), Event(2, 3, "b")], [])
    assert events.values.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert events.events == ((Event(0, 1, "b"), Event(2, 3, "b")), ())
    assert truth_of("values", 0.5, 2).values.tolist() == [[0.5], [2.0]]
    assert truth_of("values", (1, 2), (3, 4)).values.tolist() == [[1, 2], [3, 4]]
    assert truth_of("relevance", ("c",), ("a", "b")).values.tolist() == [[0, 0, 1], [1, 1, 0]]
    with pytest.raises(UserError, match="labels of kind 'withheld' cannot be scored"):
        kind("withheld")


def test_each_kind_decides_in_its_way() -> None:
    scores = np.array([[0.5, 0.51, 0.6], [0.4, 0.1, 0.4]])
    for name in ("tags", "events"):
        decide = kind(name).decide
        assert decide is not None
        assert decide(scores).tolist() == [[False, True, True], [False, False, False]]
    decide = kind("class").decide
    assert decide is not None
    assert decide(scores).tolist() == [[False, False, True], [True, False, False]]
    assert kind("values").decide is None


def test_a_kind_contains_others_and_their_metrics_fit() -> None:
    assert contained("events") == ("events", "tags")
    assert contained("class") == ("class", "tags")
    assert contained("withheld") == ("withheld",)
    assert metric("clip_macro_f1").fits("class")
    assert not metric("uar").fits("tags")
    of_clips = ("clip_macro_f1", "clip_micro_f1", "clip_map", "clip_auc")
    of_time = ("event_f1", "event_er", "event_micro_f1", "segment_f1")
    assert searchable("events", ["clip_scores"]) == of_clips
    assert searchable("events", ["clip_scores", "frame_scores"]) == (*of_clips, *of_time)
    assert searchable("tags", ["clip_scores", "frame_scores"]) == of_clips
    assert scored_by("events", "event_micro_f1")[0].name == "event_micro_f1"
    assert "uar" not in [m.name for m in scored_by("tags", "uar")]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_searched_and_scored(name: str) -> None:
    about = kind(name)
    assert all(metric(m).fits(about.name) for m in about.metrics)
    assert about.metrics[0] in searchable(about.name, about.answers)


def test_every_metric_says_what_it_is() -> None:
    for one in METRICS.values():
        assert one.words
        assert one.text
        assert one.mode in ("max", "min")
        assert (one.by_class is None) == (one.class_name == "") == (one.class_words == "")
        assert any(one.fits(about.name) for about in KINDS.values())
    assert [m.name for m in named("accuracy")] == ["accuracy", "uar"]
    assert named("word_error_rate") == ()
    names = ("event_er", "recall", "word_error_rate")
    assert [words_of(name) for name in names] == [
        "event-based error rate", "recall", "word error rate"]  # fmt: skip


def test_f1_of_a_class_is_of_the_largest_score() -> None:
    """As scikit-learn has the F1 of several classes; of tags the threshold decides."""
    from sklearn.metrics import f1_score

    r = np.random.default_rng(0)
    y, scores = r.integers(4, size=50), r.dirichlet(np.ones(4), size=50)
    one_hot = np.eye(4)[y]
    by_largest = f1_score(y, scores.argmax(axis=1), average="macro")
    by_threshold = f1_score(one_hot, scores > 0.5, average="macro")
    assert by_largest != pytest.approx(by_threshold)
    assert clip_metric("clip_macro_f1", "class")(one_hot, scores) == pytest.approx(by_largest)
    assert clip_metric("clip_macro_f1", "tags")(one_hot, scores) == pytest.approx(by_threshold)
    targets = Targets.of(one_hot, "class", "clip_macro_f1")
    assert targets.worth(scores) == pytest.approx(by_largest)


@pytest.mark.parametrize(("labels", "own"), [("class", "uar"), ("tags", "clip_map")])
def test_members_are_noted_by_every_metric_of_their_rows(
    labels: Any, own: str, tmp_path: Any
) -> None:
    """Only rows that count, and what the members' own epochs can be told by."""
    run, r = RunDir(tmp_path), np.random.default_rng(1)
    values = np.eye(3)[np.arange(30) % 3]
    scores = r.dirichlet(np.ones(3), size=(30, 2))
    weights = np.where(np.arange(30) < 25, 1.0, 0.0)
    system = SimpleNamespace(selects=None)
    run.plan = SimpleNamespace(
        metric=own, mode="max", classes=CLASSES, system="s", splits={"folds": [[0, 0]]},
        dataset="urbansound8k",
        trial_config=lambda params: None,
        entry=lambda: SimpleNamespace(build=lambda config: system),
    )  # fmt: skip
    for number in (0, 1):
        write_json(run.trial(number).config, {"params": {}})
        write_json(run.trial(number).result, {"value": 0.5})
        run.trial(number).append_metrics(0, 1, {own: 0.5})
    members = tuple(Member(run, number, number) for number in (0, 1))
    ids = tuple(f"clip{i}" for i in range(30))
    groups = tuple(f"g{i // 5}" for i in range(30))
    targets = Targets.of(values, labels, own, weights=weights, groups=groups)
    note(run, OutOfFold(members, Members(("0", "1"), ids, CLASSES, scores), targets, (1, 1)))
    counted, of, rows = load_counts(run.validation_counts)
    assert (counted, of) == (ids[:25], groups[:25])
    sizes = read_json(run.members)["judged"]
    assert (sizes["clips"], sizes["groups"]) == (25, 5)
    assert [row.key for row in rows] == ["best, out of fold", "trial 1, out of fold"]
    noted = read_json(run.members)["members"]
    for m, row in enumerate(rows):
        of_card = ("accuracy", "clip_auc")
        assert list(row.counts) == [one.name for one in scored_by(labels, own, of_card)]
        assert "clip_auc" in row.counts
        for name, counts in row.counts.items():
            expected = clip_metric(name, labels)(values[:25], scores[:25, m])
            assert metric(name).value(counts) == expected
        assert noted[m]["out_of_fold"]["value"] == metric(own).value(row.counts[own])
        assert noted[m]["out_of_fold"] == metric(own).interval(row.counts[own], of)._asdict()


def test_an_epoch_a_trial_and_stage_two_value_scores_of_classes_alike() -> None:
    """By the largest score, as scikit-learn has it; no score is above 0.5 here."""
    from sklearn.metrics import f1_score

    dataset = data.load("synthetic_classes", None)
    splits = make_splits(dataset, 0)
    seen = training_data(dataset, splits, 0, "clip_macro_f1")
    assert seen.validation is not None
    truth = seen.validation.targets
    assert truth is not None
    r = np.random.default_rng(0)
    noisy = truth + r.normal(size=truth.shape)
    scores = (0.4 * noisy / np.abs(noisy).max()).astype(np.float32)
    history = History()
    said = Predictions.of(seen.validation.clip_ids, seen.classes, clip_scores=scores)
    of_epoch = history.judge(1, said, seen)
    expected = f1_score(truth.argmax(axis=1), scores.argmax(axis=1), average="macro")
    assert of_epoch == pytest.approx(expected)
    _, targets = validation_targets(dataset, splits, "clip_macro_f1")
    assert targets.rows(targets.folds == 0).worth(scores) == of_epoch
    assert clip_interval("clip_macro_f1", truth, scores, None, seen.kind).value == of_epoch
    # And an epoch is chosen so: the second's largest scores are all right, none is above 0.5.
    right = (0.3 * truth + 0.1).astype(np.float32)
    rows = targets.rows(targets.folds == 0)
    halves = np.arange(len(truth)) % 2
    (chosen,) = crossed_scores(
        [np.stack([scores, right])], [2], 1,
        lambda _, said, clips: rows.rows(clips).worth(said[clips]), halves,
    )  # fmt: skip
    np.testing.assert_array_equal(chosen, right)
