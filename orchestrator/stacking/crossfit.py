"""Cross-fitting: every clip is fused by a learner that was fitted on other groups' clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.data.dataset import LabelKind
from systems.data.stratify import cross_fitting_folds
from systems.kinds import kind
from systems.predictions import Predictions


def outer_folds(targets: Targets, seed: int) -> np.ndarray:
    """The cross-fitting fold [N] of each clip: groups stay whole, classes spread evenly."""
    return cross_fitting_folds(targets.strata(), targets.groups, seed)


def cross_fitted(
    fitted_on: Callable[[Members, Targets], Learner], members: Members, targets: Targets, seed: int
) -> Predictions:
    """Fuse every clip by what ``fitted_on(members, targets)`` makes of the other folds' clips."""
    masks = list(fold_masks(outer_folds(targets, seed)))
    parts = [
        fused(fitted_on(members.rows(~inside), targets.rows(~inside)), members.rows(inside),
              targets.kind)
        for inside in masks
    ]  # fmt: skip
    return in_order(parts, members.clip_ids)


def fold_masks(fold_of: np.ndarray) -> Iterator[np.ndarray]:
    """A mask [N] for each fold."""
    for fold in np.unique(fold_of):
        yield fold_of == fold


def fused(learner: Learner, members: Members, labels: LabelKind) -> Predictions:
    """What a fitted learner says: the dense answer to labels of a kind and, where it knows of time,
    events."""
    dense: dict[str, Any] = {kind(labels).dense: members.by_clip(learner.predict(members))}
    if members.lengths is not None:
        dense["frame_hop"] = min(members.frame_hops, default=0.0)
    return Predictions.of(
        members.clip_ids, members.classes, events=learner.events(members), **dense
    )


def in_order(parts: Sequence[Predictions], clip_ids: Sequence[str]) -> Predictions:
    """Folds' predictions as one, its rows in the order of ``clip_ids``."""
    whole = Predictions.concatenate(parts)
    place = {clip_id: row for row, clip_id in enumerate(whole.clip_ids)}
    return whole.rows([place[clip_id] for clip_id in clip_ids])
