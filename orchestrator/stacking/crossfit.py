"""Cross-fitting: every row is fused by a learner that was fitted on other groups' rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.data.splits import counted_apart
from systems.data.stratify import cross_fitting_folds
from systems.predictions import Predictions


def outer_folds(targets: Targets, seed: int) -> np.ndarray:
    """The cross-fitting fold [N] of each row: groups stay whole, classes spread evenly."""
    values = targets.values if targets.says_tags else np.zeros((len(targets.values), 1))
    return cross_fitting_folds(counted_apart(values, targets.judged), targets.groups, seed)


def cross_fitted(
    fitted_on: Callable[[Members, Targets], Learner], members: Members, targets: Targets, seed: int
) -> Predictions:
    """Fuse every row by what ``fitted_on(members, targets)`` makes of the other folds' rows."""
    masks = list(fold_masks(outer_folds(targets, seed)))
    parts = [
        fused(fitted_on(members.rows(~inside), targets.rows(~inside)), members.rows(inside))
        for inside in masks
    ]
    return in_order(parts, members.clip_ids)


def fold_masks(fold_of: np.ndarray) -> Iterator[np.ndarray]:
    """A mask [N] for each fold."""
    for fold in np.unique(fold_of):
        yield fold_of == fold


def fused(learner: Learner, members: Members) -> Predictions:
    """What a fitted learner says: clip scores [N, K] and, where it knows of time, events."""
    return Predictions.of(
        members.clip_ids,
        members.classes,
        clip_scores=learner.predict(members),
        events=learner.events(members),
    )


def in_order(parts: Sequence[Predictions], clip_ids: Sequence[str]) -> Predictions:
    """Folds' predictions as one, its rows in the order of ``clip_ids``."""
    whole = Predictions.concatenate(parts)
    place = {clip_id: row for row, clip_id in enumerate(whole.clip_ids)}
    order = [place[clip_id] for clip_id in clip_ids]
    assert whole.clip_scores is not None
    events = None if whole.events is None else tuple(whole.events[row] for row in order)
    return Predictions.of(
        clip_ids, whole.classes, clip_scores=whole.clip_scores[order], events=events
    )
