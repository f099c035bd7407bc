"""How frames become events, class by class: threshold, median width, filled pauses, shortest event.

All on the mean of the members' frame scores. They need events with times in the rows that they are
fitted on; tags say nothing about a frame. For the macro F1 the classes separate and all thresholds
can be looked at (:mod:`systems.metrics.curves`); the micro F1 and the error rate couple them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.bounds import best_thresholds
from orchestrator.stacking.learners.evolution import Evolution, evolve
from systems.data.dataset import Event
from systems.metrics.events import event_er_of_counts
from systems.metrics.tagging import f1_of_counts, macro_f1_of_counts, micro_f1_of_counts
from systems.postprocessing.decoding import Decoding, decode

Objective = Literal["event_f1", "event_micro_f1", "event_er"]
Option = tuple[int, float, float]  # median width in frames, filled pause in s, shortest event in s


class FrameLearner(Learner):
    """A decoding of the members' mean frames; clip scores are the members' mean."""

    takes = ("frame_scores",)
    labels = ("events",)
    judged_by = "event_f1"
    betters_one = "thresholds"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.decoding = Decoding((), ())

    def predict(self, members: Members) -> np.ndarray:
        mean: np.ndarray = members.scores.mean(axis=1)
        return mean

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...]:
        frames, hop = members.mean_frames()
        return tuple(
            decode(scores, self.decoding, members.classes, hop, seconds, members.frame_start)
            for scores, seconds in zip(frames, members.durations, strict=True)
        )

    def state(self) -> dict[str, Any]:
        d = self.decoding
        return {
            "thresholds": list(d.thresholds), "medians": list(d.medians), "gaps": list(d.gaps),
            "minima": list(d.minima),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.decoding = Decoding(**{name: tuple(values) for name, values in state.items()})


@dataclass(frozen=True)
class Grid:
    """Tried beside all thresholds: odd ``medians`` in frames, ``gaps`` and ``minima`` in s."""

    medians: tuple[int, ...] = (1,)
    gaps: tuple[float, ...] = (0.0,)
    minima: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not (self.medians and self.gaps and self.minima):
            raise ValueError("medians, gaps and minima each need a value")
        if any(m < 1 or m % 2 == 0 for m in self.medians) or min(*self.gaps, *self.minima, 0) < 0:
            raise ValueError("medians are odd, gaps and minima at least 0")

    def options(self) -> list[Option]:
        """Every combination, the plainest first."""
        return list(itertools.product(self.medians, self.gaps, self.minima))


class Curves:
    """Event counts of every class at any threshold under any option; each curve is made once."""

    def __init__(self, members: Members, targets: Targets, options: Sequence[Option]) -> None:
        assert targets.events is not None
        self.frames, self.hop = members.mean_frames()
        self.start = members.frame_start
        self.durations, self.classes = members.durations, members.classes
        self.events, self.options = targets.events, options
        self._made: dict[tuple[int, int], Any] = {}
        self._fronts: dict[tuple[int, int], Any] = {}

    def of(self, k: int, option: int) -> Any:
        """The curve of a class under an option."""
        if (k, option) not in self._made:
            self._made[k, option] = self._curve(k, *self.options[option])
        return self._made[k, option]

    def front(self, k: int, option: int) -> Any:
        """The thresholds of a class that are worth trying under an option."""
        if (k, option) not in self._fronts:
            self._fronts[k, option] = self.of(k, option).front()
        return self._fronts[k, option]

    def _curve(self, k: int, median: int, gap: float, shortest: float) -> Any:
        from scipy.ndimage import median_filter

        from systems.metrics.curves import Frames, event_curve

        # The median of decisions is the decision on the median: one filter serves all thresholds.
        scores = [
            clip[:, k] if median == 1 else median_filter(clip[:, k], size=median, mode="nearest")
            for clip in self.frames
        ]
        name = self.classes[k]
        times = [[(e.onset, e.offset) for e in clip if e.label == name] for clip in self.events]
        frames = Frames.of(scores, self.hop, self.durations, times, self.start)
        return event_curve(frames, gap, shortest)


class ExactEvents(FrameLearner):
    """The exact optimum of the macro event-based F1 over all thresholds and the grid's options."""

    name = "exact_events"
    title = "exact per-class event thresholds on the mean frames"
    standard = True
    source = "ten_thresholds_genetic, Section 4.4; event-based F1 of DCASE 2018 task 4"
    Settings = Grid

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        options = self.settings.options()
        curves = Curves(members, targets, options)
        chosen = []
        for k in range(len(members.classes)):
            bests = [curves.of(k, option).best() for option in range(len(options))]
            option = int(np.argmax([f1 for _, f1 in bests]))
            chosen.append((bests[option][0], *options[option]))
        self.decoding = Decoding(*zip(*chosen, strict=True))


class ExactSegments(FrameLearner):
    """The exact optimum of the macro segment-based F1, by one scan over each class's segments."""

    name = "exact_segments"
    title = "exact per-class segment thresholds on the mean frames"
    source = "ten_thresholds_genetic, Section 4.4; segment-based F1 of sed_eval"
    judged_by = "segment_f1"

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from systems.metrics.segments import segment_scores, segment_targets

        assert targets.events is not None
        frames, hop = members.mean_frames()
        clips = list(zip(frames, members.durations, targets.events, strict=True))
        start = members.frame_start
        scores = np.concatenate([segment_scores(f, hop, s, start) for f, s, _ in clips])
        truth = np.concatenate([segment_targets(e, s, members.classes) for _, s, e in clips])
        thresholds = tuple(best_thresholds(scores, truth).tolist())
        self.decoding = Decoding(thresholds, (1,) * len(thresholds))


@dataclass(frozen=True)
class GeneticJoint(Grid):
    """``objective``, the options, and the genetic search's own settings."""

    medians: tuple[int, ...] = (1, 5, 9)
    gaps: tuple[float, ...] = (0.0, 0.2)
    minima: tuple[float, ...] = (0.0, 0.1)
    objective: Objective = "event_f1"
    evolution: Evolution = Evolution(generations=100)


class Joint:
    """Genes of all classes together -> a decoding and what it is worth.

    A class has a gene for the threshold, as a place on the front of those worth trying, and one
    that chooses the option.
    """

    def __init__(self, curves: Curves, objective: Objective) -> None:
        self.curves, self.objective = curves, objective

    @cached_property
    def first(self) -> list[float]:
        """The plainest option at each class's own best threshold."""
        genes = []
        for k in range(len(self.curves.classes)):
            front = self.curves.front(k, 0)
            place = int(np.argmax(f1_of_counts(front.counts)))
            genes += [place / max(1, len(front.thresholds) - 1), 0.0]
        return genes

    def choices(self, genes: Sequence[float]) -> list[tuple[Any, int, int]]:
        """Per class its front, the place on it, and the option."""
        count, found = len(self.curves.options), []
        for k in range(len(self.curves.classes)):
            option = min(count - 1, int(genes[2 * k + 1] * count))
            front = self.curves.front(k, option)
            found.append((front, round(genes[2 * k] * (len(front.thresholds) - 1)), option))
        return found

    def worth(self, genes: Sequence[float]) -> float:
        """The objective, signed so that more is better."""
        counts = np.stack([front.counts[place] for front, place, _ in self.choices(genes)])
        return worth_of(counts[None], self.objective)

    def decoding(self, genes: Sequence[float]) -> Decoding:
        chosen = [
            (float(front.thresholds[place]), *self.curves.options[option])
            for front, place, option in self.choices(genes)
        ]
        return Decoding(*zip(*chosen, strict=True))


def worth_of(counts: np.ndarray, objective: Objective) -> float:
    """The objective of event counts [N, K, 3], signed so that more is better."""
    if objective == "event_er":
        return -float(event_er_of_counts(counts))
    return float((macro_f1_of_counts if objective == "event_f1" else micro_f1_of_counts)(counts))


class GeneticEvents(FrameLearner):
    """Thresholds, median widths, filled pauses and shortest events of all classes at once (DEAP).

    It begins at the exact thresholds of the macro F1, so it is never worse on the fitted rows.
    """

    name = "genetic_events"
    title = "genetic event decoding of the mean frames"
    source = "ten_thresholds_genetic, Section 4.4, and its follow-up steps (settings are ours)"
    Settings = GeneticJoint

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        joint = Joint(Curves(members, targets, self.settings.options()), self.settings.objective)
        genes = evolve(joint.worth, joint.first, self.settings.evolution, seed)
        self.decoding = joint.decoding(genes)


LEARNERS: tuple[type[Learner], ...] = (ExactEvents, ExactSegments, GeneticEvents)
