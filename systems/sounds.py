"""The sound that a system's input names: a store, changes, a preparation, stored features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from systems.data.changed import beside, changed
from systems.data.dataset import AUDIO, Clip, Dataset
from systems.data.features import featured
from systems.data.prepare import Described, Sound, prepared
from systems.data.store import Map, open_store, process_map
from systems.system import Input

# (What is being made, of how many clips) -> what is told how many are done.
Counter = Callable[[str, int], Callable[[int, int], None]]


def heard_by(one: Input, inputs: Iterable[Input], clips: Iterable[Clip]) -> tuple[str, ...]:
    """The clips of which an input takes the sound: all, but those of roles that only others ask
    for."""
    others = {role for other in inputs for role in other.roles} - {*one.roles}
    return tuple(clip.clip_id for clip in clips if clip.role not in others)


def open_sounds(
    dataset: Dataset, clip_ids: Iterable[str], inputs: Mapping[str, Input], root: Path,
    map_: Map = process_map, counter: Counter = lambda what, of: lambda done, total: None,
) -> dict[str, Sound]:  # fmt: skip
    """The sound of some clips by the inputs that take it, built below ``root`` where it is missing.

    Raises like :func:`systems.data.store.open_store`.
    """
    wanted = {*clip_ids}
    clips = [clip for clip in dataset.clips if clip.clip_id in wanted]
    return {
        name: open_sound(dataset, heard_by(one, inputs.values(), clips), one, root, map_, counter)
        for name, one in inputs.items()
    }


def open_sound(
    dataset: Dataset, clip_ids: Sequence[str], one: Input, root: Path, map_: Map = process_map,
    counter: Counter = lambda what, of: lambda done, total: None,
) -> Sound:  # fmt: skip
    """The sound of some clips as an input takes it."""
    if one.column:
        of_clip = {clip.clip_id: clip.columns for clip in dataset.clips}
        values = {i: str(of_clip[i][one.column]) for i in clip_ids if one.column in of_clip[i]}
        plain = replace(one, column="")
        return Described(open_sound(dataset, clip_ids, plain, root, map_, counter), values)
    count = len(clip_ids)
    of = "" if one.track == AUDIO else f" of {one.track}"
    told = counter(f"waveform store: {count} clips{of} at {one.rate} Hz", count)
    store: Any = open_store(dataset, clip_ids, one.rate, root, map_, told, one.channels, one.track)
    if one.change is not None:
        told = counter(f"changed sound: {count} clips", count)
        store = changed(store, one.change, clip_ids, map_, told)
    sound = prepared(store, one.prepare, clip_ids, map_)
    if one.beside:
        others = {}
        for change in one.beside:
            told = counter(f"sound of derived clips: {count}", count)
            other: Any = changed(store, change, clip_ids, map_, told)
            others[change] = prepared(other, one.prepare, clip_ids, map_)
        return beside(sound, others, clip_ids)
    if one.features is None:
        return sound
    return featured(
        sound, one.features, clip_ids, map_, counter(f"stored features: {count} clips", count)
    )
