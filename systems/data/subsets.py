"""Subsets of a test part that papers score apart: some devices, a half of a leaderboard.

A reader's module names them: ``SUBSETS = {"device b+c": {"device": ("b", "c")}}``, by columns of
the clip, or by those that are published with the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from systems.data.dataset import Dataset, Labels

Where = Mapping[str, tuple[Any, ...]]  # column -> values


def subset_key(where: Where) -> str:
    """What scores are kept under: ``device=b+c``, or ``device=b,usage=Public``."""
    return ",".join(
        f"{column}={'+'.join(sorted(map(str, values)))}" for column, values in sorted(where.items())
    )


def subset_rows(
    subsets: Mapping[str, Where], dataset: Dataset, labels: Labels, clip_ids: Sequence[str]
) -> dict[str, tuple[str, np.ndarray]]:
    """Key -> name and clips [n] by place, of the subsets that some of these clips are in."""
    about = {clip.clip_id: clip.columns for clip in dataset.clips}
    columns = [{**about[i], **labels.columns.get(i, {})} for i in clip_ids]
    found = {}
    for name, where in subsets.items():
        inside = [
            all(str(row.get(column)) in map(str, values) for column, values in where.items())
            for row in columns
        ]
        if any(inside):
            found[subset_key(where)] = (name, np.flatnonzero(inside))
    return found
