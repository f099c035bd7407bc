"""Emergence of the sources of a scene from one another, and thresholds above which one is heard.

urban_source_presence, sections 2.2 and 3.3. Levels are in dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from systems.frontend.third_octave import energy_sum

BELOW_LOUDEST = (
    80.0  # dB from the loudest frame of a scene to its floor, where nothing is calibrated
)
NEVER = -np.inf  # the emergence of a source that is silent


def floor_of(levels: np.ndarray, calibration: float | None) -> float:
    """What counts as silence beside broadband levels [T] of a scene: 0 dB SPL, or 80 dB below its
    loudest frame; in dB of the levels, which are relative to an RMS of 1."""
    return float(levels.max()) - BELOW_LOUDEST if calibration is None else -calibration


def emergence(levels: np.ndarray, floor: float) -> np.ndarray:
    """How far each source lies above all others together, of levels [S, F, T].

    The others are no lower than the floor. A source that is itself below it does not emerge: were
    both raised to the floor, two that are silent would be level, which thresholds below 0 dB take
    for presence.
    """
    others = np.stack([
        energy_sum(np.delete(levels, source, axis=0), axis=0) for source in range(len(levels))
    ])  # fmt: skip
    above = levels - np.maximum(others, floor)
    found: np.ndarray = np.where(levels < floor, NEVER, above)
    return found


def mean_emergence(of: np.ndarray, alpha: float) -> np.ndarray:
    """The mean [..., T] over the bands that emerge by more than ``alpha`` of emergence [..., F, T];
    minus infinity where none does."""
    there = of > alpha
    count = there.sum(axis=-2)
    total = np.where(there, of, 0.0).sum(axis=-2)
    found: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), NEVER)
    return found


class Presence(RegressorMixin, BaseEstimator):
    """The share of frames in which a source is heard, of emergence [S, F, T] of each scene.

    It is where the mean emergence of the bands above ``alpha`` is above ``beta`` (``None``: where
    any band is above ``alpha``), in dB. Thresholds that are given as ranges (low, high) are fitted:
    of all in steps of ``step`` dB those whose shares correlate best (Pearson) with the targets
    [N, S], pooled over scenes and sources; of equals the smallest ``|alpha|``, then ``|beta|``.
    """

    def __init__(self, alpha: Any = -6.0, beta: Any = -5.0, step: float = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta
        self.step = step

    def fit(self, x: Sequence[np.ndarray], y: np.ndarray) -> Self:
        """Choose the thresholds; where all shares are the same, the first of the order above."""
        y, best = np.asarray(y, float).ravel(), -np.inf
        for alpha in _nearest_first(self.alpha, self.step):
            means = [mean_emergence(one, alpha) for one in x]
            # beta counts above alpha alone, since the mean of what is above alpha is.
            betas = _nearest_first(self.beta, self.step, alpha)
            for beta in betas:
                shares = np.stack([_shares(one, beta) for one in means]).ravel()
                r = _correlation(shares, y)
                if r > best:
                    self.alpha_, self.beta_, self.r_, best = alpha, beta, r, r
        if not np.isfinite(best):
            self.alpha_ = _nearest_first(self.alpha, self.step)[0]
            self.beta_ = _nearest_first(self.beta, self.step, self.alpha_)[0]
            self.r_ = 0.0
        return self

    @property
    def chosen(self) -> dict[str, float | None]:
        """The thresholds in dB, and the correlation that they reached on what was fitted."""
        return {"alpha": self.alpha_, "beta": self.beta_, "r": self.r_}

    def predict(self, x: Sequence[np.ndarray]) -> np.ndarray:
        """The shares [N, S], 0 to 1."""
        return np.stack([_shares(mean_emergence(one, self.alpha_), self.beta_) for one in x])


def _shares(means: np.ndarray, beta: float | None) -> np.ndarray:
    found: np.ndarray = (means > (NEVER if beta is None else beta)).mean(axis=-1)
    return found


def _nearest_first(asked: Any, step: float, least: float = NEVER) -> list[Any]:
    """A threshold, or those of a range that are not below ``least``, the nearest to 0 dB first."""
    if asked is None or isinstance(asked, int | float):
        return [asked]
    low, high = asked
    values = low + step * np.arange(int((high - low) / step + 1e-6) + 1)
    found = [float(v) for v in values if v >= least] or [float(high)]
    return sorted(found, key=abs)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r; minus infinity of a constant."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else NEVER


class AsItIs(RegressorMixin, BaseEstimator):
    """Features [N, D] that are the answer: there is nothing to fit."""

    def fit(self, x: Any, y: Any) -> Self:
        return self

    def predict(self, x: Any) -> np.ndarray:
        """The features."""
        return np.asarray(x, float)
