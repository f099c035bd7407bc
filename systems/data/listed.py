"""One class a clip, from the tables of a public set: what two readers or more share.

A reader makes an :class:`Item` of each row that it trusts. What is wrong with tables, rows and
files is gathered in a :class:`Listing` and told in one error.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.files import MEND, Broken, Files, broken_lines, examine, identity
from systems.errors import UserError, nearest


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
    """A clip of part ``train`` or ``test``, as its row says.

    ``path`` lies below the set's folder. ``sealed`` holds columns that come with the labels alone.
    """

    part: str
    path: str
    label: str
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
    given = Path(folder).expanduser().resolve()
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

    def table(self, path: str, columns: Sequence[str], header: bool = True) -> list[Row]:
        """The rows of a table, by comma or TAB; the first column names a row, once.

        Without a ``header`` it has just these columns. UTF-8 with or without a byte order mark and
        any ends of lines will do.
        """
        try:
            text = (self.root / path).read_text(encoding="utf-8-sig")
            separator = "\t" if "\t" in text.split("\n", 1)[0] else ","
            lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
            names = [name.strip() for name in next(lines, [])] if header else list(columns)
            read = [(lines.line_num, [c.strip() for c in cells]) for cells in lines if any(cells)]
        except FileNotFoundError:
            self.faults.append(f"{path}: is missing")
            return []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.faults.append(f"{path}: cannot be read as a table in UTF-8: {error}")
            return []
        self.tables.append(self.root / path)
        missing = [column for column in columns if column not in names]
        if missing:
            self.faults.append(f"{path}: has no column {', '.join(missing)}")
            return []
        rows = []
        for number, cells in read:
            where = f"{path} line {number}"
            if len(cells) != len(names):
                self.faults.append(f"{where}: {len(cells)} fields instead of {len(names)}")
                continue
            row = Row(path, where, dict(zip(names, cells, strict=True)))
            rows.append(row)
            self.faults += [f"{where}: {column} is empty" for column in columns if not row[column]]
        counts = Counter(row[columns[0]] for row in rows)
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
    ) -> Dataset:
        """The data set of the items, each once; its classes are those that training clips have.

        Raises:
            UserError: names every fault of the tables, the items and their files.
        """
        items = tuple({item.clip_id: item for item in items}.values())
        there = [i for i in items if (self.root / i.path).parent.is_dir()]  # else told once
        files = Files(str(self.root), {item.clip_id: item.path for item in there})
        tables = {item.clip_id: item.row.table for item in items}
        seconds, broken = examine(files, tables, decode=skip_broken)
        kept = [i for i in items if i.clip_id in seconds] if skip_broken else items
        trained = {item.label for item in kept if item.part == "train"}
        self.faults += _split_faults(kept, trained, classes)
        if self.faults or (broken and not skip_broken):
            raise self._refusal(() if skip_broken else broken)
        if len(trained) < len(classes):
            notes = (*notes, f"{len(trained)} of the set's {len(classes)} classes are there")
        sealed: Callable[[], Labels] = partial(_labels, tuple(i for i in kept if i.part == "test"))
        return Dataset(
            name=self.name,
            task=task,
            classes=tuple(name for name in classes if name in trained),
            clips=tuple(
                Clip(i.clip_id, i.part, "labelled", i.group, seconds[i.clip_id], i.columns)
                for i in kept
            ),
            labels={"train": _labels([i for i in kept if i.part == "train"])},
            sealed={"test": sealed},
            sealed_kind={"test": "class"},
            source=Files(str(self.root), {item.clip_id: item.path for item in kept}),
            tables=tuple(identity(path) for path in self.tables),
            skipped=broken,
            notes=tuple(notes),
        )

    def _refusal(self, broken: Broken) -> UserError:
        lines = [f"  {fault}" for fault in self.faults]
        if broken:
            lines += [f"audio files that cannot be used ({len(broken)}):", broken_lines(broken)]
            lines.append(MEND)
        return UserError(f"{self.name} in {self.root} cannot be used:\n" + "\n".join(lines))


def _labels(items: Iterable[Item]) -> Labels:
    items = tuple(items)
    return Labels(
        "class",
        {item.clip_id: item.label for item in items},
        {item.clip_id: item.sealed for item in items if item.sealed},
    )


def _split_faults(
    items: Sequence[Item], trained: Collection[str], classes: Collection[str]
) -> list[str]:
    """Empty parts, test clips of classes that nothing trains, and groups in both parts."""
    parts = {part: [i for i in items if i.part == part] for part in ("train", "test")}
    empty = [f"no clip of part {part} can be used" for part, has in parts.items() if not has]
    if empty:
        return empty
    scored = dict.fromkeys(item.label for item in parts["test"] if item.label in classes)
    faults = [f"no training clip is of class {name}" for name in scored if name not in trained]
    groups = {item.group: item for item in parts["train"]}
    for item in {item.group: item for item in parts["test"]}.values():
        if item.group in groups:
            other = groups[item.group].row.where
            faults.append(f"{item.row.where}: '{item.group}' trains too ({other})")
    return faults
