"""Intervals: bootstrap over groups of clips of metrics that are functions of per-clip counts.

Clips of one group (speaker, place, recording) are alike, so whole groups are drawn; clips that are
each their own group are drawn one by one. Percentiles of few draws' units lie too near: their
levels are those of the t distribution ("expanded percentiles", Hesterberg 2015, Section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm, t

# Counts [..., N, ...] -> values [...]; of a metric that is no function of sums (rows [N, ...],
# weights [..., N]) -> values [...].
OfCounts = Callable[..., Any]
DRAWS = 1000
TAIL = 0.025  # on each side of an interval
_BLOCK = 1 << 22  # numbers that are held at once


class Interval(NamedTuple):
    """A value and the bounds of its 95 % interval; ``None`` where there is one group alone."""

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A paired difference, its 95 % interval, and p of that it is not above 0."""

    value: float
    low: float | None
    high: float | None
    p_not_better: float


def bootstrap(
    counts: np.ndarray, metric: OfCounts, groups: Sequence[str] | None = None,
    draws: int = DRAWS, seed: int = 0, *, sums: bool = True,
) -> Interval:  # fmt: skip
    """The interval of ``metric`` over resampled groups.

    Args:
        counts: per-clip counts [N, ...].
        metric: counts -> value.
        groups: of each clip, N; ``None``: each clip is its own.
        draws: resamples.
        seed: of the resampling.
        sums: whether the metric only sees the counts' sum over clips; else it weighs rows.
    """
    found = resampled([counts], metric, groups, draws, seed, sums=sums)[0]
    low, high = _bounds(found, group_count(groups, len(counts)))
    return Interval(float(metric(counts)), low, high)


def paired_bootstrap(
    counts: np.ndarray, reference: np.ndarray, metric: OfCounts,
    groups: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0, *,
    sums: bool = True, mode: str = "max",
) -> Difference:  # fmt: skip
    """``metric(counts) - metric(reference)`` over the same resampled groups.

    p is the share of draws that are not better, at the level that the t distribution has for it.
    With ``mode`` ``min`` a draw is not better where the difference is not below 0.
    """
    ours, theirs = resampled([counts, reference], metric, groups, draws, seed, sums=sums)
    units = group_count(groups, len(counts))
    low, high = _bounds(ours - theirs, units)
    worse = ours <= theirs if mode == "max" else ours >= theirs
    share = float((1 + worse.sum()) / (1 + draws))
    value = float(metric(counts) - metric(reference))
    return Difference(value, low, high, _widened_p(share, units))


def group_count(groups: Sequence[str] | None, clips: int) -> int:
    """How many units are drawn: groups, or clips where they have none."""
    return clips if groups is None else len(set(groups))


def least_p(units: int, draws: int = DRAWS) -> float:
    """The smallest p that so many groups and draws can give."""
    return _widened_p(1 / (1 + draws), units)


def _bounds(values: np.ndarray, units: int) -> tuple[float, float] | tuple[None, None]:
    if units < 2:
        return None, None
    tail = norm.sf(np.sqrt(units / (units - 1)) * t.isf(TAIL, units - 1))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _widened_p(share: float, units: int) -> float:
    """p of a share of draws: of its normal quantile in the wider t distribution."""
    if units < 2:
        return 1.0
    return float(t.cdf(np.sqrt((units - 1) / units) * norm.ppf(share), units - 1))


def resampled(
    all_counts: Sequence[np.ndarray], metric: OfCounts, groups: Sequence[str] | None,
    draws: int = DRAWS, seed: int = 0, *, sums: bool = True,
) -> np.ndarray:  # fmt: skip
    """The metric [C, draws] of each of C counts in each resample of the same groups."""
    clips, shape = len(all_counts[0]), all_counts[0].shape[1:]
    names = range(clips) if groups is None else groups
    place = {name: row for row, name in enumerate(dict.fromkeys(names))}
    group_of = np.array([place[name] for name in names])
    # A resample's sum is a weighted sum of the groups' sums: one matrix product for many draws.
    summed = [_summed(counts, group_of, len(place)) for counts in all_counts] if sums else []
    found = []
    size = max(clips, int(np.prod(shape)))
    for weights in _weights(len(place), draws, seed, max(1, _BLOCK // size)):
        if sums:
            totals = [(weights @ one).reshape(-1, 1, *shape) for one in summed]
            found.append([metric(one) for one in totals])
        else:
            found.append([metric(counts, weights[:, group_of]) for counts in all_counts])
    return np.concatenate(found, axis=1)


def _summed(counts: np.ndarray, group_of: np.ndarray, groups: int) -> np.ndarray:
    """The counts' sum over the clips of each group [G, ...], flat."""
    flat = counts.reshape(len(counts), -1).astype(float)
    summed = np.zeros((groups, flat.shape[1]))
    np.add.at(summed, group_of, flat)
    return summed


def _weights(units: int, draws: int, seed: int, block: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn in each resample [B, U], ``block`` resamples at a time."""
    resamples = np.random.default_rng(seed).integers(units, size=(draws, units))
    for start in range(0, draws, block):
        taken = resamples[start : start + block]
        flat = taken + units * np.arange(len(taken))[:, None]
        yield np.bincount(flat.ravel(), minlength=taken.size).reshape(taken.shape).astype(float)
