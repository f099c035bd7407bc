"""The genetic search (DEAP) for one threshold a class."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deap import algorithms, base, tools

LOWEST, HIGHEST = 0.01, 0.99


class _Fitness(base.Fitness):
    weights = (1.0,)


class _Thresholds(list[float]):
    """One individual: a threshold per class."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.fitness = _Fitness()


@dataclass(frozen=True)
class Evolution:
    """Settings of the search; ``mutation``: the chance that a threshold moves by ``sigma``."""

    population: int = 60
    generations: int = 150
    mutation: float = 0.2
    sigma: float = 0.1


def evolve(
    fitness: Callable[[list[float]], tuple[float]], classes: int, settings: Evolution, seed: int
) -> list[float]:
    """One threshold a class with the largest fitness that so many generations found.

    Uniform crossover (thresholds of different classes are independent), Gaussian mutation,
    tournaments of three, the best individual always kept. The first population holds 0.5 for all.
    """
    state = random.getstate()  # DEAP draws from Python's global generator
    random.seed(seed)
    try:
        return list(_evolve(fitness, classes, settings))
    finally:
        random.setstate(state)


def _evolve(fitness: Any, classes: int, settings: Evolution) -> _Thresholds:
    toolbox = base.Toolbox()
    toolbox.register("mate", tools.cxUniform, indpb=0.5)
    toolbox.register("mutate", _mutate, settings=settings)
    toolbox.register("select", tools.selTournament, tournsize=3)
    population = [_Thresholds([0.5] * classes)] + [
        _Thresholds(random.uniform(LOWEST, HIGHEST) for _ in range(classes))
        for _ in range(settings.population - 1)
    ]
    best = tools.HallOfFame(1)
    for generation in range(settings.generations + 1):
        for individual in population:
            if not individual.fitness.valid:
                individual.fitness.values = fitness(individual)
        best.update(population)
        if generation < settings.generations:
            chosen = toolbox.select(population, settings.population - 1)
            population = [best[0], *algorithms.varAnd(chosen, toolbox, cxpb=0.7, mutpb=0.6)]
    winner: _Thresholds = best[0]
    return winner


def _mutate(individual: _Thresholds, settings: Evolution) -> tuple[_Thresholds]:
    for k in range(len(individual)):
        if random.random() < settings.mutation:
            moved = individual[k] + random.gauss(0, settings.sigma)
            individual[k] = min(HIGHEST, max(LOWEST, moved))
    return (individual,)
