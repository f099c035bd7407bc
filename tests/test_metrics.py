"""Metrics against the field's own implementations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import sed_eval.sound_event
from sklearn.metrics import f1_score

from systems.data.dataset import Event
from systems.errors import UserError
from systems.metrics import clip_metric, metric
from systems.metrics.events import event_counts, event_er_of_counts
from systems.metrics.intervals import bootstrap, paired_bootstrap
from systems.metrics.tagging import class_f1, f1_of_counts, macro_f1, macro_f1_of_counts, tag_counts

CLASSES = ("cat", "dog", "bell", "never_there", "never_found")
Annotation = Mapping[str, Sequence[Event]]


@pytest.mark.parametrize("seed", range(4))
def test_macro_f1_equals_sklearn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = (generator.random((40, 6)) < 0.3).astype(np.float32)
    scores = generator.random((40, 6)).astype(np.float32)
    targets[:, 4] = scores[:, 4] = 0  # neither there nor predicted
    scores[:, 5] = 0.5  # equal to the threshold: negative
    there = [0, 1, 2, 3, 5]
    by_class = f1_score(targets, scores > 0.5, labels=there, average=None, zero_division=0)
    np.testing.assert_allclose(class_f1(targets, scores)[there], by_class)
    assert np.isnan(class_f1(targets, scores)[4])
    assert macro_f1(targets, scores) == pytest.approx(by_class.mean())
    assert clip_metric("clip_macro_f1")(targets, scores) == macro_f1(targets, scores)
    assert macro_f1_of_counts(tag_counts(targets, scores > 0.5)) == macro_f1(targets, scores)


def _random_events(seed: int) -> tuple[dict[str, list[Event]], dict[str, list[Event]]]:
    """Reference and estimate of 12 clips; some estimates are the reference, slightly moved."""
    generator = np.random.default_rng(seed)
    reference: dict[str, list[Event]] = {}
    estimated: dict[str, list[Event]] = {}
    for clip in map("clip{}".format, range(12)):
        reference[clip], estimated[clip] = [], []
        for _ in range(generator.integers(4)):
            onset, length = generator.uniform(0, 6), generator.uniform(0.2, 4)
            label = str(generator.choice(["cat", "dog", "bell", "never_found"]))
            reference[clip].append(Event(onset, onset + length, label))
            if label != "never_found" and generator.random() < 0.7:
                moved = onset + generator.normal(0, 0.15), onset + length + generator.normal(0, 0.4)
                estimated[clip].append(Event(max(0, moved[0]), max(moved), label))
        if generator.random() < 0.4:
            onset = generator.uniform(0, 9)
            label = str(generator.choice(["cat", "dog", "never_there"]))
            estimated[clip].append(Event(onset, onset + 1, label))
    reference["silent"], estimated["silent"] = [], []
    reference["missed"], estimated["missed"] = [Event(1, 2, "never_found")], []
    reference["invented"], estimated["invented"] = [], [Event(1, 2, "never_there")]
    return reference, estimated


def _sed_eval(
    reference: Annotation, estimated: Annotation
) -> sed_eval.sound_event.EventBasedMetrics:
    """All clips into one judge, with the challenge's settings and its classes: the reference's."""
    judge = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=sorted({e.label for events in reference.values() for e in events}),
        t_collar=0.2,
        percentage_of_length=0.2,
        empty_system_output_handling="zero_score",
    )
    for clip, events in reference.items():
        lists = [
            [
                {"filename": clip, "onset": e.onset, "offset": e.offset, "event_label": e.label}
                for e in chosen
            ]
            for chosen in (events, estimated[clip])
        ]
        judge.evaluate(*lists)
    return judge


@pytest.mark.parametrize("seed", range(4))
def test_event_metrics_equal_sed_eval(seed: int) -> None:
    reference, estimated = _random_events(seed)
    counts = event_counts(reference, estimated, CLASSES)
    judge = _sed_eval(reference, estimated)
    average = judge.results_class_wise_average_metrics()
    f1, er = average["f_measure"]["f_measure"], average["error_rate"]["error_rate"]
    assert 0.1 < f1 < 0.9  # the random lists are no corner case
    assert macro_f1_of_counts(counts) == pytest.approx(f1, abs=1e-9)
    assert event_er_of_counts(counts) == pytest.approx(er, abs=1e-9)
    tp, fp, fn = counts.sum(0).T
    by_class = judge.results_class_wise_metrics()
    assert set(CLASSES) - set(by_class) == {"never_there"}
    for name, class_wise in by_class.items():
        k = CLASSES.index(name)
        expected = class_wise["f_measure"]["f_measure"]
        assert f1_of_counts(counts.sum(0))[k] == pytest.approx(expected, abs=1e-9)
        error_rate = (fp[k] + fn[k]) / (tp[k] + fn[k])
        assert error_rate == pytest.approx(class_wise["error_rate"]["error_rate"], abs=1e-9)


def test_event_counts_by_hand() -> None:
    reference = {
        "a": [Event(1.0, 2.0, "cat"), Event(5.0, 9.0, "dog")],
        "b": [Event(0.0, 1.0, "cat")],
    }
    estimated = {
        "a": [Event(1.15, 2.15, "cat"), Event(5.0, 9.7, "dog")],  # 20 % of 4 s is 0.8 s
        "b": [Event(0.25, 1.0, "cat")],  # the onset is 250 ms late
    }
    counts = event_counts(reference, estimated, ("cat", "dog"))
    assert counts.tolist() == [[[1, 0, 0], [1, 0, 0]], [[0, 1, 1], [0, 0, 0]]]
    assert macro_f1_of_counts(counts) == pytest.approx((0.5 + 1.0) / 2)
    assert event_er_of_counts(counts) == pytest.approx((2 / 2 + 0) / 2)


def test_nothing_anywhere_is_zero() -> None:
    counts = event_counts({"a": []}, {"a": []}, CLASSES)
    assert not counts.any()
    assert macro_f1_of_counts(counts) == event_er_of_counts(counts) == 0.0


def _counts(seed: int, correct: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    targets = generator.random((80, 4)) < 0.4
    return tag_counts(targets, np.where(generator.random((80, 4)) < correct, targets, ~targets))


def test_bootstrap_contains_the_value_and_is_deterministic() -> None:
    counts = _counts(0, correct=0.8)
    interval = bootstrap(counts, macro_f1_of_counts, draws=200)
    assert interval.low < interval.value < interval.high
    assert interval.value == macro_f1_of_counts(counts)
    assert interval == bootstrap(counts, macro_f1_of_counts, draws=200)
    narrow = bootstrap(np.tile(counts, (9, 1, 1)), macro_f1_of_counts, draws=200)
    assert narrow.high - narrow.low < 0.6 * (interval.high - interval.low)


def test_paired_bootstrap() -> None:
    good, bad = _counts(0, correct=0.9), _counts(0, correct=0.6)
    same = paired_bootstrap(good, good, macro_f1_of_counts, draws=200)
    assert same == (0.0, 0.0, 0.0, 1.0)
    better = paired_bootstrap(good, bad, macro_f1_of_counts, draws=200)
    assert better.value == macro_f1_of_counts(good) - macro_f1_of_counts(bad)
    assert 0 < better.low < better.value < better.high
    assert better.p_not_better == pytest.approx(1 / 201, abs=0.002)  # widened for 80 clips
    worse = paired_bootstrap(bad, good, macro_f1_of_counts, draws=200)
    assert worse.value == -better.value
    assert worse.p_not_better == 1.0


def test_unknown_metrics_name_the_nearest() -> None:
    assert metric("event_er").mode == "min"
    with pytest.raises(UserError, match="did you mean 'event_f1'"):
        metric("event_f11")
    with pytest.raises(UserError, match="unknown clip metric"):
        clip_metric("event_f1")
