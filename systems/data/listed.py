"""Public sets whose tables list their clips: what two readers or more share.

A reader makes an :class:`Item` of each row that it trusts. What is wrong with tables, rows and
files is gathered in a :class:`Listing` and told in one error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from systems.data.dataset import Clip, Dataset, LabelKind, Labels
from systems.data.delimited import TableFault, read_table
from systems.data.files import Files, examine, identity, refusal
from systems.errors import UserError, nearest

SEPARATORS = "\t,"


@dataclass(frozen=True)
class Row:
    """A row of a table, by column; ``where`` is its table and line."""

    table: str
    where: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True)
class Item:
    """A clip of part ``train``, ``test`` or another, as its row (its first one) says.

    ``path`` lies below the set's folder. ``label``: a class, or a series [T, D]; ``None``: it is
    withheld. ``sealed`` holds columns that come with the labels alone.
    """

    part: str
    path: str
    label: Any
    group: str
    row: Row
    columns: Mapping[str, str | int] = field(default_factory=dict)
    sealed: Mapping[str, str] = field(default_factory=dict)

    @property
    def clip_id(self) -> str:
        return f"{self.part}/{Path(self.path).name}"


def root_of(name: str, folder: str | None, layout: str, holds: str, inside: str = ".") -> Path:
    """The folder that has ``holds``: ``folder`` itself, or its ``inside``.

    Raises:
        UserError: neither has it, or no folder is given; says what was expected.
    """
    if folder is None:
        raise UserError(f"{name} lies on disk: name its folder with --data. Expected:\n{layout}")
    given = Path(folder).expanduser().absolute()  # what a link names, not where it leads
    for root in (given, given / inside):
        if (root / holds).exists():
            return root
    what = f"holds no {holds}" if given.exists() else "does not exist"
    raise UserError(f"{given} {what}. {name} expects:\n{layout}")


class Listing:
    """The tables of a set below ``root``, and every fault in them."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        self.tables: list[Path] = []
        self.faults: list[str] = []

    def table(
        self, path: str, columns: Sequence[str], header: bool = True, key: int = 1
    ) -> list[Row]:
        """The rows of a table, by comma or TAB; the first ``key`` columns name a row, once.

        Without a ``header`` it has just these columns.
        """
        try:
            read = read_table(self.root / path, SEPARATORS, () if header else columns)
        except FileNotFoundError:
            self.faults.append(f"{path}: is missing")
            return []
        except TableFault as fault:
            self.faults.append(f"{path}: {fault}")
            return []
        self.tables.append(self.root / path)
        names = read.header
        missing = [column for column in columns if column not in names]
        if missing:
            self.faults.append(f"{path}: has no column {', '.join(missing)}")
            return []
        self.faults += [f"{path} line {n}: {read.wrong_length(cells)}" for n, cells in read.uneven]
        rows = []
        for number, cells in read.lines:
            where = f"{path} line {number}"
            row = Row(path, where, dict(zip(names, cells, strict=True)))
            rows.append(row)
            self.faults += [f"{where}: {column} is empty" for column in columns if not row[column]]
        counts = Counter(" ".join(row[column] for column in columns[:key]) for row in rows)
        self.faults += [f"{path}: {n} rows are of {name}" for name, n in counts.items() if n > 1]
        return rows

    def check(self, rows: Iterable[Row], column: str, known: Collection[str], what: str) -> None:
        """Every row has one of the ``known`` values in a column; ``what`` they are."""
        self.faults += [
            f"{row.where}: '{row[column]}' is no {what}{nearest(row[column], known)}"
            for row in rows
            if row[column] not in known
        ]

    def unlisted(self, folder: str, items: Iterable[Item]) -> list[str]:
        """The WAV files of a folder that no item has; a folder that is not there is a fault."""
        if not (self.root / folder).is_dir():
            self.faults.append(f"{folder}: is missing")
            return []
        listed = {item.path for item in items}
        found = (path.name for path in sorted((self.root / folder).iterdir()))
        sounds = (n for n in found if n.lower().endswith(".wav") and not n.startswith("."))
        return [f"{folder}/{name}" for name in sounds if f"{folder}/{name}" not in listed]

    def dataset(
        self,
        items: Sequence[Item],
        classes: Sequence[str],
        task: str,
        skip_broken: bool,
        notes: Sequence[str] = (),
        kind: LabelKind = "class",
        validation: str | None = None,
        label_hop: float = 0.0,
        tested: bool = True,
        folds: Mapping[str, str] | None = None,
    ) -> Dataset:
        """The data set of the items, each once; its classes are those that training clips have.

        Labels of part ``test`` are sealed, and withheld where no clip has one. ``validation``: the
        official part. ``label_hop``: seconds a step of a series, whose clips have their number of
        steps as the column ``steps``. ``tested``: whether there is a test part; else ``folds``, of
        each clip, are the official ones.

        Raises:
            UserError: names every fault of the tables, the items and their files.
        """
        items = tuple({item.clip_id: item for item in items}.values())
        there = [i for i in items if (self.root / i.path).parent.is_dir()]  # else told once
        files = Files(str(self.root), {item.clip_id: item.path for item in there})
        tables = {item.clip_id: item.row.table for item in items}
        seconds, broken = examine(files, tables, decode=skip_broken)
        kept = [i for i in items if i.clip_id in seconds] if skip_broken else items
        if kind == "class":
            trained = {item.label for item in kept if item.part == "train"}
            self.faults += _untrained(kept, trained, classes)
            if len(trained) < len(classes):
                notes = (*notes, f"{len(trained)} of the set's {len(classes)} classes are there")
            classes = [name for name in classes if name in trained]
        if label_hop:
            self.faults += _step_faults(kept, seconds, label_hop)
        named = ("train", validation, "test" if tested else None)
        parts = tuple(part for part in named if part)
        self.faults += _empty_parts(kept, parts)
        if self.faults or (broken and not skip_broken):
            raise refusal(self.name, self.root, self.faults, () if skip_broken else broken)
        length = dict(seconds)
        if label_hop:  # a recording ends with its last step, to which its sound is cut or filled
            length = {i.clip_id: label_hop * int(i.columns["steps"]) for i in kept}
        by_part = {part: tuple(i for i in kept if i.part == part) for part in parts}
        sealed: dict[str, Callable[[], Labels]] = {}
        sealed_kind: dict[str, LabelKind] = {}
        if tested:
            scored = by_part.pop("test")
            sealed_kind["test"] = kind if any(i.label is not None for i in scored) else "withheld"
            sealed["test"] = partial(_labels, sealed_kind["test"], scored)
        return Dataset(
            name=self.name,
            task=task,
            classes=tuple(classes),
            clips=tuple(
                Clip(i.clip_id, i.part, "labelled", i.group, length[i.clip_id], i.columns)
                for i in kept
            ),
            labels={part: _labels(kind, items) for part, items in by_part.items()},
            sealed=sealed,
            sealed_kind=sealed_kind,
            test_part="test" if tested else None,
            folds=folds and {i.clip_id: folds[i.clip_id] for i in kept},
            source=Files(str(self.root), {item.clip_id: item.path for item in kept}),
            official_validation=validation,
            tables=tuple(identity(path) for path in self.tables),
            skipped=broken,
            notes=tuple(notes),
            label_hop=label_hop,
        )


def _labels(kind: LabelKind, items: Sequence[Item]) -> Labels:
    return Labels(
        kind,
        {item.clip_id: item.label for item in items if item.label is not None},
        {item.clip_id: item.sealed for item in items if item.sealed},
    )


def _untrained(
    items: Sequence[Item], trained: Collection[str], classes: Collection[str]
) -> list[str]:
    """Classes that are scored and that nothing trains."""
    if not trained:
        return []  # an empty part is told once
    scored = dict.fromkeys(i.label for i in items if i.part != "train" and i.label in classes)
    return [f"no training clip is of class {name}" for name in scored if name not in trained]


def _empty_parts(items: Sequence[Item], parts: Sequence[str]) -> list[str]:
    there = {item.part for item in items}
    return [f"no clip of part {part} can be used" for part in parts if part not in there]


def _step_faults(
    items: Sequence[Item], seconds: Mapping[str, float], label_hop: float
) -> list[str]:
    """Recordings whose series is by more than a step longer or shorter than their sound."""
    faults = []
    for item in (item for item in items if item.clip_id in seconds):
        length, steps = seconds[item.clip_id], int(item.columns["steps"])
        if abs(length - steps * label_hop) > label_hop + 1e-6:
            faults.append(
                f"{item.row.where}: {steps} rows for {length:.2f} s of {item.path}; one is needed "
                f"every {label_hop:g} s ({round(length / label_hop)})"
            )
    return faults
