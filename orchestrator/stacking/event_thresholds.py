"""Genetic per-class event thresholds (DEAP) on the mean of the members' frame scores.

They need events with times in the rows that they are fitted on; tags say nothing about a frame.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from orchestrator.members import OutOfFold
from orchestrator.plan import Plan
from orchestrator.rundir import RunDir
from orchestrator.stacking.base import Judged, keep_learner
from orchestrator.stacking.evolution import Evolution, evolve
from systems.data.dataset import Dataset, Event
from systems.data.splits import cross_fitting_folds
from systems.metrics.events import event_counts, event_f1_of_counts
from systems.postprocessing.decoding import Decoding, decode, mean_frames
from systems.predictions import Predictions

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


@dataclass(frozen=True)
class Frames:
    """The mean of the members' frame scores [T, K] of some clips, and the clips' lengths in s."""

    clip_ids: tuple[str, ...]
    scores: tuple[np.ndarray, ...]
    hop: float
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, members: Sequence[Predictions], seconds: Sequence[float]) -> Frames:
        """The members' predictions of the same clips, in the same order."""
        hops = [member.frame_hop for member in members]
        rows = zip(*(member.frame_scores or () for member in members), strict=True)
        means = [mean_frames(row, hops)[0] for row in rows]
        return cls(members[0].clip_ids, tuple(means), min(hops), tuple(seconds))

    def events(
        self, thresholds: Sequence[float], classes: Sequence[str]
    ) -> tuple[tuple[Event, ...], ...]:
        """Runs of frames above each class's threshold."""
        return tuple(
            decode(scores, _decoding(thresholds), classes, self.hop, seconds)
            for scores, seconds in zip(self.scores, self.seconds, strict=True)
        )


def _decoding(thresholds: Sequence[float]) -> Decoding:
    return Decoding(tuple(thresholds), (1,) * len(thresholds))


class GeneticEventThresholds:
    """One threshold a class on the frames, evolved to the largest macro event-based F1.

    Thresholds are searched on the levels 0.05, 0.10, ..., 0.95, whose event counts are taken once.
    Source: the product's own; event-based F1 as in the DCASE 2018 task 4 evaluation.
    """

    name: ClassVar[str] = "genetic_events"
    title: ClassVar[str] = "genetic per-class event thresholds on the mean frames"
    takes: ClassVar[tuple[str, ...]] = ("frame_scores",)

    def __init__(self, evolution: Evolution | None = None) -> None:
        self.evolution = evolution or Evolution(generations=60)
        self.thresholds: tuple[float, ...] = ()

    def fit_counts(self, counts: np.ndarray, seed: int) -> None:
        """Fit on the event counts [L, N, K, 3] that each level gives."""
        summed = counts.sum(axis=1)
        classes = np.arange(summed.shape[1])

        def fitness(individual: list[float]) -> tuple[float]:
            return (event_f1_of_counts(summed[nearest_levels(individual), classes][None]),)

        found = evolve(fitness, len(classes), self.evolution, seed)
        self.thresholds = tuple(LEVELS[level] for level in nearest_levels(found))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Clip scores [N, K]: the members' mean, which the thresholds leave alone."""
        mean: np.ndarray = scores.mean(axis=1)
        return mean

    def decode(
        self, frame_scores: np.ndarray, hop: float, duration: float, classes: Sequence[str]
    ) -> tuple[Event, ...]:
        """Events of one clip from the members' mean frame scores [T, K]."""
        return decode(frame_scores, _decoding(self.thresholds), classes, hop, duration)

    def weights(self) -> None:
        """None: every member counts the same."""
        return None

    def state(self) -> dict[str, Any]:
        return {"thresholds": list(self.thresholds)}

    def load(self, state: dict[str, Any]) -> None:
        self.thresholds = tuple(state["thresholds"])

    def parameters(self) -> dict[str, Any]:
        return asdict(self.evolution)


def nearest_levels(thresholds: Sequence[float]) -> np.ndarray:
    """Index of the level that is nearest to each threshold."""
    distances = np.abs(np.array(thresholds)[:, None] - np.array(LEVELS))
    nearest: np.ndarray = distances.argmin(axis=1)
    return nearest


def fit_event_thresholds(run: RunDir, plan: Plan, dataset: Dataset, rows: OutOfFold) -> None:
    """Cross-fit over groups, score, fit on all rows, and write as the other learners are written.

    The frame scores are those of each fold's best epoch, which the same rows chose by their clip
    scores.
    """
    began = time.monotonic()
    members = [_out_of_fold(run, plan, number) for number in rows.members]
    seconds = {clip.clip_id: clip.duration for clip in dataset.clips}
    frames = Frames.of(members, [seconds[i] for i in members[0].clip_ids])
    reference = _reference(dataset, frames.clip_ids)
    counts = np.stack([
        _counts(reference, frames.clip_ids, frames.events((level,) * len(plan.classes),
                                                          plan.classes), plan.classes)
        for level in LEVELS
    ])  # fmt: skip
    crossed = np.zeros_like(counts[0])
    events: list[tuple[Event, ...]] = [()] * len(frames.clip_ids)
    fold_of = cross_fitting_folds(rows.targets, rows.groups, plan.seed)
    for fold in np.unique(fold_of):
        inside = np.flatnonzero(fold_of == fold)
        fitted = GeneticEventThresholds()
        fitted.fit_counts(counts[:, fold_of != fold], plan.seed)
        chosen = nearest_levels(fitted.thresholds)
        crossed[inside] = counts[chosen[None], inside[:, None], np.arange(len(chosen))]
        decided = frames.events(fitted.thresholds, plan.classes)
        for row in inside:
            events[row] = decided[row]
    final = GeneticEventThresholds()
    final.fit_counts(counts, plan.seed)
    best = _counts(reference, frames.clip_ids, members[0].events or (), plan.classes)
    predictions = Predictions.of(
        frames.clip_ids, plan.classes, clip_scores=final.predict(rows.scores), events=tuple(events)
    )
    judged = Judged("event_f1", event_f1_of_counts, crossed, best)
    keep_learner(run, plan, rows, final, predictions, judged, began)


def _out_of_fold(run: RunDir, plan: Plan, number: int) -> Predictions:
    folds = range(len(plan.splits["folds"]))
    return Predictions.concatenate(
        [Predictions.load(run.trial(number).predictions(fold)) for fold in folds]
    )


def _reference(dataset: Dataset, clip_ids: Sequence[str]) -> dict[str, tuple[Event, ...]]:
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    return {i: dataset.labels[part_of[i]].values[i] for i in clip_ids}


def _counts(
    reference: dict[str, tuple[Event, ...]],
    clip_ids: Sequence[str],
    events: Sequence[tuple[Event, ...]],
    classes: Sequence[str],
) -> np.ndarray:
    return event_counts(reference, dict(zip(clip_ids, events, strict=True)), classes)
