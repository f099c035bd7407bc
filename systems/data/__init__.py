"""Data-set readers, splits and the waveform store.

A reader is a module here with ``NAME``, ``TASK`` (``any``: fits every system whose labels it has),
``LAYOUT`` (what it expects on disk, in words) and ``read(folder, skip_broken=False) -> Dataset``.
Facts of the published set stand there too, see :class:`Card`. Where test labels are withheld,
``write_submission(dataset, predictions, folder) -> path`` writes what the challenge takes. Another
package adds a reader by the entry-point group ``soundsweep.datasets``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

from systems.data.dataset import Dataset, LabelKind
from systems.data.sharing import keep_apart
from systems.errors import unknown
from systems.figures import Where

READERS = (
    "binaural_sofa", "compare2020_breathing", "compare2020_mask", "dcase2018_task3",
    "dcase2018_task4", "fsdkaggle2018", "grafic_scenes", "rwcp", "synthetic", "synthetic_binaural",
    "synthetic_breath", "synthetic_classes", "synthetic_imitations", "synthetic_onomatopoeia",
    "synthetic_scenes", "synthetic_speech", "synthetic_streets", "table", "tut2018",
    "tut2018_mobile", "urbansound8k",
    "vocal_imitation",
)  # fmt: skip
# The embedded set of a kind of labels: what a system learns from where no data is named.
EMBEDDED: dict[LabelKind, str] = {
    "tags": "synthetic",
    "events": "synthetic",
    "class": "synthetic_classes",
    "series": "synthetic_breath",
    "relevance": "synthetic_imitations",
    "direction": "synthetic_binaural",
    "values": "synthetic_streets",
}


@dataclass(frozen=True)
class Card:
    """What is known of a published data set, from its reader's module.

    Args:
        clips: ``CLIPS``: part -> how many clips it has; a copy with other numbers is not the set.
        splits: ``SPLITS``: split of the papers' tables -> part, where their names differ, or part
            and which of its clips.
        metrics: ``METRICS``: by which it is scored; a search can follow the first.
        labels: ``LABELS``: what the papers' tables call a class -> its name, where they differ.
        subsets: ``SUBSETS``: name -> column -> values: clips of the test part that are scored on
            their own. A column is the clip's, or comes with the sealed labels.
    """

    clips: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, str | tuple[str, Where]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    subsets: Mapping[str, Where] = field(default_factory=dict)


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


def card(name: str) -> Card:
    """The card of a data set; an empty one of a set that nothing reads."""
    if name not in readers():
        return Card()
    facts = vars(reader(name))
    names = ("clips", "splits", "metrics", "labels", "subsets")
    return Card(**{fact: facts[fact.upper()] for fact in names if fact.upper() in facts})


# What a split of the papers' tables may be beside a part: the held-out rows of several folds, or
# those of a single one.
OUT_OF_FOLD, VALIDATION = "out_of_fold", "validation"


def split_of(name: str, split: str) -> tuple[str, Where]:
    """The part of a data set that papers call ``split``, and which of its clips, all without a
    column; the part is that name itself where the reader says nothing of it."""
    found = {"cv": OUT_OF_FOLD, **card(name).splits}.get(split, split)
    return (found, {}) if isinstance(found, str) else found


def load(
    name: str, folder: str | None, skip_broken: bool = False, skip_shared: bool = False
) -> Dataset:
    """Read a data set from its folder (``None`` for an embedded one).

    ``skip_broken`` decodes every file, leaves out those that cannot be used, and lists them in
    ``Dataset.skipped``. Raises UserError, which names every fault, where it is not set.
    ``skip_shared`` leaves out labelled clips that are shared with a part that judges them, which is
    refused otherwise (:mod:`systems.data.sharing`). All parts decide one way
    (:mod:`systems.data.one_decision`).
    """
    from systems.data.one_decision import of_one_decision  # kinds import this package

    dataset: Dataset = reader(name).read(folder, skip_broken)
    return keep_apart(of_one_decision(dataset), skip_shared)
