"""Data-set readers, splits and the waveform store.

A reader is a module here with ``NAME``, ``TASK``, ``LAYOUT`` (what it expects on disk, in words)
and ``read(folder) -> Dataset``; another package adds one by the entry-point group
``soundsweep.datasets``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from systems.data.dataset import Dataset
from systems.errors import unknown

READERS = ("dcase2018_task4", "synthetic")


def readers() -> dict[str, str]:
    """Names of all data sets and the modules that read them."""
    found = {name: f"systems.data.{name}" for name in READERS}
    for point in importlib.metadata.entry_points(group="soundsweep.datasets"):
        found[point.name] = point.value
    return found


def reader(name: str) -> ModuleType:
    """The reader module of a data set. Raises UserError for an unknown name."""
    modules = readers()
    if name not in modules:
        raise unknown("data set", name, modules)
    return importlib.import_module(modules[name])


def load(name: str, folder: str | None) -> Dataset:
    """Read a data set from its folder (``None`` for an embedded one)."""
    dataset: Dataset = reader(name).read(folder)
    return dataset
