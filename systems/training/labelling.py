"""What a training is told of its clips: pure functions of training data and context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData
from systems.errors import UserError


class Labelling(Protocol):
    """A change of what is trained on, by a free ``column`` of the clips, or (empty) by none."""

    @property
    def column(self) -> str: ...

    def __call__(self, data: TrainingData, context: Context) -> TrainingData: ...


@dataclass(frozen=True)
class Only:
    """Trains on the clips alone whose column has one of some values (as text); all validate."""

    column: str
    values: tuple[str, ...]

    def __call__(self, data: TrainingData, context: Context) -> TrainingData:
        there = np.array([value in self.values for value in column_of(data.labelled, self.column)])
        if not there.any():
            raise UserError(
                f"no training clip has {' or '.join(self.values)} in its column '{self.column}'."
            )
        return replace(data, labelled=data.labelled.some(np.flatnonzero(there)))


@dataclass(frozen=True)
class Share:
    """Trains on the ``first`` or the ``last`` of the clips in the data set's order, so large a
    ``share`` of them; all validate. In a fold these are of its training clips, in a refit of all.
    """

    share: float
    end: Literal["first", "last"] = "first"
    column = ""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError("share lies in (0, 1]")

    def __call__(self, data: TrainingData, context: Context) -> TrainingData:
        rows = np.arange(len(data.labelled))
        count = max(1, round(self.share * len(rows)))
        mine = rows[:count] if self.end == "first" else rows[-count:]
        return replace(data, labelled=data.labelled.some(mine))


@dataclass(frozen=True)
class Hidden:
    """Labels of all clips but those of ``keep`` values of a column (folds) are hidden: the others
    train as unlabelled clips.

    The kept values follow, in a circle, the one value that validates (a fold trains the one before
    it); without a validation part, or where that has several values, they are the first ones.
    """

    column: str = "fold"
    keep: int = 1

    def __call__(self, data: TrainingData, context: Context) -> TrainingData:
        labelled, validation = data.labelled, data.validation
        values = column_of(labelled, self.column)
        judged = {*column_of(validation, self.column)} if validation is not None else set()
        order = sorted({*values, *judged}, key=lambda v: (not v.isdigit(), v.rjust(20, "0")))
        after = order.index(min(judged)) + 1 if len(judged) == 1 else 0
        turned = [value for value in (*order[after:], *order[:after]) if value in {*values}]
        seen = np.array([value in turned[: self.keep] for value in values])
        hidden = labelled.some(np.flatnonzero(~seen))
        own = data.unlabelled.get("unlabelled", ClipSet(()))
        others = ClipSet((*own.clip_ids, *hidden.clip_ids))
        return replace(
            data,
            labelled=labelled.some(np.flatnonzero(seen)),
            unlabelled={**data.unlabelled, "unlabelled": others},
        )


@dataclass(frozen=True)
class WeightedBy:
    """Weights in the loss by a column of the clips: value (as text) -> weight, else 1."""

    column: str
    weights: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, data: TrainingData, context: Context) -> TrainingData:
        values = column_of(data.labelled, self.column)
        weights = np.array([self.weights.get(value, 1.0) for value in values], np.float32)
        return replace(data, labelled=replace(data.labelled, weights=weights))


@dataclass(frozen=True)
class Confirmed:
    """Labels of doubtful clips under a teacher's predictions (gcnn_gcrnn_stacking, section 3.3).

    Of each clip whose ``column`` is not ``trusted``: where the teacher's class is the given one at
    a probability above ``above``, the clip becomes trusted (``promote``); else its label becomes
    the teacher's class (``relabel``).
    """

    teacher: str
    column: str
    trusted: str = "1"
    above: float = 0.7
    promote: bool = True
    relabel: bool = True

    def __call__(self, data: TrainingData, context: Context) -> TrainingData:
        taught, labelled = context.required(self.teacher), data.labelled
        assert labelled.targets is not None
        place = {clip_id: row for row, clip_id in enumerate(taught.clip_ids)}
        said = taught.clip_scores[[place[clip_id] for clip_id in labelled.clip_ids]]
        given, best = labelled.targets.argmax(axis=1), said.argmax(axis=1)
        doubtful = np.array([v != self.trusted for v in column_of(labelled, self.column)])
        confirmed = doubtful & (best == given) & (said.max(axis=1) > self.above)
        targets, columns = labelled.targets.copy(), list(labelled.columns)
        if self.relabel:
            changed = doubtful & ~confirmed
            targets[changed] = np.eye(targets.shape[1], dtype=targets.dtype)[best[changed]]
        for row in np.flatnonzero(confirmed) if self.promote else ():
            columns[row] = {**columns[row], self.column: self.trusted}
        return replace(data, labelled=replace(labelled, targets=targets, columns=tuple(columns)))


def column_of(clips: ClipSet, column: str) -> list[str]:
    """A column of clips as text.

    Raises:
        UserError: some clip does not have it.
    """
    if not clips.columns or any(column not in about for about in clips.columns):
        raise UserError(
            f"the training takes clips by their column '{column}', which this data set lacks"
        )
    return [str(about[column]) for about in clips.columns]
