"""Meta-learners of timed events against outside judges: sed_eval, brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import stacked
from stacked import fitted

from orchestrator.stacking.learners.event_thresholds import Curves, GeneticJoint, Joint, worth_of
from systems.data.dataset import Event
from systems.metrics.curves import Frames, event_curve
from systems.metrics.events import event_counts
from systems.metrics.segments import segment_counts, segment_scores, segment_targets
from systems.metrics.tagging import tag_counts
from systems.postprocessing.decoding import Decoding, decode


def random_clips(r: np.random.Generator) -> tuple[list[np.ndarray], list[Any], float]:
    frames = int(r.integers(5, 50))
    digits = int(r.choice([1, 2, 6]))
    scores = [np.convolve(r.random(frames), np.ones(3) / 3, "same").round(digits) for _ in range(3)]
    length = frames * 0.05 - float(r.choice([0, 0.02]))
    events = [[(a, a + b) for a, b in zip(r.random(n) * length, r.random(n) + 0.01, strict=True)]
              for n in r.integers(0, 4, 3)]  # fmt: skip
    return scores, events, length


def test_event_curves_are_sed_evals_counts_at_every_threshold() -> None:
    r = np.random.default_rng(0)
    for _ in range(60):
        scores, events, length = random_clips(r)
        gap, shortest = float(r.choice([0, 0.1, 0.2])), float(r.choice([0, 0.1, 0.3]))
        curve = event_curve(Frames.of(scores, 0.05, [length] * 3, events), gap, shortest)
        truth = {str(n): tuple(Event(*t, "a") for t in events[n]) for n in range(3)}
        for threshold in (0.0, 0.3, *r.random(2)):
            decoding = Decoding((threshold,), (1,), (gap,), (shortest,))
            found = {str(n): decode(scores[n][:, None], decoding, ("a",), 0.05, length)
                     for n in range(3)}  # fmt: skip
            expected = event_counts(truth, found, ("a",)).sum(axis=0)[0]
            assert curve.at(threshold) == tuple(expected)


def test_event_curves_are_those_of_sed_scores_eval() -> None:
    collar = pytest.importorskip("sed_scores_eval.collar_based")
    frame = pytest.importorskip("sed_scores_eval.base_modules.scores").create_score_dataframe
    members, targets = stacked.timed(0, clips=12, members=1)
    assert members.frames is not None
    assert targets.events is not None
    times = np.round(np.arange(101) * 0.1, 6)
    scores = {i: frame(f, times, list(members.classes))
              for i, f in zip(members.clip_ids, members.frames[0], strict=True)}  # fmt: skip
    truth = {i: [tuple(e) for e in clip]
             for i, clip in zip(members.clip_ids, targets.events, strict=True)}  # fmt: skip
    best = collar.best_fscore(
        scores, truth, onset_collar=0.2, offset_collar=0.2, offset_collar_rate=0.2
    )[0]
    curves = Curves(members, targets, [(1, 0.0, 0.0)])
    for k, name in enumerate(members.classes):
        assert curves.of(k, 0).best()[1] == pytest.approx(best[name], abs=1e-9)


def test_exact_event_thresholds_are_the_exhaustive_optimum() -> None:
    members, targets = stacked.timed(1, clips=6, seconds=4.0, members=1, level=0.2)
    found = fitted("exact_events", (members, targets), medians=(1, 3), gaps=(0.0, 0.3))
    assert members.frames is not None
    assert targets.events is not None
    truth = dict(zip(members.clip_ids, targets.events, strict=True))
    pooled = np.concatenate(members.frames[0])
    for k, name in enumerate(members.classes):
        best = 0.0
        levels = np.unique(pooled[:, k].round(9))
        for threshold, median, gap in itertools.product(levels[::4], (1, 3), (0.0, 0.3)):
            best = max(best, f1_of(members, truth, k, threshold, median, gap))
        d = found.decoding
        reached = f1_of(members, truth, k, d.thresholds[k], d.medians[k], d.gaps[k])
        assert reached >= best - 1e-12, name


def test_the_front_holds_the_best_threshold_of_every_measure_that_wants_hits() -> None:
    r = np.random.default_rng(2)
    for _ in range(20):
        scores, events, length = random_clips(r)
        curve = event_curve(Frames.of(scores, 0.05, [length] * 3, events))
        front = curve.front()
        for weight in (0.1, 0.5, 1.0, 3.0):
            every = max([0.0, *(curve.hits - weight * (curve.found - curve.hits))])
            assert (front.counts[:, 0] - weight * front.counts[:, 1]).max() == pytest.approx(every)
        for threshold, counts in zip(front.thresholds, front.counts, strict=True):
            assert curve.at(threshold) == tuple(counts)


def f1_of(members: Any, truth: Any, k: int, threshold: float, median: int, gap: float) -> float:
    name = members.classes[k]
    decoding = Decoding((threshold,), (median,), (gap,))
    events = {
        i: decode(f[:, [k]], decoding, (name,), members.frame_hops[0], s)
        for i, f, s in zip(members.clip_ids, members.frames[0], members.durations, strict=True)
    }
    own = {i: tuple(e for e in clip if e.label == name) for i, clip in truth.items()}
    tp, fp, fn = event_counts(own, events, (name,)).sum(axis=(0, 1))
    return float(2 * tp / max(1, 2 * tp + fp + fn))


@pytest.mark.parametrize("objective", ["event_f1", "event_micro_f1", "event_er"])
def test_the_joint_search_is_never_worse_than_where_it_begins(objective: Any) -> None:
    members, targets = stacked.timed(2, flicker=0.05, level=0.4, clips=15)
    settings = GeneticJoint(objective=objective)
    joint = Joint(Curves(members, targets, settings.options()), objective)
    found = fitted("genetic_events", (members, targets), objective=objective)
    assert targets.events is not None
    truth = dict(zip(members.clip_ids, targets.events, strict=True))
    events = dict(zip(members.clip_ids, found.events(members), strict=True))
    reached = worth_of(event_counts(truth, events, members.classes), objective)
    assert reached >= joint.worth(joint.first) - 1e-12


def test_segments_are_sed_evals() -> None:
    r = np.random.default_rng(1)
    for _ in range(20):
        length = float(r.choice([3.0, 3.7]))
        frames = r.random((round(length / 0.1), 2)).round(2)
        events = tuple(sorted(Event(a, min(a + b, length), "ab"[int(k)]) for a, b, k in
                              zip(r.random(3) * 3, r.random(3) + 0.05, r.integers(0, 2, 3),
                                  strict=True)))  # fmt: skip
        decided = decode(frames, Decoding((0.8, 0.8), (1, 1)), ("a", "b"), 0.1, length)
        counts = segment_counts({"x": events}, {"x": decided}, ("a", "b"))[0]
        ours = tag_counts(segment_targets(events, length, ("a", "b")),
                          (segment_scores(frames, 0.1, length) > 0.8).astype(float))  # fmt: skip
        assert ours.sum(axis=0).tolist() == counts.tolist()
