"""Which items of a gallery a query should find; the answer is a score of each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth, largest


def relevant_items(labels: Labels, clip_ids: Sequence[str], items: Sequence[str]) -> np.ndarray:
    """Whether an item is relevant to a query: [query, item] in {0, 1}, NaN where it is not
    searched."""
    column = {item: k for k, item in enumerate(items)}
    matrix = np.zeros((len(clip_ids), len(items)), np.float32)
    for row, clip_id in enumerate(clip_ids):
        said = labels.values[clip_id]
        if isinstance(said, Mapping):
            matrix[row] = np.nan
            matrix[row, [column[item] for item in said]] = list(said.values())
        else:
            matrix[row, [column[item] for item in said]] = 1.0
    return matrix


def first_ranks(relevance: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The rank of each query's first relevant item [N], from 1; NaN of a query without any.

    Items that are not searched (relevance NaN) have no rank. Among equal scores it is the mean rank
    over all their orders.
    """
    relevant = relevance > 0.5
    best = np.where(relevant, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    others = ~relevant & ~np.isnan(relevance)
    above = (others & (scores > best)).sum(axis=1)
    tied = (others & (scores == best)).sum(axis=1)
    rank = 1 + above + tied / (1 + (relevant & (scores == best)).sum(axis=1))
    return np.where(relevant.any(axis=1), rank, np.nan)


def first_place(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """One over the rank of each query's first relevant item [N]; NaN of a query without any."""
    nearness: np.ndarray = 1.0 / first_ranks(truth.values, scores)
    return nearness


def unheard(truth: Truth) -> tuple[Constant, ...]:
    """A random ranking, or the items by how often they are relevant to the training queries."""
    popular = Constant("what is relevant most often", truth.values.mean(axis=0))
    return Constant("a random ranking", None), popular


KIND = Kind(
    "relevance",
    answers=("ranking",),
    matrix=relevant_items,
    metrics=("mrr", "ranking_map", "recall_at_1", "recall_at_5", "mean_rank"),
    closeness=first_place,
    words="ranking",
    constants=unheard,
    decide=largest,
    ranks=True,
    told=("rank", lambda near: 1.0 / near),
)
