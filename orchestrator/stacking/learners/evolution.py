"""A genetic search (DEAP) over a box of genes in [0, 1]."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deap import algorithms, base, tools


class _Fitness(base.Fitness):
    weights = (1.0,)


class _Genes(list[float]):
    """One individual."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.fitness = _Fitness()


@dataclass(frozen=True)
class Evolution:
    """Settings of the search; ``mutation``: the chance that a gene moves by ``sigma``.

    ``sigma`` shrinks over the generations to a tenth, as a temperature falls.
    """

    population: int = 60
    generations: int = 150
    mutation: float = 0.2
    sigma: float = 0.2

    def __post_init__(self) -> None:
        if self.population < 4 or self.generations < 1:
            raise ValueError("population is at least 4, generations at least 1")
        if not 0 < self.mutation <= 1 or self.sigma <= 0:
            raise ValueError("mutation lies in (0, 1], sigma above 0")


def evolve(
    worth: Callable[[Sequence[float]], float],
    first: Sequence[float],
    settings: Evolution,
    seed: int,
) -> list[float]:
    """The genes with the largest worth that so many generations found.

    Uniform crossover (genes of different classes are independent), Gaussian mutation, tournaments
    of three, the best individual always kept. The first population holds ``first``.
    """
    state = random.getstate()  # DEAP draws from Python's global generator
    random.seed(seed)
    try:
        return list(_evolve(worth, first, settings))
    finally:
        random.setstate(state)


def _evolve(worth: Any, first: Sequence[float], settings: Evolution) -> _Genes:
    toolbox, temperature = base.Toolbox(), [1.0]
    toolbox.register("mate", tools.cxUniform, indpb=0.5)
    toolbox.register("mutate", _mutate, settings=settings, temperature=temperature)
    toolbox.register("select", tools.selTournament, tournsize=3)
    population = [_Genes(first)] + [
        _Genes(random.random() for _ in first) for _ in range(settings.population - 1)
    ]
    best = tools.HallOfFame(1)
    for generation in range(settings.generations + 1):
        for individual in population:
            if not individual.fitness.valid:
                individual.fitness.values = (worth(individual),)
        best.update(population)
        temperature[0] = 0.1 ** (generation / settings.generations)
        if generation < settings.generations:
            chosen = toolbox.select(population, settings.population - 1)
            population = [best[0], *algorithms.varAnd(chosen, toolbox, cxpb=0.7, mutpb=0.6)]
    winner: _Genes = best[0]
    return winner


def _mutate(individual: _Genes, settings: Evolution, temperature: list[float]) -> tuple[_Genes]:
    for k in range(len(individual)):
        if random.random() < settings.mutation:
            moved = individual[k] + random.gauss(0, settings.sigma * temperature[0])
            individual[k] = min(1.0, max(0.0, moved))
    return (individual,)
