"""The evolution's operators by hand and by their distribution, and the evolution in a study."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.options import Options
from orchestrator.plan.plan import IN_PROCESS, Resources
from orchestrator.plan.search import SamplerSettings
from orchestrator.planning.resolve import _sampler, make_plan
from orchestrator.runs.clock import Clock
from orchestrator.search.referee import Referee
from orchestrator.search.study import Search, TrialState
from orchestrator.search.sweep import sweep
from search_spaces import Parameter, SearchSpace
from search_spaces.evolution import (
    CROSSOVER,
    MUTATION,
    PUBLISHED,
    Evolution,
    Individual,
    Member,
    draw,
    lifetime,
    limit_of,
    mutated,
    participants,
    tournament_size,
)
from systems.errors import UserError


def repeated(n: int) -> Parameter:
    return Parameter(f"layer_{n}.size", "int", 1, 9, when={"head.layers": f">= {n}"},
                     repeat="head.layers", place=n, template="layer_{n}.size")  # fmt: skip


SPACE = SearchSpace(
    "accuracy",
    "max",
    (
        Parameter("head.layers", "int", 0, 3),
        Parameter("head.kind", "one_of", choices=("a", "b", "c", "d")),
        *map(repeated, (1, 2, 3)),
        Parameter("training.rate", "float", 1e-4, 1e-1, log=True),
        Parameter("training.batch", "int", 16, 256),
    ),
    "evolution",
)
FIRST = {"head.layers": 1, "head.kind": "a", "layer_1.size": 4, "training.rate": 1e-3,
         "training.batch": 32}  # fmt: skip
SURE = 1e-3  # below this p a distribution is another one; all draws are seeded


def evolution(limit: int = 9, seed: int = 0) -> Evolution:
    return Evolution(SPACE, limit, seed, FIRST)


def one(number: int, score: float | None = 0.5, crossover: float = 0.1, **genes: Any) -> Individual:
    chances = {CROSSOVER.key: crossover, MUTATION.key: 0.2}
    return Individual(number, {**FIRST, **chances, **genes}, score)


def agrees(seen: Counter[Any], expected: dict[Any, float]) -> bool:
    """Whether counts are drawn from these chances (chi-square)."""
    assert set(seen) <= {key for key, chance in expected.items() if chance > 0}
    keys = [key for key, chance in expected.items() if chance > 0]
    total = sum(seen.values())
    return (
        stats.chisquare([seen[k] for k in keys], [total * expected[k] for k in keys]).pvalue > SURE
    )


@pytest.mark.parametrize(
    ("score", "cycles"),
    [(0.2, 1), (0.25, 2), (0.35, 3), (0.499, 4), (0.5, 4), (0.501, 5), (0.6, 5), (0.7, 6), (0.9, 7)]
)  # fmt: skip
def test_lifetimes_by_hand(score: float, cycles: int) -> None:
    """1 + 3 (0.2 - f) / (0.2 - 0.5) below the average 0.5, 4 + 3 (0.5 - f) / (0.5 - 0.9) above."""
    assert lifetime(score, 0.2, 0.5, 0.9) == cycles


def test_of_equals_each_lives_four_cycles() -> None:
    assert lifetime(0.3, 0.3, 0.3, 0.3) == 4


def test_lifetimes_lie_on_their_side_of_the_average() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 40):
        scores = rng.random(size).round(2).tolist()
        of = (min(scores), float(np.mean(scores)), max(scores))
        for score in scores:
            expected = range(5, 8) if score > of[1] else range(1, 5)
            assert lifetime(score, *of) in expected


def test_sizes_of_cycles() -> None:
    assert [participants(n, 90) for n in (60, 80, 88, 89, 90, 91)] == [30, 10, 2, 2, 2, 2]
    assert [tournament_size(n) for n in (90, 60, 25, 10, 2, 1)] == [9, 6, 2, 2, 2, 1]
    assert [limit_of(trials) for trials in (1, 8, 50, 1020, 10_000)] == [6, 6, 13, 90, 90]
    assert evolution(90).initial == 60


def test_parents_win_tournaments_drawn_without_replacement() -> None:
    """The r-th best of n wins one of s with chance C(n - r, s - 1) / C(n, s)."""
    n, s = 30, 3
    alive = [Member(one(i, i / n, crossover=0.0), 4) for i in range(n)]
    children = evolution().offspring(alive, 5000, 1)
    seen = Counter(child.parents[0] for child in children)
    assert {child.by for child in children} == {"clone"}
    assert agrees(seen, {i: math.comb(i, s - 1) / math.comb(n, s) for i in range(n)})


def test_each_chromosome_is_exchanged_by_the_parents_own_chance() -> None:
    """Any subset of them, each by itself; the chances of the evolution are a chromosome too."""
    e, p = Evolution(replace(SPACE, parameters=SPACE.parameters[-2:]), 9, 0, {}), 0.3
    a = one(0, crossover=p)
    b = one(1, crossover=0.9, **{"training.rate": 0.05, "training.batch": 200})
    assert e.chromosomes == ("training", "evolution")
    rng = np.random.default_rng(1)
    seen: Counter[Any] = Counter()
    for _ in range(5000):
        child = e.crossed(a, b, rng)
        training = child["training.batch"] == 200
        assert (child["training.rate"] == 0.05) == training
        seen[training, child[CROSSOVER.key] == 0.9] += 1
    chance = {True: p, False: 1 - p}
    assert agrees(seen, {(x, y): chance[x] * chance[y] for x in chance for y in chance})


def test_chances_of_zero_and_one_take_nothing_and_all() -> None:
    a = one(0, crossover=0.0)
    b = one(1, crossover=1.0, **{"head.kind": "b", "head.layers": 2, "layer_2.size": 7})
    rng = np.random.default_rng(0)
    assert evolution().crossed(a, b, rng) == dict(a.genome)
    assert evolution().crossed(b, a, rng) == dict(a.genome)


def test_layers_align_by_position_and_are_counted() -> None:
    """Over all subsets that may be exchanged: those of a parent with one layer and with three."""
    layers = {"head.layers": 3, "layer_1.size": 7, "layer_2.size": 8, "layer_3.size": 9}
    names = ("layer_1", "layer_2", "layer_3")
    seen = set()
    rng = np.random.default_rng(3)
    for _ in range(400):
        child = evolution().crossed(one(0, crossover=0.5), one(1, **layers), rng)
        count = child["head.layers"]
        assert {k for k in child if k.startswith("layer_")} == {f"{n}.size" for n in names[:count]}
        seen.add(tuple(child[f"{name}.size"] for name in names[:count]))
    first, second, third = ((4,), (7,)), ((), (8,)), ((), (9,))
    assert seen == {sum(parts, ()) for parts in itertools.product(first, second, third)}


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ((1.0, 1.0), [("crossover", (0, 1)), ("crossover", (1, 0))]),
        ((0.0, 0.0), [("clone", (0,)), ("clone", (1,))]),
        ((1.0, 0.0), [("clone", (0,)), ("clone", (1,))]),  # nobody else is there
        ((1.0, 0.0, 0.0, 1.0), [("crossover", (0, 3)), ("clone", (1,)), ("clone", (2,)),
                                ("crossover", (3, 0))]),
        ((1.0, 0.0, 0.0), [("clone", (0,)), ("clone", (1,)), ("clone", (2,))]),
        ((1.0, 1.0, 1.0), [("crossover", (0, 1)), ("crossover", (1, 0)), ("crossover", None)]),
    ],
)  # fmt: skip
def test_who_is_ready_finds_a_partner_or_is_cloned(chances: Any, expected: Any) -> None:
    parents = [one(i, crossover=chance) for i, chance in enumerate(chances)]
    found = evolution().recombined(parents, np.random.default_rng(0))
    for (_, by, of), (how, whom) in zip(found, expected, strict=True):
        assert by == how
        assert of == (whom or of)


def test_two_parents_mate_where_both_are_ready() -> None:
    rng = np.random.default_rng(5)
    parents = [one(0, crossover=0.6), one(1, crossover=0.3)]
    seen = Counter(evolution().recombined(parents, rng)[0][1] for _ in range(4000))
    assert agrees(seen, {"crossover": 0.18, "clone": 0.82})


def test_a_symbolic_gene_keeps_its_allele_twice_as_likely() -> None:
    rng = np.random.default_rng(0)
    kind = SPACE.parameters[1]
    seen = Counter(mutated(kind, "c", 0.2, rng) for _ in range(5000))
    assert agrees(seen, {"a": 0.2, "b": 0.2, "c": 0.4, "d": 0.2})


def test_an_integer_creeps_or_is_drawn_anew() -> None:
    """Limit 1000: a deviation of 25, and one in twenty draws is flat over all of the range."""
    wide = Parameter("x", "int", 1, 1000)
    rng = np.random.default_rng(0)
    found = np.array([mutated(wide, 500, 0.2, rng) for _ in range(20_000)])
    assert found.min() >= 1
    assert found.max() <= 1000
    far = Counter((np.abs(found - 500) > 125).tolist())  # five deviations
    assert agrees(far, {True: 0.05 * 0.749, False: 1 - 0.05 * 0.749})
    near = found[np.abs(found - 500) <= 75]
    assert near.std() == pytest.approx(25, rel=0.05)
    small = Parameter("x", "int", 1, 5)
    seen = Counter(mutated(small, 2, 0.2, rng) for _ in range(8000))
    assert agrees(
        seen, {k: 0.01 + 0.95 * (k == 2) for k in range(1, 6)}
    )  # 1 creeps as good as never


def test_a_float_is_moved_by_the_chance_times_its_range() -> None:
    """A log one by its logarithm; what leaves the range stays at its end."""
    rng = np.random.default_rng(0)
    plain = Parameter("x", "float", 0.0, 10.0)
    found = [mutated(plain, 5.0, 0.05, rng) for _ in range(4000)]
    assert stats.kstest(found, "norm", (5.0, 0.5)).pvalue > SURE
    log = Parameter("x", "float", 1e-4, 1e-2, log=True)
    found = [math.log10(mutated(log, 1e-3, 0.1, rng)) for _ in range(4000)]
    assert stats.kstest(found, "norm", (-3.0, 0.2)).pvalue > SURE
    ends = Counter(mutated(plain, 10.0, 0.5, rng) == 10.0 for _ in range(4000))
    assert agrees(ends, {True: 0.5, False: 0.5})


def test_draws_are_flat() -> None:
    rng = np.random.default_rng(0)
    stepped = Parameter("x", "int", 4, 12, step=4)
    seen = Counter(draw(stepped, rng) for _ in range(3000))
    assert agrees(seen, {4: 1 / 3, 8: 1 / 3, 12: 1 / 3})
    log = Parameter("x", "float", 1e-4, 1e-2, log=True)
    found = [math.log10(draw(log, rng)) for _ in range(3000)]
    assert stats.kstest(found, "uniform", (-4, 2)).pvalue > SURE


def test_a_chance_mutates_first_and_is_then_each_other_genes() -> None:
    genes = tuple(Parameter(f"g.{i}", "float", 0.0, 1.0) for i in range(40))
    e = Evolution(replace(SPACE, parameters=genes), 9, 0, {})
    start = {p.key: 0.5 for p in genes} | {CROSSOVER.key: 0.5, MUTATION.key: 0.2}
    rng = np.random.default_rng(0)
    excess, chances = [], []
    for _ in range(1500):
        child = e.mutate(start, rng)
        chance = child[MUTATION.key]
        hit = sum(child[key] != start[key] for key in start if key != MUTATION.key)
        excess.append((hit - 41 * chance) / math.sqrt(41 * chance * (1 - chance)))
        chances.append(chance)
    assert abs(np.mean(excess)) < 4 / math.sqrt(1500)
    assert np.std(excess) == pytest.approx(1, abs=0.1)
    inside = [chance for chance in chances if 0.01 < chance < 0.5]
    assert (
        stats.kstest(inside, stats.truncnorm((0.01 - 0.2) / 0.2, 1.5, 0.2, 0.2).cdf).pvalue > SURE
    )
    assert (min(chances), max(chances)) == (0.01, 0.5)


def test_a_layer_more_is_a_random_one_and_one_less_is_gone() -> None:
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(3000):
        child = evolution().mutate(one(0).genome, rng)
        counts.add(count := child["head.layers"])
        layers = {k for k in child if k.startswith("layer_")}
        assert layers == {f"layer_{n}.size" for n in range(1, count + 1)}
    assert counts == {0, 1, 2, 3}


def test_a_population_ages_by_hand() -> None:
    """The best stays young; who has lived goes; the limit takes the shortest-lived of the least
    score."""
    e = evolution(4)
    alive = e.aged([], [one(0, 0.2), one(1, 0.4), one(2, 0.6), one(3, 0.6)])
    assert [(m.one.number, m.life) for m in alive] == [(0, 1), (1, 4), (2, 7), (3, 7)]
    alive = e.aged(alive, [one(4, 0.5), one(5, 0.1)])  # average 0.44 of 1, 2, 3, 4, 5
    assert [(m.one.number, m.life) for m in alive] == [(1, 3), (2, 7), (3, 6), (4, 6)]
    alive = e.aged(alive, [one(6, 0.3), one(7, 0.3)])
    assert [(m.one.number, m.life) for m in alive] == [(1, 2), (2, 7), (3, 5), (4, 5)]


def value(params: dict[str, Any]) -> float:
    return params["training.batch"] / 512 + 0.1 * params["head.layers"] * (
        params["head.kind"] == "b"
    )


def open_search(path: Path, seed: int = 0, limit: int = 6) -> Search:
    return Search(path, SPACE, SamplerSettings(seed, 3, "evolution", limit), None, FIRST)


def run_one(search: Search, number: int, params: dict[str, Any]) -> None:
    if number in (3, 8):
        search.fail(number, "out of memory")
    elif number in (4, 9):
        search.diverge(number, "the loss is nan")
    else:
        search.complete(number, value(params))


def serial(path: Path, trials: int, seed: int = 0, limit: int = 6) -> Search:
    search = open_search(path, seed, limit)
    while search.asked() < trials:
        run_one(search, *search.ask())
    return search


def history(search: Search) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.user_attrs) for t in search.trials()]


def test_a_study_evolves_from_the_published_genome(tmp_path: Path) -> None:
    search = serial(tmp_path / "s", 60, limit=15)
    told = [trial.user_attrs["lineage"] for trial in search.trials()]
    assert told[0] == {"generation": 0, "by": "published", "parents": [], "crossover": 0.1,
                       "mutation": 0.2}  # fmt: skip
    assert search.trials()[0].params == FIRST
    assert [one_["by"] for one_ in told[1:10]] == ["random"] * 9
    assert {one_["by"] for one_ in told[10:]} == {"clone", "crossover"}
    assert [t["generation"] for t in told] == sorted(t["generation"] for t in told)
    for number, of in enumerate(told):
        assert all(told[parent]["generation"] < of["generation"] for parent in of["parents"])
        assert all(parent < number for parent in of["parents"])
    scores = [t.value or 0.0 for t in search.trials()]
    assert max(scores[30:]) > max(scores[:10])
    assert history(serial(tmp_path / "other", 10, seed=1)) != history(search)[:10]


def test_of_several_at_once_the_genomes_are_the_same(tmp_path: Path) -> None:
    """Whoever ends first; what the next generation is waits for all of this one."""
    whole, search = serial(tmp_path / "whole", 30), open_search(tmp_path / "s")
    rng = np.random.default_rng(0)
    running: list[tuple[int, dict[str, Any]]] = []
    waited = 0
    while search.asked() < 30 or running:
        if search.asked() < 30 and len(running) < 5 and not search.waits():
            running.append(search.ask())
            continue
        waited += search.asked() < 30 and len(running) < 5
        run_one(search, *running.pop(int(rng.integers(len(running)))))
    assert waited
    assert [(n, p, a) for n, _, p, _, a in history(search)] == [
        (n, p, a) for n, _, p, _, a in history(whole)
    ]


@pytest.mark.parametrize("cut", range(0, 160, 5))
def test_cut_at_any_record_it_goes_on_to_the_same_genomes(tmp_path: Path, cut: int) -> None:
    """As a kill within a generation leaves the journal."""
    whole = serial(tmp_path / "whole", 18)
    records = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert len(records) > 160
    (tmp_path / "cut").write_bytes(b"".join(records[: 2 + cut]) + b'{"op_code": 4, "tr')
    search = open_search(tmp_path / "cut")
    for number in search.running():
        run_one(search, *search.adopt(number))
    while search.asked() < 18:
        run_one(search, *search.ask())
    assert history(search) == history(whole)


def test_failures_hang_no_generation(tmp_path: Path) -> None:
    """Not even where all of one fail before any has come to a report."""
    causes = itertools.cycle(("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"))

    def trial(shared: Any, number: int, params: Any, report: Any) -> dict[str, Any]:
        return {"outcome": "failed", "cause": next(causes)}

    search = open_search(tmp_path / "s")
    with Stop() as stop:
        referee = Referee(search, 12, stop, Progress(), Clock(tmp_path / "clock.json", None))
        sweep(trial, None, referee, Resources(1, 1, 0), IN_PROCESS, tmp_path)
        referee.release()
    assert [t.state for t in search.trials()] == [TrialState.FAIL] * 12
    assert {t.user_attrs["lineage"]["generation"] for t in search.trials()} >= {0, 1, 2}


def test_what_searches_is_the_spaces_or_as_asked() -> None:
    """An evolution stops no trial early: of a stopped one it would know no score."""
    asked = Options(system="deepsaga_evolution", trials=8, budget="quick")
    plan = make_plan(asked)[0]
    assert (plan.sampler.kind, plan.sampler.limit, plan.halving) == ("evolution", 6, None)
    plan = make_plan(replace(asked, sampler="tpe"))[0]
    assert plan.sampler.kind == "tpe"
    assert plan.halving is not None
    with pytest.raises(UserError, match="unknown sampler 'evolutoin'"):
        make_plan(replace(asked, sampler="evolutoin"))


def test_an_evolution_takes_a_space_of_which_more_is_better() -> None:
    assert _sampler(SPACE, 3, 100) == SamplerSettings(3, 10, "evolution", 20)
    assert _sampler(replace(SPACE, parameters=()), 3, 100).kind == "tpe"  # nothing is searched
    with pytest.raises(UserError, match="less is better"):
        _sampler(replace(SPACE, mode="min"), 3, 100)


def test_a_published_genome_has_the_papers_chances() -> None:
    child = evolution().child([], 0)
    assert child is not None
    assert child.genome == {**FIRST, **PUBLISHED}
