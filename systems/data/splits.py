"""Splits: who trains, who validates. By default the official parts where they are, else folds.

A validation fold of the default never shares a group (speaker, location, recording) with its
training clips. A paper's protocol (:mod:`systems.data.protocol`) may.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from systems.data.dataset import SEARCHED, Clip, ClipSet, Dataset, Event, LabelKind, Labels, Role
from systems.data.protocol import TRAINS, Judged, Protocol, assigned_folds, counts_for, pool
from systems.data.stratify import FOLDS, cross_fitting_folds, stratified_groups
from systems.errors import UserError
from systems.kinds import Truth, kind

# One network's macro F1 on 12 validation clips has a standard deviation of 0.07 from the split
# alone: below this many validation clips the search scores all folds, not one.
ENOUGH_VALIDATION_CLIPS = 200


@dataclass(frozen=True)
class Fold:
    """Clip ids that train and that validate, and those of hidden labels that train without."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    hidden: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Splits:
    """All folds, how many of them the search scores, and the roles that come without labels.

    ``judged`` says which validation clips count: column -> values; all, where it is empty.
    ``hides``: the training clips whose labels are hidden; they are among the ``unlabelled``.
    ``notes`` name the classes that some fold cannot validate.
    """

    protocol: str
    folds: tuple[Fold, ...]
    searched: int
    unlabelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    judged: Judged = field(default_factory=dict)
    hides: Judged = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether clips are judged by models that they trained."""
        return any({*fold.train} & {*fold.validation} for fold in self.folds)

    @property
    def labelled(self) -> tuple[str, ...]:
        """Every clip whose labels the search may see, once."""
        first = self.folds[0]
        return tuple(dict.fromkeys((*first.train, *first.validation)))


@dataclass(frozen=True)
class TrainingData:
    """What one training may see.

    ``validation`` is ``None`` in a refit on all training data. Clips of other roles (``gallery``,
    ``template``: what is searched) come without targets. ``classes`` are in the order of the
    columns of every target and score. ``metric`` names what the validation part is scored by, over
    the clips of it that count. ``halves`` deals the rows of the validation clips, whole groups at a
    time, into 0 and 1: each half may choose an epoch for the other. ``kind`` is that of the labels:
    by it scores become decisions. ``label_hop``: s from step to step of a series; 0 where labels
    are of whole clips. ``calibration``: dB SPL of sound whose RMS is 1, where it is known.
    """

    classes: tuple[str, ...]
    labelled: ClipSet
    validation: ClipSet | None
    unlabelled: Mapping[str, ClipSet] = field(default_factory=dict)
    metric: str = "clip_macro_f1"
    halves: np.ndarray | None = None
    kind: LabelKind = "tags"
    label_hop: float = 0.0
    calibration: float | None = None

    def truth(self) -> Truth:
        """What is true of the validation clips, as metrics take it."""
        clips = self.validation
        assert clips is not None
        assert clips.targets is not None
        return Truth(self.kind, clips.targets, self.classes, clips.events, clips.lengths)


def make_splits(
    dataset: Dataset, seed: int, protocol: Protocol | None = None, judged: Judged | None = None,
    hides: Judged | None = None,
) -> Splits:  # fmt: skip
    """The folds of a paper's protocol; without one the honest default.

    That is the official training and validation part, the user's own folds, or five made ones,
    which are group-disjoint and stratified.

    Args:
        dataset: with its labels.
        seed: of folds that are shuffled.
        protocol: of a paper.
        judged: column -> values of the clips that count; ``None``: those of the protocol.
        hides: column -> values of the clips whose labels are hidden; the same.

    Raises:
        UserError: a class that some fold has no training clip of, too few groups, own folds that
            leave a clip out or split a group, a part or column that the protocol takes and the data
            lacks, or a fold that nothing can judge.
    """
    clips = pool(dataset, protocol)
    ids = tuple(clip.clip_id for clip in clips)
    if hides is None:
        hides = protocol.hides if protocol else {}
    hidden = {clip.clip_id for clip in clips if hides and counts_for(clip, hides)}
    targets = class_rows(dataset, ids)
    targets[[row for row, clip_id in enumerate(ids) if clip_id in hidden]] = 0
    missing = [dataset.classes[k] for k in np.flatnonzero(targets.sum(0) == 0)]
    if missing:
        raise UserError(f"{dataset.name}: no training clip of class {', '.join(missing)}.")
    folds: tuple[Fold, ...]
    if protocol is not None and protocol.same:
        named, folds = protocol.words(), (Fold(ids, ids),)
    elif protocol is not None:
        named = protocol.words()
        folds = _folds(ids, assigned_folds(protocol, clips, targets, seed).tolist())
    elif dataset.official_validation:
        validation = tuple(c.clip_id for c in dataset.part(dataset.official_validation))
        named, folds = "official", (Fold(ids, validation),)
    elif dataset.folds is not None:
        named, folds = "own folds", _own_folds(dataset, ids)
    else:
        assigned = stratified_groups(targets, [clip.group for clip in clips], FOLDS, seed)
        named, folds = "folds", _folds(ids, assigned.tolist())
    if judged is None:
        judged = protocol.judged if protocol else {}
    folds = tuple(_without_labels(fold, hidden) for fold in folds) if hidden else folds
    _check_folds(dataset, folds, ids, targets)
    counting = _counting(dataset, folds, judged)
    enough = min(map(len, counting)) >= ENOUGH_VALIDATION_CLIPS
    return Splits(
        named,
        folds,
        searched=1 if enough else len(folds),
        unlabelled={
            "unlabelled": (*_of_role(dataset, "unlabelled"), *(i for i in ids if i in hidden)),
            "out_of_domain": _of_role(dataset, "out_of_domain"),
            **{role: _of_role(dataset, role) for role in SEARCHED},
        },
        notes=_unvalidated(dataset, counting),
        judged=judged,
        hides=hides,
    )


def _of_role(dataset: Dataset, role: Role) -> tuple[str, ...]:
    return tuple(clip.clip_id for clip in dataset.role(role))


def _without_labels(fold: Fold, hidden: Container[str]) -> Fold:
    """A fold whose hidden clips train without labels, and validate nothing."""
    return Fold(
        tuple(i for i in fold.train if i not in hidden),
        tuple(i for i in fold.validation if i not in hidden),
        tuple(i for i in fold.train if i in hidden),
    )


def _folds(ids: Sequence[str], assigned: Sequence[Any]) -> tuple[Fold, ...]:
    """A fold for each name in ``assigned`` [N], in sorted order."""
    return tuple(
        Fold(
            tuple(i for i, fold in zip(ids, assigned, strict=True) if fold != name),
            tuple(i for i, fold in zip(ids, assigned, strict=True) if fold == name),
        )
        for name in sorted(set(assigned))
        if name != TRAINS
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


def _check_folds(
    dataset: Dataset, folds: Sequence[Fold], ids: Sequence[str], targets: np.ndarray
) -> None:
    """Every class has a clip in the training part of every fold; ``targets`` are of ``ids``."""
    row = {clip_id: r for r, clip_id in enumerate(ids)}
    trains = np.zeros((len(folds), len(ids)), np.float32)
    for mine, fold in zip(trains, folds, strict=True):
        mine[[row[clip_id] for clip_id in fold.train]] = 1
    counts = trains @ targets  # not the rows of each fold: of millions they are a copy each
    group_of = {clip.clip_id: clip.group for clip in dataset.clips}
    groups = np.array([group_of[clip_id] for clip_id in ids])
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


def _counting(
    dataset: Dataset, folds: Sequence[Fold], judged: Judged
) -> tuple[tuple[str, ...], ...]:
    """The validation clips of each fold that count. Raises UserError where a fold has none."""
    counts = {clip.clip_id: counts_for(clip, judged) for clip in dataset.clips}
    found = tuple(tuple(i for i in fold.validation if counts[i]) for fold in folds)
    if not all(found):
        told = " and ".join(f"{k} {' or '.join(map(str, v))}" for k, v in judged.items())
        raise UserError(
            f"{dataset.name}: a validation part has no clip that counts (with {told}), so nothing "
            "could choose an epoch there."
        )
    return found


def _unvalidated(dataset: Dataset, counting: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """A note for each class that not every validation part has, among what counts there."""
    counts = np.stack([class_rows(dataset, ids).sum(0) for ids in counting])
    return tuple(
        f"class {name}: {lacking} of {len(counting)} validation part(s) have no clip of it"
        for name, lacking in zip(dataset.classes, (counts == 0).sum(0).tolist(), strict=False)
        if lacking
    )


def training_data(
    dataset: Dataset, splits: Splits, fold: int | None, metric: str = "clip_macro_f1"
) -> TrainingData:
    """What fold ``fold`` may see; ``None`` is the refit on every labelled clip."""
    train = splits.labelled if fold is None else splits.folds[fold].train
    validation, halves = None, None
    if fold is not None:
        validation = clip_set(dataset, splits.folds[fold].validation, splits.judged)
        halves = _halves(dataset, validation)
    return TrainingData(
        classes=dataset.classes,
        labelled=clip_set(dataset, train, splits.judged),
        validation=validation,
        unlabelled=_unlabelled(dataset, splits, fold),
        metric=metric,
        halves=halves,
        kind=kind_of(dataset, train if fold is None else splits.folds[fold].validation),
        label_hop=dataset.label_hop,
        calibration=dataset.calibration,
    )


def _unlabelled(dataset: Dataset, splits: Splits, fold: int | None) -> dict[str, ClipSet]:
    """The clips without labels that a training hears: none of a group that validates it, and of
    hidden labels those of the fold's own training part."""
    about = {clip.clip_id: clip for clip in dataset.clips}
    heard = dict(splits.unlabelled)
    if fold is not None:
        own = splits.folds[fold]
        judges, hidden = {about[clip_id].group for clip_id in own.validation}, set(own.hidden)
        heard = {
            role: tuple(i for i in ids if i in hidden or (
                about[i].role != "labelled" and about[i].group not in judges
            ))
            for role, ids in splits.unlabelled.items()
        }  # fmt: skip
    return {role: ClipSet(ids, columns=_columns(dataset, ids)) for role, ids in heard.items()}


def kind_of(dataset: Dataset, clip_ids: Sequence[str]) -> LabelKind:
    """The kind of the labels of clips of one open part."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    return dataset.label_kind(part_of[clip_ids[0]])


def _halves(dataset: Dataset, clips: ClipSet) -> np.ndarray | None:
    """The half of each row, that of its clip, those that count spread evenly; ``None`` of a single
    clip."""
    if len(clips) < 2 or clips.targets is None:
        return None
    rows = counted_apart(class_rows(dataset, clips.clip_ids), clips.judged)
    halves = cross_fitting_folds(rows, clips.groups, 0, most=2)
    return halves if clips.lengths is None else np.repeat(halves, clips.lengths)


def counted_apart(targets: np.ndarray, judged: np.ndarray | None) -> np.ndarray:
    """Targets [N, K] as strata of what counts and of what does not [N, 2 K]."""
    if judged is None:
        return targets
    every = targets if targets.shape[1] else np.ones((len(targets), 1))
    return np.concatenate([every * judged[:, None], every * ~judged[:, None]], axis=1)


def clip_set(dataset: Dataset, clip_ids: Sequence[str], judged: Judged | None = None) -> ClipSet:
    """Clips with columns, targets and events, from parts whose labels may be seen."""
    ids = tuple(clip_ids)
    about = {clip.clip_id: clip for clip in dataset.clips}
    counts = np.array([counts_for(about[i], judged or {}) for i in ids], dtype=bool)
    return ClipSet(
        ids,
        clip_targets(dataset, ids),
        clip_lengths(dataset, ids),
        columns=_columns(dataset, ids),
        judged=None if counts.all() else counts,
        events=clip_events(dataset, ids),
        groups=tuple(about[i].group for i in ids),
    )


def _columns(dataset: Dataset, clip_ids: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    about = {clip.clip_id: clip for clip in dataset.clips}
    return tuple(about[i].columns for i in clip_ids)


def clip_events(dataset: Dataset, clip_ids: Sequence[str]) -> tuple[tuple[Event, ...], ...] | None:
    """The events of clips of open parts, where all of them have timed labels."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    if any(dataset.labels[part_of[i]].kind != "events" for i in clip_ids):
        return None
    return tuple(tuple(dataset.labels[part_of[i]].values[i]) for i in clip_ids)


def class_rows(dataset: Dataset, clip_ids: Sequence[str]) -> np.ndarray:
    """The classes [N, K] that labels say clips have; of labels without classes no columns."""
    if clip_ids and not kind(kind_of(dataset, clip_ids)).says_tags:
        return np.zeros((len(clip_ids), 0), np.float32)
    return clip_targets(dataset, clip_ids)


def clip_targets(dataset: Dataset, clip_ids: Sequence[str]) -> np.ndarray:
    """Targets of clips of any open parts, as their kind has them: [N, K], of a series [ΣT, D]."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    rows = [
        kind(dataset.labels[part].kind).matrix(dataset.labels[part], [*of_part], dataset.classes)
        for part, of_part in groupby(clip_ids, part_of.__getitem__)
    ]
    if len(rows) == 1:
        return rows[0]
    return np.concatenate(rows) if rows else np.zeros((0, len(dataset.classes)), np.float32)


def clip_lengths(dataset: Dataset, clip_ids: Sequence[str]) -> tuple[int, ...] | None:
    """How many rows each clip has of the targets; ``None``: one."""
    lengths = [
        kind(labels.kind).lengths(labels, [clip_id])
        for clip_id, labels in _labelled(dataset, clip_ids)
    ]
    return None if None in lengths else tuple(n for of_clip in lengths for n in of_clip or ())


def _labelled(dataset: Dataset, clip_ids: Sequence[str]) -> Iterator[tuple[str, Labels]]:
    """Each clip with the labels of its part."""
    part_of = {clip.clip_id: clip.part for clip in dataset.clips}
    return ((clip_id, dataset.labels[part_of[clip_id]]) for clip_id in clip_ids)
