"""Metrics of one class a clip: the decision is the class with the largest score."""

from __future__ import annotations

import numpy as np


def hits(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per clip and true class (right, there): [N, K, 2]; targets are one-hot [N, K]."""
    right = targets.argmax(axis=1) == scores.argmax(axis=1)
    there = targets > 0.5
    return np.stack([there & right[:, None], there], axis=-1).astype(np.int64)


def accuracy_of_hits(counts: np.ndarray) -> float:
    """The share of clips that are decided right; counts [N, K, 2]."""
    right, there = counts.sum(axis=(0, 1))
    return float(right / max(there, 1))


def uar_of_hits(counts: np.ndarray) -> float:
    """Unweighted average recall: the mean over classes with clips of their recall."""
    right, there = np.moveaxis(counts.sum(axis=0), -1, 0)
    present = there > 0
    return float((right[present] / there[present]).mean()) if present.any() else 0.0


def precision_at_3(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per clip (1, 1/2, 1/3 or 0 as the true class is first, second, third or later; 1): [N, 2].

    Source: mAP@3 of DCASE 2018 task 2. Of equal scores the class with the lower index comes first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    found = np.take_along_axis(targets, order, axis=1) > 0.5
    worth = (found / np.arange(1, found.shape[1] + 1)).sum(axis=1)
    return np.stack([worth, np.ones(len(worth))], axis=1)


def mean_of_pairs(counts: np.ndarray) -> float:
    """The mean of per-clip values: counts [N, 2] of value and 1."""
    value, clips = counts.sum(axis=0)
    return float(value / max(clips, 1))
