"""The sound that a system's input names: a waveform store, a preparation, stored features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from systems.data.dataset import Dataset
from systems.data.features import featured
from systems.data.prepare import Sound, prepared
from systems.data.store import Map, open_store, process_map
from systems.system import Input

Counter = Callable[[int, int], None]


def open_sound(
    dataset: Dataset, clip_ids: Sequence[str], one: Input, root: Path, map_: Map = process_map,
    counter: Callable[[str], Counter] = lambda what: lambda done, total: None,
) -> Sound:  # fmt: skip
    """The sound of some clips as an input takes it, built below ``root`` where it is missing.

    ``counter``: told what is being made, gives what is told how many clips are done. Raises like
    :func:`systems.data.store.open_store`.
    """
    what = f"{len(clip_ids)} clips at {one.rate} Hz"
    store = open_store(
        dataset, clip_ids, one.rate, root, map_, counter(f"waveform store: {what}"), one.channels
    )
    sound = prepared(store, one.prepare, clip_ids, map_)
    if one.features is None:
        return sound
    return featured(sound, one.features, clip_ids, map_, counter(f"stored features: {what}"))
