"""Data-set readers, splits and the waveform store.

A reader is a module here with ``NAME``, ``TASK`` (``any``: fits every system whose labels it has),
``LAYOUT`` (what it expects on disk, in words) and ``read(folder, skip_broken=False) -> Dataset``;
``SPLITS`` says which part a split of the papers' tables is, where their names differ. Another
package adds a reader by the entry-point group ``soundsweep.datasets``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from systems.data.dataset import Dataset, LabelKind
from systems.errors import unknown

READERS = (
    "compare2020_breathing", "compare2020_mask", "dcase2018_task4", "fsdkaggle2018", "synthetic",
    "synthetic_breath", "synthetic_classes", "synthetic_scenes", "synthetic_speech", "table",
    "tut2018", "tut2018_mobile",
)  # fmt: skip
# The embedded set of a kind of labels: what a system learns from where no data is named.
EMBEDDED: dict[LabelKind, str] = {
    "tags": "synthetic",
    "events": "synthetic",
    "class": "synthetic_classes",
    "series": "synthetic_breath",
}


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


def part_of_split(name: str, split: str) -> str:
    """The part of a data set that papers call ``split``; that name itself of an unknown set."""
    splits = getattr(reader(name), "SPLITS", {}) if name in readers() else {}
    return str(splits.get(split, split))


def load(name: str, folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read a data set from its folder (``None`` for an embedded one).

    ``skip_broken`` decodes every file, leaves out those that cannot be used, and lists them in
    ``Dataset.skipped``. Raises UserError, which names every fault, where it is not set.
    """
    dataset: Dataset = reader(name).read(folder, skip_broken)
    return dataset
