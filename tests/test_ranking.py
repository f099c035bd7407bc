"""Metrics of rankings: by hand, with ties, and where queries search some of the items alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from systems.data.dataset import Labels
from systems.kinds import kind
from systems.metrics import METRICS, metric
from systems.predictions import Predictions

ITEMS = ("a", "b", "c", "d")


def value(name: str, values: dict[str, Any], ranking: list[list[float]]) -> float:
    """A metric of labels (query -> what is relevant) and scores."""
    truth = kind("relevance").truth(Labels("relevance", values), tuple(values), ITEMS)
    said = Predictions.of(tuple(values), ITEMS, ranking=np.array(ranking))
    counts = metric(name).counts(truth, said)
    assert counts is not None
    return metric(name).value(counts)


ONE = {"q": ("b",)}


@pytest.mark.parametrize(
    ("scores", "rank"),
    [
        ([0.1, 0.9, 0.3, 0.2], 1.0),
        ([0.9, 0.3, 0.5, 0.1], 3.0),
        ([0.5, 0.5, 0.1, 0.1], 1.5),  # first or second
        ([0.5, 0.5, 0.5, 0.5], 2.5),  # anywhere
        ([0.9, 0.2, 0.2, 0.2], 3.0),  # second to fourth
    ],
)
def test_the_rank_of_one_target_is_the_mean_among_ties(scores: list[float], rank: float) -> None:
    assert value("mean_rank", ONE, [scores]) == rank
    assert value("mrr", ONE, [scores]) == pytest.approx(1 / rank)
    assert value("ranking_map", ONE, [scores]) == pytest.approx(1 / rank)


@pytest.mark.parametrize("scores", [[3, 1, 1, 2], [1, 1, 1, 0], [2, 2, 1, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("relevant", [("a",), ("b", "c"), ("a", "b", "d"), ITEMS])
def test_ties_count_as_the_mean_over_all_their_orders(
    scores: list[float], relevant: tuple[str, ...]
) -> None:
    """Ranks and recalls beside a walk through every order of the items."""
    firsts, within = [], []
    for order in itertools.permutations(range(4)):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        there = [ITEMS[k] in relevant for k in order]
        firsts.append(1 + there.index(True))
        within.append(sum(there[:2]) / len(relevant))
    found = {"q": relevant}
    assert value("mean_rank", found, [scores]) == pytest.approx(np.mean(firsts))
    assert value("recall_at_2", found, [scores]) == pytest.approx(np.mean(within))


def test_items_that_a_query_does_not_search_have_no_rank() -> None:
    among = {"q": {"b": 1, "c": 0, "d": 0}, "p": {"a": 1, "b": 0}}
    ranking = [[0.9, 0.5, 0.7, 0.1], [0.3, 0.2, 0.9, 0.8]]
    assert value("mean_rank", among, ranking) == pytest.approx((2 + 1) / 2)
    assert value("mrr", among, ranking) == pytest.approx((1 / 2 + 1) / 2)
    assert value("ranking_map", among, ranking) == pytest.approx((1 / 2 + 1) / 2)
    assert value("recall_at_1", among, ranking) == pytest.approx(1 / 2)
    truth = kind("relevance").truth(Labels("relevance", among), ("q", "p"), ITEMS)
    nearness = kind("relevance").closeness(truth, np.array(ranking))
    assert nearness.tolist() == [0.5, 1.0]


def test_a_query_without_a_target_answers_nothing() -> None:
    both = {"q": (), "p": ("a",)}
    ranking = [[0.1, 0.2, 0.3, 0.4], [0.9, 0.1, 0.1, 0.1]]
    assert value("mean_rank", both, ranking) == 1.0
    assert value("recall_at_5", both, ranking) == 1.0
    assert value("mrr", both, ranking) == 0.5


def test_chance_is_what_arithmetic_says() -> None:
    """The card of qbv_siamese_triplet: among 100 files a mean rank of 50.5 and an MRR of 0.052."""
    r = np.random.default_rng(0)
    truth = np.eye(100)[r.integers(100, size=4000)]
    scores = r.random(truth.shape)
    by = {name: METRICS[name].value(METRICS[name].count(_truth(truth), scores))
          for name in ("mean_rank", "mrr", "recall_at_10")}  # fmt: skip
    assert by["mean_rank"] == pytest.approx(50.5, abs=1.5)
    assert by["mrr"] == pytest.approx(0.052, abs=0.006)
    assert by["recall_at_10"] == pytest.approx(0.1, abs=0.02)
    assert METRICS["mean_rank"].mode == "min"


def _truth(values: np.ndarray) -> Any:
    from systems.kinds import Truth

    return Truth("relevance", values, tuple(map(str, range(values.shape[1]))))
