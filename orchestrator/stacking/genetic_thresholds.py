"""Genetic per-class thresholds (DEAP) on the mean of the members' clip scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from orchestrator.stacking.evolution import Evolution, evolve
from systems.metrics.tagging import macro_f1_of_counts


class GeneticThresholds:
    """One threshold a class, evolved to the largest macro F1 of the mean scores.

    Source: the product's own; thresholds as in ten_thresholds_genetic.
    """

    name: ClassVar[str] = "genetic"
    title: ClassVar[str] = "genetic per-class thresholds on the mean"
    takes: ClassVar[tuple[str, ...]] = ("clip_scores",)

    def __init__(self, evolution: Evolution | None = None) -> None:
        self.evolution = evolution or Evolution()
        self.thresholds = np.zeros(0)

    def fit(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> None:
        mean, positive = scores.mean(axis=1), targets > 0.5

        def fitness(individual: list[float]) -> tuple[float]:
            decided = mean > np.array(individual)
            counts = [positive & decided, ~positive & decided, positive & ~decided]
            return (macro_f1_of_counts(np.stack(counts, axis=-1)),)

        self.thresholds = np.array(evolve(fitness, targets.shape[1], self.evolution, seed))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """The mean scores, bent so that each class's threshold comes to lie at 0.5."""
        mean, t = scores.mean(axis=1), self.thresholds
        above = 0.5 + 0.5 * (mean - t) / (1 - t)
        return np.where(mean > t, above, 0.5 * mean / t)

    def weights(self) -> None:
        """None: every member counts the same."""
        return None

    def state(self) -> dict[str, Any]:
        return {"thresholds": self.thresholds.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        self.thresholds = np.array(state["thresholds"])

    def parameters(self) -> dict[str, Any]:
        return asdict(self.evolution)
