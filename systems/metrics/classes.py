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


def class_recall(counts: np.ndarray) -> np.ndarray:
    """Recall of each class [K]; NaN of a class without clips."""
    return _quotients(counts)


def places_of_truth(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per clip, in the place of its true class (worth, 1), elsewhere 0: [N, K, 2].

    The worth is 1, 1/2, 1/3 or 0 as the true class is first, second, third or later. Source: mAP@3
    of DCASE 2018 task 2. Of equal scores the class with the lower index comes first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    found = np.take_along_axis(targets, order, axis=1) > 0.5
    worth = (found / np.arange(1, found.shape[1] + 1)).sum(axis=1)
    there = targets > 0.5
    return np.stack([there * worth[:, None], there], axis=-1)


def mean_of_places(counts: np.ndarray) -> float:
    """The mean over clips of their worth; counts [N, K, 2]."""
    worth, clips = counts.sum(axis=1).sum(axis=0)
    return float(worth / max(clips, 1))


def places_by_class(counts: np.ndarray) -> np.ndarray:
    """The mean worth of each class's clips [K]; NaN of a class without clips."""
    return _quotients(counts)


def _quotients(counts: np.ndarray) -> np.ndarray:
    """Sums over clips, the first by the second [K]: of counts [N, K, 2]."""
    value, there = np.moveaxis(counts.sum(axis=0).astype(float), -1, 0)
    return np.divide(value, there, out=np.full(len(there), np.nan), where=there > 0)
