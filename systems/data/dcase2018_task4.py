"""DCASE 2018 task 4: weakly labelled semi-supervised detection of domestic sounds.

Expects the folder ``dataset`` of the challenge baseline (or a folder that holds it). Training clips
carry tags or nothing; the test and evaluation parts carry timed events and are sealed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from systems.data.dataset import Clip, Dataset, Event, LabelKind, Labels, Role, event_fault
from systems.data.delimited import TableFault, read_table
from systems.data.events import event_notes, once
from systems.data.files import Broken, Files, examine, identity, refusal
from systems.data.listed import Row
from systems.errors import UserError, nearest

NAME = "dcase2018_task4"
TASK = "weak_sed"
LAYOUT = """\
dataset/metadata/train/weak.csv                   filename, event_labels (TAB-separated)
dataset/metadata/train/unlabel_in_domain.csv      filename
dataset/metadata/train/unlabel_out_of_domain.csv  filename (may be absent)
dataset/metadata/test/test.csv                    filename, onset, offset, event_label
dataset/metadata/eval/eval.csv                    the same (may be absent)
dataset/audio/train/weak/*.wav                    and so for the other four tables"""

CLASSES = (
    "Alarm_bell_ringing",
    "Blender",
    "Cat",
    "Dishes",
    "Dog",
    "Electric_shaver_toothbrush",
    "Frying",
    "Running_water",
    "Speech",
    "Vacuum_cleaner",
)

# part: (table, role, label kind, must be there)
PARTS: dict[str, tuple[str, Role, LabelKind, bool]] = {
    "weak": ("train/weak", "labelled", "tags", True),
    "unlabel_in_domain": ("train/unlabel_in_domain", "unlabelled", "none", True),
    "unlabel_out_of_domain": ("train/unlabel_out_of_domain", "out_of_domain", "none", False),
    "test": ("test/test", "labelled", "events", True),
    "eval": ("eval/eval", "labelled", "events", False),
}

CLIPS = {"weak": 1578, "unlabel_in_domain": 14_412, "test": 288}
METRICS = ("clip_macro_f1", "event_f1", "event_er")
# Split of the papers' tables -> part. What they call "dev" is the challenge's development set: its
# labelled clips that nobody trains on.
SPLITS = {"dev": "test"}

COLUMNS: dict[LabelKind, tuple[str, ...]] = {
    "tags": ("filename", "event_labels"),
    "none": ("filename",),
    "events": ("filename", "onset", "offset", "event_label"),
}


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every missing table, every row that
            cannot be right and every audio file that is missing, empty or broken (``skip_broken``
            leaves those out).
    """
    root = _root(folder)
    faults: list[str] = []
    tables = {part: _table(root, part, faults) for part in PARTS}
    paths: dict[str, str] = {}
    listed_in: dict[str, str] = {}
    for part, rows in tables.items():
        for row in rows:
            clip_id = f"{part}/{row['filename']}"
            paths[clip_id] = f"audio/{_audio_folder(part)}/{row['filename']}"
            listed_in[clip_id] = f"metadata/{PARTS[part][0]}.csv"
    files = Files(str(root), paths)
    seconds, broken = examine(files, listed_in, decode=skip_broken)
    kept = {
        part: [row for row in rows if f"{part}/{row['filename']}" in seconds]
        for part, rows in tables.items()
    }
    if not faults:
        faults += [f"no clip of part {p} can be used" for p in ("weak", "test") if not kept[p]]
    faults += _label_faults(kept if skip_broken else tables, seconds)
    if faults or (broken and not skip_broken):
        raise refusal(NAME, root, faults, () if skip_broken else broken)
    files = Files(str(root), {clip_id: paths[clip_id] for clip_id in seconds})
    return _dataset(files, kept, seconds, broken)


def _dataset(
    files: Files, tables: dict[str, list[Row]], seconds: dict[str, float], skipped: Broken
) -> Dataset:
    clips = tuple(
        Clip(clip_id, part, PARTS[part][1], _recording(clip_id), seconds[clip_id])
        for clip_id in files.paths
        for part in [clip_id.split("/")[0]]
    )
    sealed: dict[str, Callable[[], Labels]] = {
        part: partial(_events, part, tuple(tables[part]))
        for part in ("test", "eval")
        if tables[part]
    }
    metadata = (Path(files.root) / "metadata" / f"{table}.csv" for table, *_ in PARTS.values())
    return Dataset(
        name=NAME,
        task=TASK,
        classes=CLASSES,
        clips=clips,
        labels={"weak": _tags(tables["weak"])},
        sealed=sealed,
        sealed_kind=dict.fromkeys(sealed, "events"),
        source=files,
        tables=tuple(identity(path) for path in metadata if path.exists()),
        skipped=skipped,
        notes=tuple(
            note
            for part in sealed
            for note in event_notes(_by_clip(part, tables[part]), f"events of part {part}", False)
        ),
    )


def _root(folder: str | None) -> Path:
    if folder is None:
        raise UserError(f"{NAME} lies on disk: name its folder with --data. Expected:\n{LAYOUT}")
    given = Path(folder).expanduser().absolute()  # what a link names, not where it leads
    for root in (given, given / "dataset"):
        if (root / "metadata").is_dir():
            return root
    what = (
        "does not exist"
        if not given.exists()
        else "holds no folder 'metadata' or 'dataset/metadata'"
    )
    raise UserError(f"{given} {what}. {NAME} expects:\n{LAYOUT}")


def _table(root: Path, part: str, faults: list[str]) -> list[Row]:
    """The rows of a part's table; none where it cannot be used, of which the faults tell.

    A row may end early where a clip has no events.
    """
    table, _, kind, required = PARTS[part]
    name, path = f"metadata/{table}.csv", root / "metadata" / f"{table}.csv"
    try:
        read = read_table(path, "\t")
    except FileNotFoundError:
        faults += [f"{name} is missing"] if required else []
        return []
    except TableFault as fault:
        faults.append(f"{name} {fault}")
        return []
    missing = [column for column in COLUMNS[kind] if column not in read.header]
    if missing:
        faults.append(f"{name} has no column {', '.join(missing)} (columns are TAB-separated)")
        return []
    lines = list(read.lines)
    for number, cells in read.uneven:
        if len(cells) < len(read.header):
            lines.append((number, [*cells, *[""] * (len(read.header) - len(cells))]))
            continue
        hint = "; labels are separated by commas or semicolons" if kind == "tags" else ""
        faults.append(f"{name} line {number}: {read.wrong_length(cells)}{hint}")
    rows = [
        Row(name, f"{name} line {number} ({cells[0]})", dict(zip(read.header, cells, strict=True)))
        for number, cells in sorted(lines)
    ]
    counts = Counter(row["filename"] for row in rows)
    twice = [clip for clip, count in counts.items() if count > 1]
    if twice and kind != "events":
        faults.append(f"{name} lists clips more than once: {', '.join(twice)}")
    return rows


def _audio_folder(part: str) -> str:
    return part if part in ("test", "eval") else f"train/{part}"


def _recording(clip_id: str) -> str:
    """The video a clip was cut from: ``Y`` + 11 characters; clips of one video stay together."""
    return clip_id.split("/")[1][:12]


def _tags(rows: list[Row]) -> Labels:
    return Labels("tags", {f"weak/{row['filename']}": tuple(_weak_labels(row)) for row in rows})


def _weak_labels(row: Row) -> list[str]:
    """The tags of a clip: published tables have commas and semicolons between them."""
    return [name.strip() for name in re.split("[,;]", row["event_labels"])]


def _events(part: str, rows: tuple[Row, ...]) -> Labels:
    return Labels("events", {i: once(events) for i, events in _by_clip(part, rows).items()})


def _by_clip(part: str, rows: Sequence[Row]) -> dict[str, list[Event]]:
    values: dict[str, list[Event]] = {f"{part}/{row['filename']}": [] for row in rows}
    for row in rows:
        if row["event_label"]:
            event = Event(float(row["onset"]), float(row["offset"]), row["event_label"])
            values[f"{part}/{row['filename']}"].append(event)
    return values


def _label_faults(tables: dict[str, list[Row]], seconds: dict[str, float]) -> list[str]:
    """Labels that are in no list of classes, and events that do not lie in their clips."""
    wrong: list[str] = []
    for part, rows in tables.items():
        if PARTS[part][2] == "none":
            continue
        for row in rows:
            names = _weak_labels(row) if part == "weak" else [row["event_label"]]
            if part != "weak" and not row["event_label"]:
                if row["onset"] or row["offset"]:
                    wrong.append(f"{row.where}: times without a label")
                continue
            wrong += [
                f"{row.where}: '{n}' is no class{nearest(n, CLASSES)}"
                for n in names
                if n not in CLASSES
            ]
            if part != "weak":
                duration = seconds.get(f"{part}/{row['filename']}", math.inf)
                why = event_fault(row["onset"], row["offset"], duration)
                wrong += [f"{row.where}: {why}"] if why else []
    return wrong
