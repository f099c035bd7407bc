"""Clip-level tagging metrics.

Counts are [..., N, K, 3], and values are of their sum over clips: [...].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from systems.metrics.averages import mean_over_classes, quotients


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
    """F1 of each class [..., K]; NaN of one that no clip has."""
    summed = counts.sum(axis=-3)
    return np.where(summed[..., 0] + summed[..., 2] > 0, f1_of_counts(summed), np.nan)


def macro_f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that some clip has."""
    return mean_over_classes(f1_of_classes(counts))


def class_f1(targets: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """F1 of each class [K] at a threshold; scores equal to it are negative."""
    return f1_of_classes(tag_counts(targets, scores > threshold))


def macro_f1(targets: np.ndarray, scores: np.ndarray) -> float:
    """Mean over classes of F1 at threshold 0.5; targets and scores [N, K]."""
    return float(mean_over_classes(class_f1(targets, scores)))


def micro_f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """F1 of the counts summed over clips and classes."""
    return f1_of_counts(counts.sum(axis=(-3, -2)))


def rows_of(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Targets and scores as rows [N, 2, K], for metrics that are no function of sums."""
    return np.stack([targets, scores], axis=1).astype(float)


def average_precision_by_class(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of each class [..., K] of rows [N, 2, K]; NaN of one that no row has.

    ``weights`` [..., N]: how often each row counts; ``None``: once. Of equal scores all are found
    at once, as scikit-learn has it.
    """
    values = []
    for positive, others in _by_score(rows, weights):
        hits, found = (np.cumsum(one[..., ::-1], axis=-1) for one in (positive, positive + others))
        precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
        values.append(quotients((positive[..., ::-1] * precision).sum(axis=-1), hits[..., -1]))
    return np.stack(values, axis=-1)


def average_precision(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over the classes that some row has of the average precision."""
    return mean_over_classes(average_precision_by_class(rows, weights))


def auc_by_class(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of each class [..., K] of rows [N, 2, K]; NaN of one that no row, or
    every row, has. ``weights`` [..., N]: how often each row counts; ``None``: once."""
    values = []
    for positive, others in _by_score(rows, weights):
        below = np.cumsum(others, axis=-1) - others / 2  # equal scores are half below
        pairs = positive.sum(axis=-1) * others.sum(axis=-1)
        values.append(quotients((positive * below).sum(axis=-1), pairs))
    return np.stack(values, axis=-1)


def auc(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over classes with rows of both kinds of the area under the ROC curve."""
    return mean_over_classes(auc_by_class(rows, weights))


def _by_score(
    rows: np.ndarray, weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each class the weight of positive and of other rows at each distinct score [..., V],
    rising."""
    if weights is None:
        weights = np.ones(len(rows))
    for targets, scores in zip(rows[:, 0].T > 0.5, rows[:, 1].T, strict=True):
        order = np.argsort(scores, kind="stable")
        first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
        ordered, there = weights[..., order], targets[order]
        yield (
            np.add.reduceat(ordered * there, first, axis=-1),
            np.add.reduceat(ordered * ~there, first, axis=-1),
        )
