"""What stage two claims where members learnt nothing, and where they complement each other."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("null_claims")


FAST = {"tags": ["mean", "exact", "class_choice"], "class": ["mean", "class_choice"],
        "values": ["mean", "simplex"]}  # fmt: skip


@pytest.mark.parametrize("kind", FAST)
def test_nothing_is_claimed_on_noise(kind: str, bench: Any) -> None:
    claimed = [bench.claims(bench.unheard(kind, seed), FAST[kind], seed, before=False)
               for seed in range(5)]  # fmt: skip
    assert sum(map(bool, claimed)) <= 2, claimed  # 99.9 % of the binomial


def test_of_thresholds_on_noise_the_first_version_claimed_a_gain(bench: Any) -> None:
    sets = [bench.unheard("tags", seed) for seed in range(4)]
    assert all(bench.claims(data, ["exact"], 0, before=True) for data in sets)
    for data in sets:
        told = bench.judged("exact", data, 0, before=False)
        assert told.versus_best.low > 0  # better than members, by thresholds alone
        assert told.verdict(claims=False) in ("trivial", "alone")


@pytest.mark.parametrize("kind", FAST)
def test_a_planted_gain_is_claimed(kind: str, bench: Any) -> None:
    claimed = [bench.claims(bench.unheard(kind, seed, clips=300, signal=2.0), FAST[kind], seed,
                            before=False) for seed in range(2)]  # fmt: skip
    assert all("mean" in one for one in claimed), claimed


@pytest.mark.parametrize("name", ["exact", "rank_mean"])
def test_copies_are_claimed_no_more_than_chance(name: str, bench: Any) -> None:
    count = sum(bench.judged(name, bench.copied("tags", s), s, before=False).p < 0.05
                for s in range(10))  # fmt: skip
    assert count <= 3  # 99.9 % of the binomial
