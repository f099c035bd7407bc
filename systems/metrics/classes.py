"""Metrics of one class a clip: the decision is the class with the largest score.

Counts are [..., N, K, 2], and values are of their sum over clips: [...].
"""

from __future__ import annotations

import numpy as np

from systems.metrics.averages import mean_over_classes, quotients


def hits(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per clip and true class (right, there): [N, K, 2]; targets are one-hot [N, K]."""
    right = targets.argmax(axis=1) == scores.argmax(axis=1)
    there = targets > 0.5
    return np.stack([there & right[:, None], there], axis=-1).astype(np.int64)


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


def mean_of_clips(counts: np.ndarray) -> np.ndarray:
    """The mean over clips of what they are worth: the share that is right, or their MAP@3."""
    worth, clips = np.moveaxis(counts.sum(axis=(-3, -2)), -1, 0)
    mean: np.ndarray = worth / np.maximum(clips, 1)
    return mean


def mean_by_class(counts: np.ndarray) -> np.ndarray:
    """The same of each class's clips [..., K], such as its recall; NaN of one without clips."""
    worth, clips = np.moveaxis(counts.sum(axis=-3).astype(float), -1, 0)
    return quotients(worth, clips)


def uar_of_hits(counts: np.ndarray) -> np.ndarray:
    """Unweighted average recall: the mean over classes with clips of their recall."""
    return mean_over_classes(mean_by_class(counts))
