"""Intervals: bootstrap over clips of metrics that are functions of per-clip counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

OfCounts = Callable[[np.ndarray], float]
DRAWS = 1000
_BLOCK = 1 << 22  # numbers that are held at once


class Interval(NamedTuple):
    """A value and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    counts: np.ndarray, metric: OfCounts, draws: int = DRAWS, seed: int = 0, *, sums: bool = True
) -> Interval:
    """Percentile interval of ``metric`` over resampled clips.

    Args:
        counts: per-clip counts [N, ...].
        metric: counts -> value.
        draws: resamples.
        seed: of the resampling.
        sums: whether the metric only sees the counts' sum over clips, which is quicker; else it
            gets the resampled rows themselves.
    """
    values = list(_values(counts, metric, draws, seed, sums))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(metric(counts), float(low), float(high))


class Difference(NamedTuple):
    """A paired difference, its 95 % interval and the share of draws in which it is not above 0."""

    value: float
    low: float
    high: float
    p_not_better: float


def paired_bootstrap(
    counts: np.ndarray,
    reference: np.ndarray,
    metric: OfCounts,
    draws: int = DRAWS,
    seed: int = 0,
    *,
    sums: bool = True,
    mode: str = "max",
) -> Difference:
    """``metric(counts) - metric(reference)`` over the same resampled clips.

    With ``mode`` ``min`` a draw is not better where the difference is not below 0.
    """
    ours = np.array(list(_values(counts, metric, draws, seed, sums)))
    differences = ours - np.array(list(_values(reference, metric, draws, seed, sums)))
    low, high = np.percentile(differences, [2.5, 97.5])
    worse = differences <= 0 if mode == "max" else differences >= 0
    share = float((1 + worse.sum()) / (1 + draws))
    return Difference(metric(counts) - metric(reference), float(low), float(high), share)


def _values(
    counts: np.ndarray, metric: OfCounts, draws: int, seed: int, sums: bool
) -> Iterator[float]:
    """The metric of each resample; the same clips for the same seed."""
    clips = len(counts)
    resamples = np.random.default_rng(seed).integers(clips, size=(draws, clips))
    if not sums:
        yield from (metric(counts[rows]) for rows in resamples)
        return
    # A resample's sum is a weighted sum: one matrix product instead of a copy for each draw.
    flat = counts.reshape(clips, -1).astype(float)
    block = max(1, _BLOCK // max(clips, flat.shape[1]))
    for start in range(0, draws, block):
        taken = resamples[start : start + block]
        weights = np.stack([np.bincount(rows, minlength=clips) for rows in taken]).astype(float)
        for total in weights @ flat:
            yield metric(total.reshape(1, *counts.shape[1:]))
