"""Scores of rows by an epoch that other rows chose.

A training is best at some epoch on the rows that it is scored on; that it is best there is chance
in part. So each row is scored by an epoch that others chose: of several folds the other folds, of
one the other half of its clips. By this trials are ranked, and members and meta-learners judged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np

from systems.data.dataset import rows_of_clips

# (fold, its scores after an epoch, the clips [N] of it that judge; ``None``: all) -> what they are
# worth, more being better; ``None`` where none of these clips counts.
Worth = Callable[[int, np.ndarray, np.ndarray | None], float | None]


def crossed_scores(
    epochs: Sequence[np.ndarray], best: Sequence[int], keeps: int, worth: Worth,
    halves: np.ndarray | None, lengths: Sequence[int] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """Of each fold the scores [N, K] of its clips, each by an epoch that other rows chose.

    Args:
        epochs: of each fold the scores after every epoch [E, N, K], of a series [E, ΣT, D].
        best: of each fold its best epoch, from 1: a fold is scored by the others' median.
        keeps: how many epochs predict together.
        worth: of a fold's scores.
        halves: [N] the half of each clip where there is one fold; ``None``: they have none.
        lengths: then, of a series, T of each clip.
    """
    if keeps > 1:
        return _means(epochs, keeps, worth)
    if len(epochs) == 1:
        return [_by_other_half(epochs[0], worth, halves, lengths)]
    chosen = [
        round(statistics.median(b for other, b in enumerate(best) if other != fold))
        for fold in range(len(best))
    ]
    return [e[min(step, len(e)) - 1] for e, step in zip(epochs, chosen, strict=True)]


def _by_other_half(
    epochs: np.ndarray, worth: Worth, halves: np.ndarray | None, lengths: Sequence[int] | None
) -> np.ndarray:
    """Each half by the epoch that is best on the other; by the last where that cannot choose."""
    out = epochs[-1].copy()
    if halves is None:
        return out
    for half in (0, 1):
        worths = [worth(0, scores, halves != half) for scores in epochs]
        known = [w for w in worths if w is not None]
        if len(known) == len(epochs):
            rows = rows_of_clips(np.flatnonzero(halves == half), lengths)
            out[rows] = epochs[int(np.argmax(known))][rows]
    return out


def _means(epochs: Sequence[np.ndarray], keeps: int, worth: Worth) -> list[np.ndarray]:
    """The mean scores of the ``keeps`` epochs that are best on the rows of other folds; of a single
    fold they are its last ones, which no row chose."""
    if len(epochs) == 1:
        return [np.asarray(epochs[0][-keeps:].mean(axis=0))]
    shared = min(map(len, epochs))
    values = np.array([
        [worth(fold, one[epoch], None) for epoch in range(shared)]
        for fold, one in enumerate(epochs)
    ], float)  # fmt: skip
    parts = []
    for fold, one in enumerate(epochs):
        others = np.delete(values, fold, axis=0).mean(axis=0)
        parts.append(one[np.argsort(-others, kind="stable")[:keeps]].mean(axis=0))
    return parts
