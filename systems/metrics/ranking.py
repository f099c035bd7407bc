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

    def of_queries(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
        counts = np.zeros((len(targets), 2))
        for row, (relevance, said) in enumerate(zip(targets, scores, strict=True)):
            searched = said[~np.isnan(relevance)]
            mine = said[relevance > 0.5][:, None]
            if len(mine):
                above, equal = (searched > mine).sum(axis=1), (searched == mine).sum(axis=1)
                counts[row] = np.clip((at - above) / equal, 0, 1).mean(), 1
        return counts

    return of_queries


def precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (average precision over its relevant items, 1): [N, 2]."""
    relevant = _ranked(targets, scores)
    places = np.arange(1, relevant.shape[1] + 1)
    at = np.cumsum(relevant, axis=1) / places
    values = (at * relevant).sum(axis=1) / np.maximum(relevant.sum(axis=1), 1)
    return np.stack([values, np.ones(len(values))], axis=1)


def _ranked(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether the item at each rank is relevant: [query, item]; of equal scores the first."""
    searched = np.where(np.isnan(targets), -np.inf, scores)
    order = np.argsort(-searched, axis=1, kind="stable")
    return np.take_along_axis(targets, order, axis=1) > 0.5
