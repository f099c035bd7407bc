"""Intervals: bootstrap over clips of metrics that are functions of summed per-clip counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

OfCounts = Callable[[np.ndarray], float]


class Interval(NamedTuple):
    """A value and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(counts: np.ndarray, metric: OfCounts, draws: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of ``metric`` over resampled clips.

    Args:
        counts: per-clip counts [N, ...]; ``metric`` sums over the first axis.
        metric: counts -> value.
    """
    values = [metric(counts[rows]) for rows in _resamples(len(counts), draws, seed)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(metric(counts), float(low), float(high))


class Difference(NamedTuple):
    """A paired difference, its 95 % interval and the share of draws in which it is not above 0."""

    value: float
    low: float
    high: float
    p_not_better: float


def paired_bootstrap(
    counts: np.ndarray, reference: np.ndarray, metric: OfCounts, draws: int = 1000, seed: int = 0
) -> Difference:
    """``metric(counts) - metric(reference)`` over the same resampled clips."""
    differences = np.array(
        [metric(counts[rows]) - metric(reference[rows])
         for rows in _resamples(len(counts), draws, seed)]
    )  # fmt: skip
    low, high = np.percentile(differences, [2.5, 97.5])
    share = float((1 + (differences <= 0).sum()) / (1 + draws))
    return Difference(metric(counts) - metric(reference), float(low), float(high), share)


def _resamples(clips: int, draws: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(clips, size=(draws, clips))
