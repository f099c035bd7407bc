"""TUT Urban Acoustic Scenes 2018 Mobile, development set (DCASE 2018 task 1, subtask B).

The layout, scenes and split of :mod:`systems.data.tut2018`, at 44.1 kHz mono. The column ``device``
tells the recorder from the phones: ``a`` (the most clips), ``b`` and ``c``, which heard the same
moments as some clips of ``a``. All clips of a place are one group, whatever recorded them.
"""

from __future__ import annotations

from systems.data.dataset import Dataset
from systems.data.tut2018 import CLASSES, LAYOUT, METRICS, SPLITS, TASK, read_scenes
from systems.figures import Where

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "METRICS", "NAME", "SPLITS", "SUBSETS", "TASK", "read"]

NAME = "tut2018_mobile"
CLIPS = {"train": 7202, "test": 2878}
SUBSETS: dict[str, Where] = {
    "device a": {"device": ("a",)},
    "device b": {"device": ("b",)},
    "device c": {"device": ("c",)},
    "devices b and c": {"device": ("b", "c")},
}
INSIDE = "TUT-urban-acoustic-scenes-2018-mobile-development"


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set in ``folder``; raises like :func:`systems.data.tut2018.read`."""
    return read_scenes(NAME, folder, INSIDE, ("a", "b", "c"), skip_broken)
