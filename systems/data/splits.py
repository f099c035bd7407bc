"""Splits: who trains, who validates. The official protocol where there is one, else folds.

A validation fold never shares a group (speaker, location, recording) with its training clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from systems.data.dataset import Clip, ClipSet, Dataset, LabelKind, Labels
from systems.errors import UserError
from systems.kinds import kind

FOLDS = 5
# One network's macro F1 on 12 validation clips has a standard deviation of 0.07 from the split
# alone: below this many validation clips the search scores all folds, not one.
ENOUGH_VALIDATION_CLIPS = 200


@dataclass(frozen=True)
class Fold:
    """Clip ids that train and that validate."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """All folds, how many of them the search scores, and the roles that come without labels.

    ``notes`` name the classes that some fold cannot validate.
    """

    protocol: str
    folds: tuple[Fold, ...]
    searched: int
    unlabelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[str, ...]:
        """Every clip whose labels the search may see, once."""
        first = self.folds[0]
        return tuple(dict.fromkeys((*first.train, *first.validation)))


@dataclass(frozen=True)
class TrainingData:
    """What one training may see.

    ``validation`` is ``None`` in a refit on all training data. Clips of other roles come without
    targets. ``classes`` are in the order of the columns of every target and score. ``metric`` names
    what the validation part is scored by. ``halves`` [N] deals the validation clips, whole groups
    at a time, into 0 and 1: each half may choose an epoch for the other. ``kind`` is that of the
    labels: by it scores become decisions. ``label_hop``: s from step to step of a series; 0 where
    labels are of whole clips.
    """

    classes: tuple[str, ...]
    labelled: ClipSet
    validation: ClipSet | None
    unlabelled: Mapping[str, ClipSet] = field(default_factory=dict)
    metric: str = "clip_macro_f1"
    halves: np.ndarray | None = None
    kind: LabelKind = "tags"
    label_hop: float = 0.0


def make_splits(dataset: Dataset, seed: int) -> Splits:
    """The official training and validation part, the user's own folds, or five made ones.

    Made folds are group-disjoint and stratified.

    Raises:
        UserError: a class that some fold has no training clip of, too few groups, or own folds that
            leave a clip out or split a group.
    """
    ids = tuple(clip.clip_id for clip in dataset.role("labelled"))
    targets = strata(dataset, ids)
    missing = [dataset.classes[k] for k in np.flatnonzero(targets.sum(0) == 0)]
    if missing:
        raise UserError(f"{dataset.name}: no training clip of class {', '.join(missing)}.")
    folds: tuple[Fold, ...]
    if dataset.official_validation:
        validation = tuple(c.clip_id for c in dataset.part(dataset.official_validation))
        protocol, folds = "official", (Fold(ids, validation),)
    elif dataset.folds is not None:
        protocol, folds = "own folds", _own_folds(dataset, ids)
    else:
        groups = [clip.group for clip in dataset.role("labelled")]
        assigned = stratified_groups(targets, groups, FOLDS, seed)
        protocol, folds = "folds", _folds(ids, assigned.tolist())
    _check_folds(dataset, folds, targets)
    enough = min(len(fold.validation) for fold in folds) >= ENOUGH_VALIDATION_CLIPS
    return Splits(
        protocol,
        folds,
        searched=1 if enough else len(folds),
        unlabelled={
            role: tuple(c.clip_id for c in dataset.role(role))
            for role in ("unlabelled", "out_of_domain")
        },
        notes=_unvalidated(dataset, folds),
    )


def _folds(ids: Sequence[str], assigned: Sequence[Any]) -> tuple[Fold, ...]:
    """A fold for each name in ``assigned`` [N], in sorted order."""
    return tuple(
        Fold(
            tuple(i for i, fold in zip(ids, assigned, strict=True) if fold != name),
            tuple(i for i, fold in zip(ids, assigned, strict=True) if fold == name),
        )
        for name in sorted(set(assigned))
    )


def _own_folds(dataset: Dataset, ids: Sequence[str]) -> tuple[Fold, ...]:
    assert dataset.folds is not None
    faults = own_fold_faults(dataset.role("labelled"), dataset.folds)
    if faults:
        lines = "\n  ".join(f"{clip_id}: {why}" for clip_id, why in faults)
        raise UserError(f"{dataset.name}: own folds that cannot be used:\n  {lines}")
    return _folds(ids, [dataset.folds[i] for i in ids])


def own_fold_faults(clips: Sequence[Clip], folds: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is wrong with a user's folds of these training clips: clip ids and why."""
    faults: list[tuple[str, str]] = []
    first: dict[str, Clip] = {}
    for clip in clips:
        fold = folds.get(clip.clip_id)
        if fold is None:
            faults.append((clip.clip_id, "has no fold; every labelled training clip needs one"))
            continue
        other = first.setdefault(clip.group, clip)
        if folds[other.clip_id] != fold:
            faults.append(
                (
                    clip.clip_id,
                    f"group '{clip.group}' is in fold '{fold}' here and in fold "
                    f"'{folds[other.clip_id]}' with {other.clip_id}; a group is never split",
                )
            )
    names = set(folds.values())
    if len(names) == 1:
        faults.append((next(iter(folds)), f"'{names.pop()}' is the only fold; two are needed"))
    return faults


def _check_folds(dataset: Dataset, folds: Sequence[Fold], targets: np.ndarray) -> None:
    """Every class has a clip in the training part of every fold; ``targets`` are of all clips."""
    counts = np.stack([strata(dataset, fold.train).sum(0) for fold in folds])
    groups = np.array([clip.group for clip in dataset.role("labelled")])
    faults = []
    for k in np.flatnonzero((counts == 0).any(0)):
        having = targets[:, k] > 0
        faults.append(
            f"class {dataset.classes[k]} ({having.sum()} training clip(s) in "
            f"{len(set(groups[having]))} group(s))"
        )
    if faults:
        raise UserError(
            f"{dataset.name}: in one fold all clips of a class validate and none trains: "
            f"{', '.join(faults)}. A class needs at least 2 examples, of two groups in two folds."
        )


def _unvalidated(dataset: Dataset, folds: Sequence[Fold]) -> tuple[str, ...]:
    """A note for each class that not every validation part has."""
    counts = np.stack([strata(dataset, fold.validation).sum(0) for fold in folds])
    return tuple(
        f"class {dataset.classes[k]}: {n} of {len(folds)} validation part(s) have no clip of it"
        for k, n in enumerate((counts == 0).sum(0).tolist())
        if n
    )


def training_data(
    dataset: Dataset, splits: Splits, fold: int | None, metric: str = "clip_macro_f1"
) -> TrainingData:
    """What fold ``fold`` may see; ``None`` is the refit on every labelled clip."""
    train = splits.labelled if fold is None else splits.folds[fold].train
    validation, halves = None, None
    if fold is not None:
        validation = clip_set(dataset, splits.folds[fold].validation)
        halves = _halves(dataset, validation)
    return TrainingData(
        classes=dataset.classes,
        labelled=clip_set(dataset, train),
        validation=validation,
        unlabelled={role: ClipSet(ids) for role, ids in splits.unlabelled.items()},
        metric=metric,
        halves=halves,
        kind=kind_of(dataset, train if fold is None else splits.folds[fold].validation),
    )


def kind_of(dataset: Dataset, clip_ids: Sequence[str]) -> LabelKind:
    """The kind of the labels of clips of one open part."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    return dataset.label_kind(part_of[clip_ids[0]])


def _halves(dataset: Dataset, clips: ClipSet) -> np.ndarray | None:
    """The half of each row, that of its clip; ``None`` of a single clip."""
    if len(clips) < 2 or clips.targets is None:
        return None
    group_of = {clip.clip_id: clip.group for clip in dataset.clips}
    groups = [group_of[i] for i in clips.clip_ids]
    halves = cross_fitting_folds(strata(dataset, clips.clip_ids), groups, 0, most=2)
    return halves if clips.lengths is None else np.repeat(halves, clips.lengths)


def clip_set(dataset: Dataset, clip_ids: Sequence[str]) -> ClipSet:
    """Clips with their targets, from parts whose labels may be seen."""
    ids = tuple(clip_ids)
    return ClipSet(ids, clip_targets(dataset, ids), clip_lengths(dataset, ids))


def clip_targets(dataset: Dataset, clip_ids: Sequence[str]) -> np.ndarray:
    """Targets of clips of any open parts, as their kind has them: [N, K], of a series [ΣT, D]."""
    rows = [
        kind(labels.kind).matrix(labels, [clip_id], dataset.classes)
        for clip_id, labels in _labelled(dataset, clip_ids)
    ]
    return np.concatenate(rows) if rows else np.zeros((0, len(dataset.classes)), np.float32)


def clip_lengths(dataset: Dataset, clip_ids: Sequence[str]) -> tuple[int, ...] | None:
    """How many rows each clip has of the targets; ``None``: one."""
    lengths = [
        kind(labels.kind).lengths(labels, [clip_id])
        for clip_id, labels in _labelled(dataset, clip_ids)
    ]
    return None if None in lengths else tuple(n for of_clip in lengths for n in of_clip or ())


def strata(dataset: Dataset, clip_ids: Sequence[str]) -> np.ndarray:
    """The classes [N, K] that clips are spread over folds by; [N, 0] where labels name none."""
    if not clip_ids or not kind(kind_of(dataset, clip_ids)).says_tags:
        return np.zeros((len(clip_ids), 0), np.float32)
    return clip_targets(dataset, clip_ids)


def _labelled(dataset: Dataset, clip_ids: Sequence[str]) -> Iterator[tuple[str, Labels]]:
    """Each clip with the labels of its part."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    return ((clip_id, dataset.labels[part_of[clip_id]]) for clip_id in clip_ids)


def cross_fitting_folds(
    targets: np.ndarray, groups: Sequence[str], seed: int, most: int = FOLDS
) -> np.ndarray:
    """A fold [N] of each row for cross-fitting: ``most`` folds, or as many as there are groups.

    Rows of a single group are dealt out one by one: nothing else can be fitted on them.
    """
    found = len(set(groups))
    units = groups if found > 1 else [str(row) for row in range(len(groups))]
    return stratified_groups(targets, units, min(most, len(set(units))), seed)


def stratified_groups(
    targets: np.ndarray, groups: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """Assign each clip a fold [N] so that groups stay whole and classes spread evenly.

    Iterative stratification (Sechidis et al. 2011) over groups: the group with the rarest class
    still to place goes to the fold that lacks that class most. Written here because scikit-learn's
    StratifiedGroupKFold takes one class a clip, not several.

    Raises:
        UserError: fewer groups than folds.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < folds:
        raise UserError(f"{len(names)} groups of clips cannot make {folds} disjoint folds.")
    row = {name: r for r, name in enumerate(names)}
    counts = np.zeros((len(names), targets.shape[1] + 1))
    for target, group in zip(targets, groups, strict=True):
        counts[row[group], :-1] += target
        counts[row[group], -1] += 1  # the last column balances the number of clips
    wanted = np.tile(counts.sum(0) / folds, (folds, 1))
    generator = np.random.default_rng([seed, folds])
    order = generator.permutation(len(names))
    fold_of = np.full(len(names), -1)
    for _ in range(len(names)):
        free = order[fold_of[order] < 0]
        left = counts[free, :-1].sum(0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf))) if left.any() else -1
        group = free[int(np.argmax(counts[free, rarest]))]
        need = wanted[:, rarest]
        best = np.flatnonzero(need >= need.max() - 1e-9)
        fold = best[int(np.argmax(wanted[best, -1]))]
        fold_of[group] = fold
        wanted[fold] -= counts[group]
    return np.array([fold_of[row[group]] for group in groups])
