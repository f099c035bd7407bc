"""The rows of a user's table: one CSV file into one item a clip, with every fault of a row."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from systems.data.delimited import TableFault, read_table
from systems.errors import UserError, nearest, unknown

SEPARATORS = ",;\t"
REQUIRED = ("path", "labels")
COLUMNS = (*REQUIRED, "onset", "offset", "part", "fold", "group")
PARTS = ("train", "validation", "test", "unlabelled")
NONE = "-"  # instead of labels: the clip was listened to, and none of the classes is there


class Fault(NamedTuple):
    """Something in a table that cannot be right; ``line`` is 0 where it is about the whole."""

    line: int
    clip_id: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line} ({self.clip_id}): {self.why}" if self.line else self.why


class TimedLabel(NamedTuple):
    """One label of a row with times, as written."""

    line: int
    onset: str
    offset: str
    label: str


@dataclass(frozen=True)
class Item:
    """What the rows of a clip say: labels without times, or events; neither is a clip with none.

    ``none``: whether it says so itself that none of the classes is there.
    ``clip_id`` is the path below the table's folder, or an absolute one.
    """

    clip_id: str
    line: int
    part: str
    fold: str
    group: str
    columns: Mapping[str, str]
    labels: tuple[str, ...]
    events: tuple[TimedLabel, ...]
    none: bool = False

    @property
    def labelled(self) -> bool:
        """Whether it has labels without times, be it that there is none of the classes."""
        return bool(self.labels) or self.none

    def names(self) -> tuple[str, ...]:
        """The classes that sound in the clip, each once."""
        return tuple(dict.fromkeys((*self.labels, *(event.label for event in self.events))))


@dataclass(frozen=True)
class Rows:
    """A table as read: its columns, an item a clip in order of appearance, the faults so far."""

    header: tuple[str, ...]
    items: tuple[Item, ...]
    faults: tuple[Fault, ...]


def read_rows(path: Path) -> Rows:
    """Read a table separated by comma, semicolon or TAB, whichever its header line has most of.

    Raises:
        UserError: a file that is no table, or a header without the columns that must be there.
    """
    try:
        table = read_table(path, SEPARATORS)
    except (TableFault, FileNotFoundError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}.") from error
    header = table.header
    _check_header(path, header)
    faults = [Fault(line, cells[0], table.wrong_length(cells)) for line, cells in table.uneven]
    items: dict[str, Item] = {}
    for line, cells in table.lines:
        row = dict(zip(header, cells, strict=True))
        if not row["path"]:
            faults.append(Fault(line, "?", "the path is empty"))
            continue
        item, wrong = _item(path.parent, line, row)
        items[item.clip_id], differing = _joined(items.get(item.clip_id), item)
        faults += [Fault(line, item.clip_id, why) for why in (*wrong, *differing)]
    return Rows(header, tuple(items.values()), tuple(faults))


def _check_header(path: Path, header: tuple[str, ...]) -> None:
    needed = [*REQUIRED]
    if "onset" in header or "offset" in header:
        needed += ["onset", "offset"]
    missing = [f"no column '{n}'{nearest(n, header)}" for n in needed if n not in header]
    missing += [f"two columns '{n}'" for n in dict.fromkeys(header) if header.count(n) > 1]
    if missing:
        raise UserError(f"{path} has {', '.join(missing)}; its header is: {' '.join(header)}.")


def _item(folder: Path, line: int, row: Mapping[str, str]) -> tuple[Item, list[str]]:
    """One row as an item, and what is wrong with it."""
    faults: list[str] = []
    labels = [label.strip() for label in row["labels"].split("|")] if row["labels"] else []
    if "" in labels:
        faults.append(f"a label is empty in '{row['labels']}'")
    none = NONE in labels
    if none and len(labels) > 1:
        faults.append(f"'{NONE}' says that none of the classes is there: it stands alone")
    labels = [label for label in labels if label and label != NONE]
    onset, offset = row.get("onset", ""), row.get("offset", "")
    if bool(onset) != bool(offset):
        faults.append(f"onset '{onset}' and offset '{offset}': give both or neither")
    elif onset and not labels:
        faults.append("an event without a label")
    part = row.get("part", "train")
    if part not in PARTS:
        faults.append(str(unknown("part", part, PARTS)))
        # So that no later check blames what follows from the misspelt word.
        part = difflib.get_close_matches(part, PARTS, n=1, cutoff=0.0)[0]
    clip_id = _clip_id(folder, row["path"])
    item = Item(
        clip_id=clip_id,
        line=line,
        part=part,
        fold=row.get("fold", ""),
        group=row.get("group", "") or clip_id,
        columns={name: cell for name, cell in row.items() if name not in COLUMNS},
        labels=() if onset or offset else tuple(labels),
        events=tuple(TimedLabel(line, onset, offset, x) for x in labels if onset and offset),
        none=none,
    )
    return item, faults


def _clip_id(folder: Path, text: str) -> str:
    path = os.path.normpath(os.path.join(folder, os.path.expanduser(text)))
    return os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path


def _joined(known: Item | None, row: Item) -> tuple[Item, list[str]]:
    """The item of a clip with one more row, and what does not fit together."""
    if known is None:
        return row, []
    faults = [
        f"{name} '{getattr(row, name)}', but '{getattr(known, name)}' on line {known.line}"
        for name in ("part", "fold", "group")
        if getattr(row, name) != getattr(known, name)
    ]
    if not (known.events and row.events):
        faults.append(
            f"is on line {known.line} too: only rows with an onset, one an event, repeat a path"
        )
    return replace(known, events=(*known.events, *row.events)), faults
