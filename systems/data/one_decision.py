"""One data set decides one way: a class is the largest score only where all parts have classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from systems.data.dataset import Dataset, Labels
from systems.kinds import KINDS


def of_one_decision(dataset: Dataset) -> Dataset:
    """The same data set, its classes read as tags where another part has tags or events.

    A metric of decisions would else have one name and two meanings: validated on events by what is
    above 0.5, tested on single labels by the largest score.
    """
    parts = {*dataset.labels, *dataset.sealed_kind}
    says = {name: KINDS[k] for name in parts if (k := dataset.label_kind(name)) in KINDS}
    says = {name: kind for name, kind in says.items() if kind.says_tags}
    exclusive = [name for name, kind in says.items() if kind.exclusive]
    if len(exclusive) in (0, len(says)):
        return dataset
    return replace(
        dataset,
        labels={n: as_tags(one) if n in exclusive else one for n, one in dataset.labels.items()},
        sealed={n: partial(_opened, one) if n in exclusive else one
                for n, one in dataset.sealed.items()},
        sealed_kind={n: "tags" if n in exclusive else one
                     for n, one in dataset.sealed_kind.items()},
    )  # fmt: skip


def as_tags(labels: Labels) -> Labels:
    """One class a clip as tags."""
    values = {clip_id: (name,) for clip_id, name in labels.values.items()}
    return replace(labels, kind="tags", values=values)


def _opened(sealed: Callable[[], Labels]) -> Labels:
    return as_tags(sealed())
