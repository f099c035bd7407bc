"""A part of a data set: some values of a column, drawn by a seed, as a paper's protocol says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from systems.data.dataset import Dataset, Labels
from systems.data.protocol import Protocol, values_of


def drawn(dataset: Dataset, protocol: Protocol | None, seed: int) -> Dataset:
    """The clips, items and labels of so many of a column's values; all, where nothing is drawn.

    Raises:
        UserError: no clip has the column.
    """
    if protocol is None or protocol.draw is None:
        return dataset
    column, count = protocol.draw
    values = values_of(dataset.clips, column)
    known = sorted(set(values))
    if len(known) <= count:
        return dataset
    chosen = {*np.random.default_rng([seed, 2]).permutation(known)[:count].tolist()}
    clips = tuple(c for c, value in zip(dataset.clips, values, strict=True) if value in chosen)
    kept = {clip.clip_id for clip in clips}
    return replace(
        dataset,
        clips=clips,
        classes=tuple(item for item in dataset.classes if item in kept),
        labels={part: _some(kept, labels) for part, labels in dataset.labels.items()},
        sealed={part: partial(_opened, kept, open_) for part, open_ in dataset.sealed.items()},
        notes=(*dataset.notes, f"{count} of {len(known)} by {column}: {', '.join(sorted(chosen))}"),
    )


def _opened(kept: set[str], open_: Any) -> Labels:
    return _some(kept, open_())


def _some(kept: set[str], labels: Labels) -> Labels:
    """The labels of clips that are kept, and of these the items that are."""

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {item: relevant for item, relevant in value.items() if item in kept}
        return tuple(item for item in value if item in kept)

    values = {clip: of(value) for clip, value in labels.values.items() if clip in kept}
    columns = {clip: about for clip, about in labels.columns.items() if clip in kept}
    return replace(labels, values=values, columns=columns)
