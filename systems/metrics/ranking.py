"""Metrics of a ranking: relevance and scores [query, item]; NaN is no item that is searched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from systems.kinds.relevance import first_ranks


def mean_of_pairs(counts: np.ndarray) -> np.ndarray:
    """The mean [...] of per-query values: counts [..., N, 2] of value and 1."""
    value, queries = np.moveaxis(counts.sum(axis=-2), -1, 0)
    mean: np.ndarray = value / np.maximum(queries, 1)
    return mean


def reciprocal_ranks(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (1 / rank of its first relevant item, 1): [N, 2]; 0 without a relevant item."""
    ranks = first_ranks(targets, scores)
    return np.stack([np.nan_to_num(1.0 / ranks), np.ones(len(ranks))], axis=1)


def ranks(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (rank of its first relevant item, 1): [N, 2]; zeros without a relevant item."""
    found = first_ranks(targets, scores)
    return np.stack([np.nan_to_num(found), np.isfinite(found).astype(float)], axis=1)


def recalls(at: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Per query (share of its relevant items among the first ``at``, 1): [N, 2]; of equal scores
    the mean over all their orders; zeros without a relevant item."""

    def share(searched: np.ndarray, mine: np.ndarray) -> float:
        above, equal = (searched > mine).sum(axis=1), (searched == mine).sum(axis=1)
        return float(np.clip((at - above) / equal, 0, 1).mean())

    return lambda targets, scores: _of_queries(targets, scores, share)


def precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (average precision over its relevant items, 1): [N, 2]; a place among equal scores
    is their mean one; zeros without a relevant item."""

    def precision(searched: np.ndarray, mine: np.ndarray) -> float:
        return float((_places(mine[:, 0], mine) / _places(searched, mine)).mean())

    return _of_queries(targets, scores, precision)


def _places(scores: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """The places [R] of some scores [R, 1] among all, from 1; of equals the mean one."""
    above, equal = (scores > mine).sum(axis=1), (scores == mine).sum(axis=1)
    places: np.ndarray = above + (equal + 1) / 2
    return places


def _of_queries(
    targets: np.ndarray, scores: np.ndarray, value: Callable[[np.ndarray, np.ndarray], float]
) -> np.ndarray:
    """Per query (value, 1) [N, 2] of the scores of what it searches, and of what is relevant
    [R, 1]; zeros without a relevant item."""
    counts = np.zeros((len(targets), 2))
    for row, (relevance, said) in enumerate(zip(targets, scores, strict=True)):
        mine = said[relevance > 0.5][:, None]
        if len(mine):
            counts[row] = value(said[~np.isnan(relevance)], mine), 1
    return counts
