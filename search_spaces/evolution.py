"""An evolution over a search space, as a function of the search's history: DeepSAGA.

The method is deepsaga_evolution's own (docs/papers/deepsaga_evolution.md), and no library has it. A
genome is a point of the space with two genes more, its chances of crossover and of mutation. A
chromosome is what shares the first part of its keys; the places of a repeated part that is a
chromosome each (``dense_{n}.neurons``) align, and their count follows.

Nothing is kept between two questions: the population is replayed from the trials so far, so that
what comes next depends on the seed and on what came out, not on who ran at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from search_spaces.space import Parameter, SearchSpace

Genome = dict[str, Any]
CROSSOVER = Parameter("evolution.crossover", "float", 0.0, 1.0)
MUTATION = Parameter("evolution.mutation", "float", 0.01, 0.5)
PUBLISHED = {CROSSOVER.key: 0.1, MUTATION.key: 0.2}  # chances of the published genome (Fig. 4)

LIMIT, INITIAL = 90, 60  # of the population; random genomes that it begins with
TOURNAMENT = 0.1  # of the population
SHORTEST, LONGEST = 1, 7  # lifetimes, in cycles
RESET, CREEP = 0.05, 0.025  # of integers: chance of a new draw; deviation as a share of the limit
STAYS = 2  # how much likelier a choice is drawn that the gene has already


@dataclass(frozen=True)
class Individual:
    """A genome that was tried. ``score``: more is better, from 0; ``None`` while it is tried."""

    number: int
    genome: Mapping[str, Any]
    score: float | None = None

    @property
    def worth(self) -> float:
        """Its score, once that is known."""
        assert self.score is not None
        return self.score

    def chance(self, of: Parameter) -> float:
        """Its own chance of crossover or of mutation."""
        return float(self.genome.get(of.key, PUBLISHED[of.key]))


@dataclass(frozen=True)
class Child:
    """A genome that is to be tried, with where it comes from.

    ``by``: ``published``, ``random``, ``clone`` or ``crossover``.
    """

    genome: Genome
    generation: int
    by: str
    parents: tuple[int, ...] = ()

    def lineage(self) -> dict[str, Any]:
        """Where it comes from, and its own two genes, as JSON."""
        chances = {key.rpartition(".")[2]: self.genome[key] for key in PUBLISHED}
        return {"generation": self.generation, "by": self.by, "parents": list(self.parents),
                **chances}  # fmt: skip


def limit_of(trials: int) -> int:
    """The population's limit where so many genomes are tried: the paper's 90 from about a thousand
    (60 and 40 cycles), else fewer, so that there are some generations."""
    return max(6, min(LIMIT, round(trials**0.65)))


def participants(size: int, limit: int) -> int:
    """Parents of a cycle: as many as are missing, but at least a pair."""
    return max(2, limit - size)


def tournament_size(size: int) -> int:
    """Members that one parent is the best of."""
    return min(size, max(2, round(TOURNAMENT * size)))


def lifetime(score: float, worst: float, average: float, best: float) -> int:
    """Cycles that a new member lives: 1 to 4 up to the average, 5 to 7 above it.

    The bilinear rule, its conditions as the text has them; printed they are swapped.
    """
    half = (LONGEST - SHORTEST) / 2
    if score > average:
        value = (SHORTEST + LONGEST) / 2 + half * (average - score) / (average - best)
    elif score < average:
        value = SHORTEST + half * (worst - score) / (worst - average)
    else:
        value = SHORTEST + half
    return math.ceil(round(value, 9))  # 2.0000000000000004 is 2


def draw(p: Parameter, rng: np.random.Generator) -> Any:
    """A value of a gene, any as likely."""
    if p.kind == "one_of":
        return p.choices[int(rng.integers(len(p.choices)))]
    if p.kind == "int" and not p.log:
        return int(p.low + p.step * rng.integers(int(p.high - p.low) // p.step + 1))
    low, high = _line(p, p.low), _line(p, p.high)
    return _value(p, float(rng.uniform(low, high)))


def mutated(p: Parameter, value: Any, chance: float, rng: np.random.Generator) -> Any:
    """Another value of a gene (perhaps the same one), within its bounds."""
    if p.kind == "one_of":
        weights = np.array([STAYS if choice == value else 1 for choice in p.choices], float)
        return p.choices[int(rng.choice(len(p.choices), p=weights / weights.sum()))]
    if p.kind == "int":
        if rng.random() < RESET:
            return draw(p, rng)
        return p.nearest(value + p.step * round(float(rng.normal(0, CREEP * p.high)) / p.step))
    wide = chance * (_line(p, p.high) - _line(p, p.low))
    return _value(p, float(_line(p, value) + rng.normal(0, wide)))


def _line(p: Parameter, value: float) -> float:
    """A number where its range is even: a log one by its logarithm."""
    return math.log(value) if p.log else value


def _value(p: Parameter, place: float) -> Any:
    value = math.exp(place) if p.log else place
    return p.nearest(round(value) if p.kind == "int" else value)


@dataclass(frozen=True)
class Member:
    """An individual of the population, and the cycles that it has to live."""

    one: Individual
    life: int


@dataclass(frozen=True)
class Evolution:
    """The evolution of one study.

    Args:
        space: whose points are tried.
        limit: of the population.
        seed: of all that is drawn.
        published: the genome that is tried first.
    """

    space: SearchSpace
    limit: int
    seed: int
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def initial(self) -> int:
        """How many genomes the population begins with."""
        return max(2, round(self.limit * INITIAL / LIMIT))

    def child(self, history: Sequence[Individual], number: int) -> Child | None:
        """The genome of a number; ``None`` before all of earlier generations have a score.

        Args:
            history: what was tried before, in the order of its numbers.
            number: from 0; the published genome's.
        """
        if number < self.initial:
            return self._first(number)
        alive: list[Member] = []
        born, begin, generation = self.initial, 0, 0
        while True:
            new = history[begin : begin + born]
            if len(new) < born or any(one.score is None for one in new):
                return None
            alive = self.aged(alive, new)
            begin, generation = begin + born, generation + 1
            born = participants(len(alive), self.limit)
            if number < begin + born:
                return self.offspring(alive, born, generation)[number - begin]

    def _first(self, number: int) -> Child:
        if number == 0:
            return Child({**self.published, **PUBLISHED}, 0, "published")
        return Child(self._completed({}, self._random(0, number)), 0, "random")

    def _random(self, *of: int) -> np.random.Generator:
        return np.random.default_rng([self.seed % 2**64, *of])

    def aged(self, alive: Sequence[Member], new: Sequence[Individual]) -> list[Member]:
        """The population a cycle later: all but the best grow older, the new ones join, and what is
        above the limit leaves, of the shortest life and the least score first."""
        best = max((m.one for m in alive), key=_rank, default=None)
        older = [Member(m.one, m.life - (m.one is not best)) for m in alive]
        older = [m for m in older if m.life > 0]
        scores = [one.worth for one in (*(m.one for m in older), *new)]
        of = (min(scores), fmean(scores), max(scores))
        members = older + [Member(one, lifetime(one.worth, *of)) for one in new]
        first = max((m.one for m in members), key=_rank)
        leaving = sorted(members, key=lambda m: (m.one is first, m.life, _rank(m.one)))
        left = {m.one.number for m in leaving[: max(0, len(members) - self.limit)]}
        return [m for m in members if m.one.number not in left]

    def offspring(self, alive: Sequence[Member], count: int, generation: int) -> list[Child]:
        """The children of a cycle, each mutated."""
        rng = self._random(generation)
        size = tournament_size(len(alive))
        parents = []
        for _ in range(count):
            drawn = rng.choice(len(alive), size, replace=False)
            parents.append(max((alive[int(i)].one for i in drawn), key=_rank))
        return [
            Child(self.mutate(genome, rng), generation, by, of)
            for genome, by, of in self.recombined(parents, rng)
        ]

    def recombined(
        self, parents: Sequence[Individual], rng: np.random.Generator
    ) -> list[tuple[Genome, str, tuple[int, ...]]]:
        """A child of each parent, before mutation: its genome, how it came about, its parents.

        Parents meet in pairs, each ready by its own chance. Two that are ready exchange
        chromosomes; a ready one whose partner is not asks the others in turn; the rest are clones.
        """
        children: list[tuple[Genome, str, tuple[int, ...]]] = []
        for first in range(0, len(parents), 2):
            pair = parents[first : first + 2]
            others = [one for place, one in enumerate(parents) if place // 2 != first // 2]
            ready = [self._is_ready(one, rng) for one in pair]
            for one, is_ready, other in zip(pair, ready, (*pair[1:], pair[0]), strict=False):
                partner = other if all(ready) and len(pair) == 2 else None
                if is_ready and partner is None:
                    asked = (others[int(i)] for i in rng.permutation(len(others)))
                    partner = next((who for who in asked if self._is_ready(who, rng)), None)
                if partner is None or partner.number == one.number:
                    children.append((dict(one.genome), "clone", (one.number,)))
                else:
                    genome = self.crossed(one, partner, rng)
                    children.append((genome, "crossover", (one.number, partner.number)))
        return children

    @staticmethod
    def _is_ready(one: Individual, rng: np.random.Generator) -> bool:
        return one.chance(CROSSOVER) > rng.random()

    def crossed(self, one: Individual, other: Individual, rng: np.random.Generator) -> Genome:
        """A genome with each chromosome of another one by its own chance of crossover."""
        chance = one.chance(CROSSOVER)
        taken = {name for name in self.chromosomes if rng.random() < chance}
        mixed = {k: v for k, v in one.genome.items() if chromosome(k) not in taken}
        mixed |= {k: v for k, v in other.genome.items() if chromosome(k) in taken}
        return self._counted(mixed)

    @cached_property
    def chromosomes(self) -> tuple[str, ...]:
        """All chromosomes, in the order of the space, that of the evolution's own genes last."""
        return tuple(dict.fromkeys(chromosome(p.key) for p in self._genes))

    @cached_property
    def _genes(self) -> tuple[Parameter, ...]:
        return (*self.space.parameters, CROSSOVER, MUTATION)

    def _counted(self, genome: Genome) -> Genome:
        """The genome whose repeated chromosomes stand without gaps, with their count."""
        apart: dict[str, list[Parameter]] = {}
        for p in self.space.parameters:
            if p.repeat and chromosome(p.key) != chromosome(p.repeat):
                apart.setdefault(p.repeat, []).append(p)
        for count, parts in apart.items():
            here = [(p, genome.pop(p.key)) for p in parts if p.key in genome]
            order = sorted({p.place for p, _ in here})
            genome[count] = len(order)
            for p, value in here:
                genome[p.template.format(n=1 + order.index(p.place))] = value
        return genome

    def mutate(self, genome: Mapping[str, Any], rng: np.random.Generator) -> Genome:
        """The genome after its chance of mutation has mutated, and then by that each other gene."""
        old = genome.get(MUTATION.key, PUBLISHED[MUTATION.key])
        chance = MUTATION.nearest(float(old + rng.normal(0, old)))
        found: Genome = {MUTATION.key: chance}
        for p in self._genes[:-1]:
            if p.key in genome:
                hit = rng.random() < chance
                found[p.key] = mutated(p, genome[p.key], chance, rng) if hit else genome[p.key]
        return self._completed(found, rng)

    def _completed(self, genome: Mapping[str, Any], rng: np.random.Generator) -> Genome:
        """The genes that apply, those that are missing drawn: a layer more is a random one."""
        by_key = {p.key: p for p in self._genes}

        def gene(key: str) -> Any:
            return genome[key] if key in genome else draw(by_key[key], rng)

        return {**self.space.first(gene), **{key: gene(key) for key in PUBLISHED}}


def chromosome(key: str) -> str:
    """The chromosome of a gene: the first part of its key."""
    return key.partition(".")[0]


def _rank(one: Individual) -> tuple[float, int]:
    """By score; of equals the earlier."""
    return one.worth, -one.number
