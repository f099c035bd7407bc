"""Clips that parts share: what trains, or chooses, must not be what judges.

Clips are shared by their group (speaker, place, recording), or because they are the same sound
under another name: a copy, a link, another format without loss. Equal sound is one group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.files import BrokenSound, Files, blocks
from systems.errors import UserError, shown

FIRST = 4096  # samples by which clips are told apart before all of them is compared
NAMED = 20  # clips of a note
WITHOUT_LABELS = ("unlabelled", "out_of_domain")
Copies = Sequence[tuple[str, ...]]  # clips of equal sound
SCORED, VALIDATES, TRAINS, UNUSED = range(4)  # what clips are for: a lower one judges the higher


def sound_digest(samples: np.ndarray, rate: int) -> str:
    """A digest of decoded sound [C, S] at a rate in Hz, as it is mixed to mono."""
    mono = np.asarray(samples, np.float32).mean(axis=0)
    return hashlib.sha256(f"{rate}|".encode() + (mono + 0.0).tobytes()).hexdigest()[:32]


def equal_sound(files: Files, seconds: Mapping[str, float]) -> Copies:
    """Clips that are the same sound under several names.

    Only clips of one length (``seconds`` of each) that begin alike are decoded as a whole. What is
    broken or silent is no copy: the reader, or the waveform store, tells of it.
    """
    with ThreadPoolExecutor(8) as pool:
        firsts = pool.map(lambda i: _first(files.where(i)), seconds)
        keys = {i: first and (first, round(seconds[i], 3))
                for i, first in zip(seconds, firsts, strict=True)}  # fmt: skip
        alike = [clip_id for clips in _together(keys) for clip_id in clips]
        return _together(dict(zip(alike, pool.map(lambda i: _whole(files, i), alike), strict=True)))


def _first(path: str) -> str | None:
    try:
        samples, rate = next(blocks(path, FIRST))
    except (BrokenSound, OSError, StopIteration):
        return None
    return sound_digest(samples.T, rate)


def _whole(files: Files, clip_id: str) -> str | None:
    try:
        samples, rate = files.read(clip_id)
    except UserError:
        return None
    silent = np.ptp(samples.mean(axis=0)) == 0
    return None if silent else sound_digest(samples, rate)


def _together(keys: Mapping[str, Hashable | None]) -> Copies:
    """The clips that have a key in common, where they are two or more."""
    found: dict[Hashable, list[str]] = {}
    for clip_id, key in keys.items():
        if key is not None:
            found.setdefault(key, []).append(clip_id)
    return [tuple(clips) for clips in found.values() if len(clips) > 1]


def joined_groups(groups: Mapping[str, str], copies: Copies) -> dict[str, str]:
    """The group of each clip, where those of equal sound, and so their groups, are one."""
    parent = {group: group for group in groups.values()}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for first, *others in copies:
        for other in others:
            one, two = sorted((root(groups[first]), root(groups[other])))
            parent[two] = one
    return {clip_id: root(group) for clip_id, group in groups.items()}


def keep_apart(dataset: Dataset, skip_shared: bool) -> Dataset:
    """The data set without clips that are shared with what judges, and equal sound in one group.

    Unlabelled clips that are shared with a test or the validation part are left out. Labelled ones
    are, where ``skip_shared`` asks for it: of training those shared with either, of validation
    those shared with a test part; and copies of a sound in another fold than its first one's, where
    the data set has folds of its own. Notes name them.

    Raises:
        UserError: labelled clips are shared, or own folds split equal sound, with the clips' names,
            and ``skip_shared`` is not set.
    """
    copies: Copies = ()
    if isinstance(dataset.source, Files):
        copies = equal_sound(dataset.source, {c.clip_id: c.duration for c in dataset.clips})
    if skip_shared:
        dataset, copies = _without_twins(dataset, copies)
    groups = joined_groups({c.clip_id: c.group for c in dataset.clips}, copies)
    clips = tuple(replace(clip, group=groups[clip.clip_id]) for clip in dataset.clips)
    shared = _shared(dataset, clips)
    why = {clip.clip_id: _why(clip, judges, copies) for clip, judges in shared}
    labelled = [clip.clip_id for clip, _ in shared if clip.role not in WITHOUT_LABELS]
    bare = [clip.clip_id for clip, _ in shared if clip.role in WITHOUT_LABELS]
    if labelled and not skip_shared:
        lines = "\n".join(f"  {shown(clip_id)} {why[clip_id]}" for clip_id in labelled)
        raise UserError(
            f"{dataset.name}: labelled clips are shared with a part that judges them "
            f"({len(labelled)}):\n{lines}\nRemove them (and their rows), or pass --skip-shared to "
            "leave them out (the report says so)."
        )
    inside = [same for same in copies if not {*same} & why.keys()]
    notes = [
        _note(labelled, "labelled clips left out, as --skip-shared asks, which the test or "
              "validation part shares"),
        _note(bare, "unlabelled clips left out, which the test or validation part shares"),
        _note([" = ".join(same) for same in inside], "sounds that have several names, "
              "each one group"),
    ]  # fmt: skip
    folds = dataset.folds and {i: fold for i, fold in dataset.folds.items() if i not in why}
    _check_folds(dataset.name, folds or {}, inside)
    return replace(
        dataset,
        clips=tuple(clip for clip in clips if clip.clip_id not in why),
        labels=_without(dataset.labels, why) if why else dataset.labels,
        folds=folds,
        notes=(*dataset.notes, *filter(None, notes)),
    )


def _check_folds(name: str, folds: Mapping[str, str], copies: Copies) -> None:
    """Raise UserError where own folds split clips of equal sound."""
    for same in copies:
        own = {shown(i): folds[i] for i in same if i in folds}
        if len(set(own.values())) > 1:
            where = ", ".join(f"{clip_id} in fold '{fold}'" for clip_id, fold in own.items())
            raise UserError(
                f"{name}: the same sound lies in two folds ({where}): give it one, or pass "
                "--skip-shared to leave the later ones out."
            )


def _without_twins(dataset: Dataset, copies: Copies) -> tuple[Dataset, Copies]:
    """The data set, and its copies, without those in another fold than the sound's first."""
    folds = dataset.folds or {}
    gone = set()
    for same in copies:
        own = [i for i in same if i in folds]
        gone |= {i for i in own if folds[i] != folds[own[0]]}
    if not gone:
        return dataset, copies
    note = _note(sorted(gone), "clips left out, as --skip-shared asks, which another fold has")
    left = replace(
        dataset,
        clips=tuple(clip for clip in dataset.clips if clip.clip_id not in gone),
        labels=_without(dataset.labels, gone),
        folds={i: fold for i, fold in folds.items() if i not in gone},
        notes=(*dataset.notes, note),
    )
    kept = [tuple(i for i in same if i not in gone) for same in copies]
    return left, [same for same in kept if len(same) > 1]


def _without(labels: Mapping[str, Labels], gone: Collection[str]) -> dict[str, Labels]:
    """The labels of all clips but some."""
    return {
        part: replace(of, values={i: value for i, value in of.values.items() if i not in gone})
        for part, of in labels.items()
    }


def _shared(dataset: Dataset, clips: Iterable[Clip]) -> list[tuple[Clip, list[str]]]:
    """Clips whose group a part has that judges them, each with the clips of that part."""
    found: dict[str, list[tuple[int, Clip]]] = {}
    for clip in clips:
        found.setdefault(clip.group, []).append((_use(dataset, clip), clip))
    shared = []
    for group in found.values():
        first = min(use for use, _ in group)
        judges = [clip.clip_id for use, clip in group if use == first]
        shared += [(clip, judges) for use, clip in group if first < use <= TRAINS]
    return shared


def _why(clip: Clip, judges: Sequence[str], copies: Copies) -> str:
    for same in copies:
        twin = next((i for i in judges if i in same), None)
        if twin is not None and clip.clip_id in same:
            return f"is the same sound as {shown(twin)}"
    return f"is of group '{shown(clip.group)}', as {shown(judges[0])} is"


def _use(dataset: Dataset, clip: Clip) -> int:
    """What a clip is for; nothing, where its part is sealed and is no test part."""
    if clip.part in dataset.test_parts:
        return SCORED
    if clip.part == dataset.official_validation:
        return VALIDATES
    sealed = clip.part in dataset.sealed or clip.part in dataset.sealed_kind
    return UNUSED if sealed else TRAINS


def _note(named: Sequence[str], what: str) -> str:
    if not named:
        return ""
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{what}: {len(named)} ({', '.join(map(shown, named[:NAMED]))}{more})"
