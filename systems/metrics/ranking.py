"""Metrics of a ranking: relevance and scores [query, item]."""

from __future__ import annotations

import numpy as np


def mean_of_pairs(counts: np.ndarray) -> np.ndarray:
    """The mean [...] of per-query values: counts [..., N, 2] of value and 1."""
    value, queries = np.moveaxis(counts.sum(axis=-2), -1, 0)
    mean: np.ndarray = value / np.maximum(queries, 1)
    return mean


def reciprocal_ranks(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (1 / rank of its first relevant item, 1): [N, 2]; 0 without a relevant item."""
    relevant = _ranked(targets, scores)
    first = relevant.argmax(axis=1) + 1
    values = np.where(relevant.any(axis=1), 1.0 / first, 0.0)
    return np.stack([values, np.ones(len(values))], axis=1)


def precisions(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per query (average precision over its relevant items, 1): [N, 2]."""
    relevant = _ranked(targets, scores)
    places = np.arange(1, relevant.shape[1] + 1)
    at = np.cumsum(relevant, axis=1) / places
    values = (at * relevant).sum(axis=1) / np.maximum(relevant.sum(axis=1), 1)
    return np.stack([values, np.ones(len(values))], axis=1)


def _ranked(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether the item at each rank is relevant: [query, item]; of equal scores the first."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(targets, order, axis=1) > 0.5
