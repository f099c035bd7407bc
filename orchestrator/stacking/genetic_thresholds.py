"""Genetic per-class thresholds (DEAP) on the mean of the members' clip scores."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
from deap import algorithms, base, tools

from systems.metrics.tagging import macro_f1_of_counts

LOWEST, HIGHEST = 0.01, 0.99


class _Fitness(base.Fitness):
    weights = (1.0,)


class _Thresholds(list[float]):
    """One individual: a threshold per class."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.fitness = _Fitness()


class GeneticThresholds:
    """One threshold a class, evolved to the largest macro F1 of the mean scores.

    Uniform crossover (thresholds of different classes are independent), Gaussian mutation,
    tournaments of three, the best individual always kept. The first population holds 0.5 for all.
    Source: the product's own; thresholds as in ten_thresholds_genetic.
    """

    name: ClassVar[str] = "genetic"
    title: ClassVar[str] = "genetic per-class thresholds on the mean"
    takes: ClassVar[tuple[str, ...]] = ("clip_scores",)

    def __init__(
        self,
        population: int = 60,
        generations: int = 150,
        mutation: float = 0.2,
        sigma: float = 0.1,
    ) -> None:
        self.population = population
        self.generations = generations
        self.mutation = mutation
        self.sigma = sigma
        self.thresholds = np.zeros(0)

    def fit(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> None:
        mean, positive = scores.mean(axis=1), targets > 0.5

        def fitness(individual: list[float]) -> tuple[float]:
            decided = mean > np.array(individual)
            counts = [positive & decided, ~positive & decided, positive & ~decided]
            return (macro_f1_of_counts(np.stack(counts, axis=-1)),)

        state = random.getstate()  # DEAP draws from Python's global generator
        random.seed(seed)
        try:
            self.thresholds = np.array(self._evolve(fitness, targets.shape[1]))
        finally:
            random.setstate(state)

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
        return {
            "population": self.population,
            "generations": self.generations,
            "mutation": self.mutation,
            "sigma": self.sigma,
        }

    def _evolve(self, fitness: Any, classes: int) -> _Thresholds:
        toolbox = base.Toolbox()
        toolbox.register("evaluate", fitness)
        toolbox.register("mate", tools.cxUniform, indpb=0.5)
        toolbox.register("mutate", self._mutate)
        toolbox.register("select", tools.selTournament, tournsize=3)
        population = [_Thresholds([0.5] * classes)] + [
            _Thresholds(random.uniform(LOWEST, HIGHEST) for _ in range(classes))
            for _ in range(self.population - 1)
        ]
        best = tools.HallOfFame(1)
        for _ in range(self.generations):
            for individual in population:
                if not individual.fitness.valid:
                    individual.fitness.values = fitness(individual)
            best.update(population)
            children = algorithms.varAnd(
                toolbox.select(population, self.population - 1), toolbox, cxpb=0.7, mutpb=0.6
            )
            population = [best[0], *children]
        for individual in population:
            if not individual.fitness.valid:
                individual.fitness.values = fitness(individual)
        best.update(population)
        winner: _Thresholds = best[0]
        return winner

    def _mutate(self, individual: _Thresholds) -> tuple[_Thresholds]:
        for k in range(len(individual)):
            if random.random() < self.mutation:
                moved = individual[k] + random.gauss(0, self.sigma)
                individual[k] = min(HIGHEST, max(LOWEST, moved))
        return (individual,)
