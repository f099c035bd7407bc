"""Protocols as data: who trains, who validates, and which rows count. A paper states its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from systems.data.dataset import Clip, Dataset
from systems.data.stratify import FOLDS, stratified_groups, too_few
from systems.errors import UserError

Final = Literal["refit", "fold_mean", "fold_geometric"]
Judged = Mapping[str, tuple[Any, ...]]
LABEL = "label"  # in the place of a column: the clip's own label
TRAINS = -1  # the fold of a clip that never validates


@dataclass(frozen=True)
class Protocol:
    """How a paper splits its data, and what it is judged by.

    Args:
        folds: of the cross-validation.
        hold_out: the share of the units that validates, in a single fold; of none ``folds``.
        grouped: the units: whole groups (speaker, place, recording), or single clips.
        within: of a hold-out: columns, or ``label``, within each combination of whose values the
            units are drawn; one that has a single unit trains.
        strata: of folds: columns whose values, with the classes, spread evenly over them.
        of: parts that the folds are made of, as many from each; of none the training clips.
        shuffled: whether units are dealt at random; else parts are contiguous, in the data's order.
        judged: column -> values of the clips that metrics are of and that choose epochs; all are
            predicted. It holds for the honest protocol too: it says what the metric is of.
        hides: column -> values of the training clips whose labels nothing may see: they train as
            clips without labels, and validate nothing. It holds for the honest protocol too: it
            says what the task is.
        final: what predicts the test part; ``None`` leaves it to the run.
        same: the one fold trains on all clips and validates on the same ones, of a paper that fits
            and judges so. Nothing is held out: it is no estimate for other clips.
        draw: of a retrieval (column, count): a run is of so many of the column's values, drawn by
            its seed; the rest of the data set is left out (:mod:`systems.data.drawn`).

    Raises:
        ValueError: values that do not go together.
    """

    folds: int = FOLDS
    hold_out: float | None = None
    grouped: Literal["group", "clip"] = "group"
    within: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    shuffled: bool = True
    judged: Judged = field(default_factory=dict)
    hides: Judged = field(default_factory=dict)
    final: Final | None = None
    same: bool = False
    draw: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        names = (self.within, self.strata, self.of, *self.judged.values(), *self.hides.values())
        if any(isinstance(one, str) for one in names):
            raise ValueError("within, strata, of and the values of judged and hides are tuples")
        if self.hold_out is None and (self.folds < 2 or self.within):
            raise ValueError("a cross-validation has 2 folds or more, and no 'within'")
        if self.hold_out is not None and (not 0 < self.hold_out < 1 or self.strata or self.of):
            raise ValueError("a hold-out is a share between 0 and 1, without 'strata' or 'of'")
        if self.of and self.folds % len(self.of):
            raise ValueError(f"{self.folds} folds cannot be made of {len(self.of)} parts evenly")
        if self.strata and not self.shuffled:
            raise ValueError("contiguous folds are not stratified")

    def words(self) -> str:
        """What a table calls it."""
        if self.same:
            return "fitted and judged on the same clips"
        unit = f"{self.grouped}s"
        if self.hold_out is not None:
            within = f" within each {' and '.join(self.within)}" if self.within else ""
            drawn = f", of {self.draw[1]} drawn by {self.draw[0]}" if self.draw else ""
            return f"hold-out of {self.hold_out:.0%} of the {unit}{within}{drawn}"
        by = " and ".join((LABEL, *self.strata))
        even = f", spread by {by}" if self.shuffled else ", contiguous"
        parts = f", as many of each of {' and '.join(self.of)}" if self.of else ""
        return f"{self.folds} folds of {unit}{even}{parts}"


def judged_by(dataset: Dataset, protocol: Protocol | None, strict: bool) -> tuple[Judged, str]:
    """Which clips count by a paper's protocol, and what to note of it.

    Data without its columns is judged as a whole, which the note says.

    Raises:
        UserError: such data, where the protocol itself was asked for (``strict``).
    """
    names = _lacking(dataset, protocol, protocol.judged if protocol else {}, strict)
    if not names:
        return protocol.judged if protocol else {}, ""
    return {}, f"all clips count: the paper counts some by {names}, which this data does not have"


def hidden_by(dataset: Dataset, protocol: Protocol | None, strict: bool) -> tuple[Judged, str]:
    """Which clips' labels are hidden by a paper's protocol, and what to note of it; raises like
    :func:`judged_by`."""
    names = _lacking(dataset, protocol, protocol.hides if protocol else {}, strict)
    if not names:
        return protocol.hides if protocol else {}, ""
    return {}, f"no labels are hidden: the paper does by {names}, which this data does not have"


def _lacking(dataset: Dataset, protocol: Protocol | None, columns: Judged, strict: bool) -> str:
    """The columns that no clip has, in words; ``strict`` raises."""
    clips = pool(dataset, protocol if strict else None)
    lacking = [c for c in columns if not any(c in clip.columns for clip in clips)]
    if strict and lacking:
        values_of(clips, lacking[0])  # raises
    return " and ".join(f"'{column}'" for column in lacking)


def pool(dataset: Dataset, protocol: Protocol | None) -> tuple[Clip, ...]:
    """The clips that folds are made of: the training clips, or those of the named parts."""
    if protocol is None or not protocol.of:
        return dataset.role("labelled")
    for part in protocol.of:
        if part not in dataset.labels or part in dataset.sealed_kind:
            raise UserError(
                f"the protocol makes folds of the part '{part}', which {dataset.name} does not "
                f"have with labels (it has {', '.join(dataset.labels)}): leave out --protocol "
                "paper, or use the paper's data."
            )
    return tuple(c for c in dataset.clips if c.part in protocol.of and c.role == "labelled")


def assigned_folds(
    protocol: Protocol, clips: Sequence[Clip], targets: np.ndarray, seed: int
) -> np.ndarray:
    """The fold [N] in which each clip validates; -1 of one that never does.

    ``targets`` [N, K] are the classes of the clips, of labels without classes no columns. The seed
    changes what is shuffled alone.

    Raises:
        UserError: a column that no clip has, or too few groups.
    """
    units = [c.group if protocol.grouped == "group" else c.clip_id for c in clips]
    if protocol.hold_out is not None:
        return _held_out(protocol, clips, targets, units, seed)
    strata = _strata(clips, targets, protocol.strata)
    parts = np.array([clip.part for clip in clips])
    each = protocol.folds // max(1, len(protocol.of))
    found = np.full(len(clips), TRAINS)
    for place, part in enumerate(protocol.of or (None,)):
        rows = np.flatnonzero(parts == part) if part else np.arange(len(clips))
        mine = [units[row] for row in rows]
        if protocol.shuffled:
            inside = stratified_groups(strata[rows], mine, each, seed)
        else:
            inside = _contiguous(mine, each)
        found[rows] = place * each + inside
    return found


def values_of(clips: Sequence[Clip], column: str) -> list[str]:
    """A column of clips [N] as text.

    Raises:
        UserError: no clip has it.
    """
    if not any(column in clip.columns for clip in clips):
        known = dict.fromkeys(name for clip in clips for name in clip.columns)
        raise UserError(
            f"the protocol takes the column '{column}', which the clips do not have (they have "
            f"{', '.join(known) or 'none'}): leave out --protocol paper, or use the paper's data."
        )
    return [str(clip.columns.get(column)) for clip in clips]


def counts_for(clip: Clip, judged: Judged) -> bool:
    """Whether metrics are of a clip."""
    return all(
        str(clip.columns.get(column)) in map(str, values) for column, values in judged.items()
    )


def _strata(clips: Sequence[Clip], targets: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Targets [N, K] as [N, K * C], once for each of the C combinations of the columns' values."""
    if not columns:
        return targets
    keys = list(zip(*(values_of(clips, column) for column in columns), strict=True))
    every = targets if targets.shape[1] else np.ones((len(clips), 1))
    masks = [np.array([key == one for key in keys]) for one in sorted(set(keys))]
    found = np.concatenate([every * mask[:, None] for mask in masks], axis=1)
    return found[:, found.any(axis=0)]


def _contiguous(units: Sequence[str], folds: int) -> np.ndarray:
    """The fold [N] of each row: units in order of appearance, as many in each fold, or one more."""
    names = list(dict.fromkeys(units))
    if len(names) < folds:
        raise UserError(too_few(len(names), folds))
    fold_of = {name: fold for fold, some in enumerate(_cuts(names, folds)) for name in some}
    return np.array([fold_of[unit] for unit in units])


def _cuts(names: Sequence[str], folds: int) -> list[Sequence[str]]:
    ends = [len(names) * fold // folds for fold in range(folds + 1)]
    return [names[start:stop] for start, stop in pairwise(ends)]


def _held_out(
    protocol: Protocol, clips: Sequence[Clip], targets: np.ndarray, units: Sequence[str], seed: int
) -> np.ndarray:
    """Fold 0 of the share of units that validates, drawn within each cell; -1 of the others."""
    columns = {name: values_of(clips, name) for name in protocol.within if name != LABEL}
    cells: dict[tuple[Any, ...], list[str]] = {}
    placed: set[str] = set()
    for row, unit in enumerate(units):
        if unit not in placed:  # a unit lies in the cell of its first clip
            placed.add(unit)
            cell = tuple(
                tuple(np.flatnonzero(targets[row])) if name == LABEL else columns[name][row]
                for name in protocol.within
            )
            cells.setdefault(cell, []).append(unit)
    generator, share = np.random.default_rng([seed, 1]), protocol.hold_out or 0.0
    validates: set[str] = set()
    for cell in sorted(cells):
        names = cells[cell]
        count = min(len(names) - 1, max(1, round(share * len(names))))
        order = generator.permutation(len(names)) if protocol.shuffled else range(len(names))
        validates |= {names[place] for place in list(order)[:count]}
    if not validates:
        raise UserError(
            f"a hold-out within each {' and '.join(protocol.within)} needs two {protocol.grouped}s "
            "in one of them. That is the paper's protocol, which `reproduce` takes: use the whole "
            "set, or `run` or `train` without --protocol paper."
        )
    return np.array([0 if unit in validates else TRAINS for unit in units])
