"""The exact threshold of each class, and scores bent so that it comes to lie at one half.

The macro F1 over classes separates: each class's optimum is found by one scan over its sorted
scores.
"""

from __future__ import annotations

import numpy as np


def best_thresholds(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The threshold [K] of each class with the largest F1 of ``scores > threshold``.

    Between two neighbouring scores any bound decides the same: it lies half-way. Of equal optima
    the bound nearest to 0.5 is taken; a class without positive rows keeps 0.5.

    Args:
        scores: [N, K] in [0, 1].
        targets: [N, K] in {0, 1}.
    """
    return np.array([best_threshold(s, t) for s, t in zip(scores.T, targets.T, strict=True)])


def best_threshold(scores: np.ndarray, targets: np.ndarray) -> float:
    """The threshold of one class, from scores and targets [N]."""
    positive = targets > 0.5
    if not positive.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positive.sum())
    above = np.flatnonzero(last_of_ties & (f1 >= f1[last_of_ties].max() - 1e-12))
    bounds = np.array([_between(ranked, int(place)) for place in above])
    return float(bounds[np.argmin(np.abs(bounds - 0.5))])


def _between(ranked: np.ndarray, place: int) -> float:
    """A bound below the score at this place and not below the next: 0.5 where that fits."""
    high = ranked[place]
    low = ranked[place + 1] if place + 1 < len(ranked) else min(0.0, high - 1e-6)
    if low <= 0.5 < high:
        return 0.5
    middle = (low + high) / 2
    return float(middle if low <= middle < high else low)


def bent(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Scores [N, K] in [0, 1], bent so that each class's threshold [K] comes to lie at 0.5."""
    t = np.clip(thresholds, 1e-9, 1 - 1e-9)
    above = 0.5 + 0.5 * (scores - t) / (1 - t)
    return np.where(scores > t, np.maximum(above, np.nextafter(0.5, 1)), 0.5 * scores / t)
