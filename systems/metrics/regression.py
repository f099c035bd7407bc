"""Metrics of values [N, D], as functions of sums over clips (or frames)."""

from __future__ import annotations

import numpy as np


def moments(targets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Per row and output (1, t, v, t², v², t v): [N, D, 6]."""
    t, v = targets.astype(float), values.astype(float)
    return np.stack([np.ones_like(t), t, v, t * t, v * v, t * v], axis=-1)


def pcc_by_output(rows: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient of each output [D]; 0 of a constant."""
    _, _, var_t, var_v, cov = _centred(rows)
    scale = np.sqrt(var_t * var_v)
    return np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 1e-12)


def pcc_of_moments(rows: np.ndarray) -> float:
    """Pearson's correlation coefficient, mean over outputs."""
    return float(pcc_by_output(rows).mean())


def ccc_by_output(rows: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient of each output [D]."""
    mean_t, mean_v, var_t, var_v, cov = _centred(rows)
    scale = var_t + var_v + (mean_t - mean_v) ** 2
    return np.divide(2 * cov, scale, out=np.zeros_like(cov), where=scale > 1e-12)


def ccc_of_moments(rows: np.ndarray) -> float:
    """Lin's concordance correlation coefficient, mean over outputs."""
    return float(ccc_by_output(rows).mean())


def rmse_by_output(rows: np.ndarray) -> np.ndarray:
    """Root of the mean squared error of each output [D]."""
    n, _, _, tt, vv, tv = np.moveaxis(rows.sum(axis=0), -1, 0)
    error: np.ndarray = np.sqrt(np.maximum((tt - 2 * tv + vv) / n, 0))
    return error


def rmse_of_moments(rows: np.ndarray) -> float:
    """Root of the mean squared error, mean over outputs."""
    return float(rmse_by_output(rows).mean())


def _centred(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    n, t, v, tt, vv, tv = np.moveaxis(rows.sum(axis=0), -1, 0)
    mean_t, mean_v = t / n, v / n
    variances = (tt / n - mean_t**2, vv / n - mean_v**2)
    return mean_t, mean_v, *variances, tv / n - mean_t * mean_v
