"""One threshold a class on the mean of the members' clip scores, found in five ways.

For the macro F1 the classes separate, and :func:`bounds.best_thresholds` gives the exact optimum.
For the micro F1 they are coupled: a class's bound depends on the others', and a search is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.bounds import bent, best_thresholds
from orchestrator.stacking.learners.evolution import Evolution, evolve
from systems.metrics.tagging import f1_of_counts

Objective = Literal["macro_f1", "micro_f1"]


class Ranked:
    """Counts of each class at any threshold, by a look into its sorted scores.

    A gene in [0, 1] stands for the threshold between two neighbouring scores of its class, so that
    a search moves over decisions, however the scores lie.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray) -> None:
        self.count, self.classes = scores.shape
        order = np.argsort(-scores, axis=0, kind="stable")
        self.ranked = np.take_along_axis(scores, order, axis=0)
        positive = np.take_along_axis(targets > 0.5, order, axis=0)
        self.hits = np.vstack([np.zeros(self.classes), np.cumsum(positive, axis=0)])
        self.positive = positive.sum(axis=0)

    def thresholds(self, genes: np.ndarray) -> np.ndarray:
        """The thresholds [K] of genes [K]: 0 decides for no row, 1 for all."""
        found = np.rint(genes * self.count).astype(int)
        above = np.vstack([np.ones(self.classes), self.ranked])
        below = np.vstack([self.ranked, np.zeros(self.classes)])
        columns = np.arange(self.classes)
        high, low = above[found, columns], below[found, columns]
        middle = (high + low) / 2
        return np.where(middle < high, middle, low)

    def genes(self, thresholds: np.ndarray) -> np.ndarray:
        """The genes [K] of thresholds [K]."""
        found: np.ndarray = (self.ranked > thresholds).sum(axis=0) / self.count
        return found

    def worth(self, thresholds: np.ndarray, objective: Objective) -> float:
        """The F1 of ``scores > threshold``, macro or micro."""
        found = (self.ranked > thresholds).sum(axis=0)
        hits = self.hits[found, np.arange(self.classes)]
        counts = np.stack([hits, found - hits, self.positive - hits], axis=-1)
        if objective == "macro_f1":
            return float(f1_of_counts(counts).mean())
        return float(f1_of_counts(counts.sum(axis=0)))


class Thresholds(Learner):
    """The mean scores, bent so that each class's threshold comes to lie at 0.5."""

    labels = ("tags", "events")
    betters_one = "thresholds"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.thresholds = np.zeros(0)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.thresholds = self._find(members.scores.mean(axis=1), targets.values, seed)

    def _find(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
        raise NotImplementedError

    def predict(self, members: Members) -> np.ndarray:
        return bent(members.scores.mean(axis=1), self.thresholds)

    def state(self) -> dict[str, Any]:
        return {"thresholds": self.thresholds.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.thresholds = np.array(state["thresholds"])


class ExactThresholds(Thresholds):
    """The exact optimum of the macro F1, by one scan over each class's sorted scores."""

    name = "exact"
    title = "exact per-class thresholds on the mean"
    standard = True
    source = "ten_thresholds_genetic, Section 4.4 (the optimum that it searches for)"

    def _find(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
        return best_thresholds(scores, targets)


def _start(ranked: Ranked, scores: np.ndarray, targets: np.ndarray, objective: Objective) -> Any:
    """Where a search begins: 0.5 for all; for the micro F1 the macro F1's optimum."""
    if objective == "macro_f1":
        return ranked.genes(np.full(ranked.classes, 0.5))
    return ranked.genes(best_thresholds(scores, targets))


@dataclass(frozen=True)
class Genetic:
    """``objective`` and the genetic search's own settings."""

    objective: Objective = "macro_f1"
    evolution: Evolution = Evolution()


class GeneticThresholds(Thresholds):
    """Thresholds that a genetic search (DEAP) over the genes of :class:`Ranked` found."""

    name = "genetic"
    title = "genetic per-class thresholds on the mean"
    source = "ten_thresholds_genetic, Section 4.4 (which states no settings: these are ours)"
    Settings = Genetic

    def _find(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
        ranked, objective = Ranked(scores, targets), self.settings.objective

        def worth(genes: Any) -> float:
            return ranked.worth(ranked.thresholds(np.asarray(genes)), objective)

        first = _start(ranked, scores, targets, objective)
        found = evolve(worth, first.tolist(), self.settings.evolution, seed)
        return ranked.thresholds(np.asarray(found))


@dataclass(frozen=True)
class Walk:
    """The authors' own walk: ``restarts`` of ``steps``, each at most ``width`` at first.

    A start lies in ``start``; ``bell`` (of thresholds around 0.5) shortens steps far from it.
    """

    objective: Objective = "macro_f1"
    restarts: int = 100
    steps: int = 30
    width: float = 0.07
    bell: float = 0.08
    start: tuple[float, ...] = (0.4, 0.6)

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.steps < 1 or self.width <= 0 or self.bell <= 0:
            raise ValueError("restarts and steps are at least 1, width and bell above 0")
        if len(self.start) != 2 or not 0 <= self.start[0] <= self.start[1] <= 1:
            raise ValueError("start is two thresholds in 0 .. 1, the lower first")


class AnnealedThresholds(Thresholds):
    """Walks from near 0.5 with steps that shrink; the best thresholds seen.

    ``t += U(-1, 1) exp(-(t - 0.5)^2 / (2 bell^2)) width`` for all classes at once; the width falls
    to about half over a walk. Thresholds far from 0.5 are hardly reached: it is here for the
    comparison.
    """

    name = "annealed"
    title = "per-class thresholds by a shrinking walk"
    source = "ten_thresholds_genetic, Section 4.4 (the authors' own search, as their code has it)"
    Settings = Walk

    def _find(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
        s, r = self.settings, np.random.default_rng(seed)
        ranked = Ranked(scores, targets)
        found = np.full(ranked.classes, 0.5)
        best = ranked.worth(found, s.objective)
        low, high = round(100 * s.start[0]), round(100 * s.start[1])
        for _ in range(s.restarts):
            walker = r.integers(low, high + 1, ranked.classes) / 100
            width = s.width
            for _ in range(s.steps):
                bell = np.exp(-((walker - 0.5) ** 2) / (2 * s.bell**2))
                walker = np.clip(walker + r.uniform(-1, 1, ranked.classes) * bell * width, 0, 1)
                width -= s.width / (s.steps * 1.9)
                worth = ranked.worth(walker, s.objective)
                if worth > best:
                    best, found = worth, walker
        return found


LEARNERS: tuple[type[Learner], ...] = (
    ExactThresholds, GeneticThresholds, AnnealedThresholds,
)  # fmt: skip
