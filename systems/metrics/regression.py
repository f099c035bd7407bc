"""Metrics of values [N, D] and of series: functions of sums over clips, or over a clip's steps.

Counts are moments [..., N, D, 6], and values are of their sum over clips: [...].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from systems.kinds import Truth, kind
from systems.kinds.series import by_clip, joined


def moments(targets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Per row and output (1, t, v, t², v², t v): [N, D, 6]."""
    t, v = targets.astype(float), values.astype(float)
    return np.stack([np.ones_like(t), t, v, t * t, v * v, t * v], axis=-1)


def moments_of_clips(truth: Truth, said: Any) -> np.ndarray:
    """Moments of each clip [N, D, 6]: of its values, or summed over the steps of its series."""
    if not kind(truth.kind).ragged:
        return moments(truth.values, said)
    steps = moments(truth.values, joined(truth, said))
    return np.stack([clip.sum(axis=0) for clip in by_clip(truth, steps)])


def pcc_by_output(counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient of each output [..., D]; 0 of a constant."""
    return _pcc(counts.sum(axis=-3))


def pcc_of_moments(counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient, mean over outputs."""
    mean: np.ndarray = pcc_by_output(counts).mean(axis=-1)
    return mean


def pooled_pcc_of_moments(counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient over all clips and outputs together; 0 of a constant."""
    return _pcc(counts.sum(axis=(-3, -2)))


def mean_pcc_by_output(clips: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Pearson's correlation coefficient of each output [..., D], mean over clips [N, D, 6].

    ``weights`` [..., N]: how often each clip counts; ``None``: once.
    """
    if weights is None:
        weights = np.ones(len(clips))
    mean: np.ndarray = weights @ _pcc(clips) / weights.sum(axis=-1, keepdims=True)
    return mean


def mean_pcc_of_moments(clips: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Pearson's correlation coefficient of each clip, mean over clips and outputs."""
    mean: np.ndarray = mean_pcc_by_output(clips, weights).mean(axis=-1)
    return mean


def ccc_by_output(counts: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient of each output [..., D]."""
    mean_t, mean_v, var_t, var_v, cov = _centred(counts.sum(axis=-3))
    scale = var_t + var_v + (mean_t - mean_v) ** 2
    return np.divide(2 * cov, scale, out=np.zeros_like(cov), where=scale > 1e-12)


def ccc_of_moments(counts: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient, mean over outputs."""
    mean: np.ndarray = ccc_by_output(counts).mean(axis=-1)
    return mean


def rmse_by_output(counts: np.ndarray) -> np.ndarray:
    """Root of the mean squared error of each output [..., D]."""
    n, _, _, tt, vv, tv = np.moveaxis(counts.sum(axis=-3), -1, 0)
    error: np.ndarray = np.sqrt(np.maximum((tt - 2 * tv + vv) / n, 0))
    return error


def rmse_of_moments(counts: np.ndarray) -> np.ndarray:
    """Root of the mean squared error, mean over outputs."""
    mean: np.ndarray = rmse_by_output(counts).mean(axis=-1)
    return mean


def _pcc(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient [...] of sums [..., 6]; 0 of a constant."""
    _, _, var_t, var_v, cov = _centred(sums)
    scale = np.sqrt(np.maximum(var_t, 0) * np.maximum(var_v, 0))
    return np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 1e-12)


def _centred(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means, variances and covariance [...] of sums [..., 6]."""
    n, t, v, tt, vv, tv = np.moveaxis(sums, -1, 0)
    mean_t, mean_v = t / n, v / n
    variances = (tt / n - mean_t**2, vv / n - mean_v**2)
    return mean_t, mean_v, *variances, tv / n - mean_t * mean_v
