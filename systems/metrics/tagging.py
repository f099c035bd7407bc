"""Clip-level tagging metrics."""

from __future__ import annotations

from typing import Any

import numpy as np


def tag_counts(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Per clip and class the counts (true positive, false positive, false negative): [N, K, 3]."""
    t, d = targets > 0.5, decisions > 0.5
    return np.stack([t & d, ~t & d, t & ~d], axis=-1).astype(np.int64)


def f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """F1 of summed counts [..., 3]: ``2 tp / (2 tp + fp + fn)``; 0 where nothing is there."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, float), -1, 0)
    f1: np.ndarray = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    return f1


def f1_of_classes(counts: np.ndarray) -> np.ndarray:
    """F1 of each class [K] of per-clip counts [N, K, 3]."""
    return f1_of_counts(counts.sum(axis=0))


def macro_f1_of_counts(counts: np.ndarray) -> float:
    """Mean over classes of the F1 of per-clip counts [N, K, 3]."""
    return float(f1_of_classes(counts).mean())


def class_f1(targets: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """F1 of each class [K] at a threshold; scores equal to it are negative."""
    return f1_of_counts(tag_counts(targets, scores > threshold).sum(axis=0))


def macro_f1(targets: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of F1 at threshold 0.5; targets and scores [N, K]."""
    return float(class_f1(targets, scores).mean())


def micro_f1_of_counts(counts: np.ndarray) -> float:
    """F1 of the counts [N, K, 3] summed over clips and classes."""
    return float(f1_of_counts(counts.sum(axis=(0, 1))))


def rows_of(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Targets and scores as rows [N, 2, K], for metrics that are no function of sums."""
    return np.stack([targets, scores], axis=1).astype(float)


def average_precision_by_class(rows: np.ndarray) -> np.ndarray:
    """Average precision of each class [K], NaN of one without positive rows; rows [N, 2, K]."""
    from sklearn.metrics import average_precision_score

    return _by_class(rows, average_precision_score, both=False)


def average_precision(rows: np.ndarray) -> float:
    """Mean over classes with positive rows of the average precision; rows [N, 2, K]."""
    return _mean_of_there(average_precision_by_class(rows))


def auc_by_class(rows: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class [K], NaN of one without rows of both kinds."""
    from sklearn.metrics import roc_auc_score

    return _by_class(rows, roc_auc_score, both=True)


def auc(rows: np.ndarray) -> float:
    """Mean over classes with rows of both kinds of the area under the ROC curve; rows [N, 2, K]."""
    return _mean_of_there(auc_by_class(rows))


def _by_class(rows: np.ndarray, metric: Any, both: bool) -> np.ndarray:
    targets, scores = rows[:, 0] > 0.5, rows[:, 1]
    positive = targets.sum(axis=0)
    usable = (positive > 0) & ((positive < len(rows)) | (not both))
    values = np.full(targets.shape[1], np.nan)
    for k in np.flatnonzero(usable):
        values[k] = metric(targets[:, k], scores[:, k])
    return values


def _mean_of_there(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else 0.0
