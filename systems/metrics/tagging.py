"""Clip-level tagging metrics."""

from __future__ import annotations

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


def macro_f1_of_counts(counts: np.ndarray) -> float:
    """Mean over classes of the F1 of per-clip counts [N, K, 3]."""
    return float(f1_of_counts(counts.sum(axis=0)).mean())


def class_f1(targets: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """F1 of each class [K] at a threshold; scores equal to it are negative."""
    return f1_of_counts(tag_counts(targets, scores > threshold).sum(axis=0))


def macro_f1(targets: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of F1 at threshold 0.5; targets and scores [N, K]."""
    return float(class_f1(targets, scores).mean())
