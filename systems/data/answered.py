"""Of values that a data set has several of a clip, those that a system answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from systems.data.dataset import Dataset, Labels
from systems.errors import UserError


def answered(dataset: Dataset, outputs: Sequence[str], layout: str = "") -> Dataset:
    """The data set whose outputs are these alone; what other values there are stays beside the
    labels, as columns that come with them. All, where none is named.

    ``layout``: what the data set is expected to hold, for the message.

    Raises:
        UserError: it has no values of one of them.
    """
    if not outputs:
        return dataset
    lacking = [name for name in outputs if name not in dataset.classes]
    if lacking:
        expected = f" It expects:\n{layout}" if layout else ""
        raise UserError(
            f"{dataset.name} has no values of {', '.join(lacking)} here, which the system answers "
            f"(it has {', '.join(dataset.classes)}).{expected}"
        )
    known = dataset.classes
    return replace(
        dataset,
        classes=tuple(outputs),
        labels={part: _narrowed(known, outputs, of) for part, of in dataset.labels.items()},
        sealed={part: partial(_opened, known, outputs, of) for part, of in dataset.sealed.items()},
    )


def _opened(known: Sequence[str], outputs: Sequence[str], open_: Callable[[], Labels]) -> Labels:
    return _narrowed(known, outputs, open_())


def _narrowed(known: Sequence[str], outputs: Sequence[str], labels: Labels) -> Labels:
    if labels.kind != "values":
        return labels
    named = {clip: dict(zip(known, of, strict=True)) for clip, of in labels.values.items()}
    return replace(
        labels,
        values={clip: tuple(of[name] for name in outputs) for clip, of in named.items()},
        columns={
            clip: {
                **labels.columns.get(clip, {}),
                **{name: repr(float(value)) for name, value in of.items() if name not in outputs},
            }
            for clip, of in named.items()
        },
    )
