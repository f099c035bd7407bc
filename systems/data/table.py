"""A user's own sounds, listed in one CSV file.

Every fault of the table and of the files in it is named in one error, with line numbers.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from systems.data.dataset import Clip, Dataset, Event, LabelKind, Labels, Role, event_fault
from systems.data.events import event_notes, merged
from systems.data.files import MEND, Broken, Files, broken_lines, examine, identity
from systems.data.sharing import equal_sound, joined_groups
from systems.data.splits import own_fold_faults
from systems.data.stratify import FOLDS
from systems.data.table_rows import COLUMNS, NONE, PARTS, Fault, Item, Rows, read_rows
from systems.errors import UserError, nearest

NAME = "table"
TASK = "any"
LAYOUT = """\
a CSV file, or a folder that holds table.csv or one *.csv (comma, semicolon or TAB; UTF-8), with
path            a sound file, below the table's folder or absolute
labels          names of classes, several separated by |; -: none of them; empty: no label
onset, offset   s, both or neither, one row an event (may be absent)
part            train, validation, test or unlabelled (absent: about a fifth is the test part)
fold            your own folds of the training clips, any words (may be absent)
group           speaker, location or recording: never split (absent: each clip by itself)"""

TEST_SHARE = 0.2  # of a test part that is drawn here
TRAINING_GROUPS = 2  # of each class that stay out of it: one trains while the other validates


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read a table; ``folder`` is the CSV file or the folder that holds it.

    Raises:
        UserError: no table there, or one error that names every row and file that cannot be right
            (``skip_broken`` leaves broken files out).
    """
    path = _table(folder)
    rows = read_rows(path)
    files = Files(str(path.parent), {item.clip_id: item.clip_id for item in rows.items})
    seconds, broken = examine(files, dict.fromkeys(files.paths, path.name), decode=skip_broken)
    usable = rows.items
    if skip_broken:
        usable = tuple(item for item in usable if item.clip_id in seconds)
    timed = _timed(rows)
    items, notes, faults = _with_parts(usable, timed, rows, files, seconds)
    faults += _clip_faults(items, timed, seconds) + _table_faults(items, rows)
    if faults or rows.faults or (broken and not skip_broken):
        raise _refusal(path, rows, faults, () if skip_broken else broken)
    return _dataset(path, items, timed, seconds, broken, notes)


def _table(folder: str | None) -> Path:
    if folder is None:
        raise UserError(f"{NAME} lies on disk: name it with --data. Expected:\n{LAYOUT}")
    path = Path(folder).expanduser().absolute()  # sounds lie beside a link, not where it leads
    if not path.is_dir():
        if path.exists():
            return path
        raise UserError(f"{path} does not exist. {NAME} expects:\n{LAYOUT}")
    found = sorted(path.glob("*.csv"))
    if path / "table.csv" in found:
        return path / "table.csv"
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no *.csv"
        raise UserError(f"{path} holds {names}: name the table. {NAME} expects:\n{LAYOUT}")
    return found[0]


# --- parts ---


def _timed(rows: Rows) -> set[str]:
    """The parts whose labels are events; a test part that is made here is like training."""
    timed = {item.part for item in rows.items if item.events}
    return timed if "part" in rows.header or not timed else {*timed, "test"}


def _with_parts(
    items: Sequence[Item], timed: set[str], rows: Rows, files: Files, seconds: Mapping[str, float]
) -> tuple[list[Item], list[str], list[Fault]]:
    """Items in their final parts, what was decided about them, and what forbids it.

    Training clips without labels, where labels have no times, become unlabelled.
    """
    notes: list[str] = []
    faults: list[Fault] = []
    bare: set[str] = set()
    if "train" not in timed:
        bare = {item.clip_id for item in items if item.part == "train" and not item.labelled}
    if bare:
        notes.append(f"{len(bare)} clips without labels are used as unlabelled")
    items = [replace(i, part="unlabelled") if i.clip_id in bare else i for i in items]
    if "part" not in rows.header:
        items, note, faults = _with_test_part(items, files, seconds)
        notes.append(note)
    free = [name for name in rows.header if name not in COLUMNS]
    if free:
        notes.append(f"columns without a meaning of their own: {', '.join(free)}")
    return items, notes, faults


def _with_test_part(
    items: list[Item], files: Files, seconds: Mapping[str, float]
) -> tuple[list[Item], str, list[Fault]]:
    """Draw a test part: the groups of labelled clips whose hash lies in the lowest fifth, but of
    each class not the two with the highest.

    A group's place follows from its name alone, so rows that are added take no group out of the
    test part, unless they give it a class that fewer than two groups with higher hashes have. Clips
    of equal sound count as one group.
    """
    labelled = [item for item in items if item.part == "train"]
    length = {item.clip_id: seconds.get(item.clip_id, 0.0) for item in labelled}
    own = {item.clip_id: item.group for item in labelled}
    group_of = joined_groups(own, equal_sound(files, length))
    place: dict[str, float] = {}
    for clip_id, group in group_of.items():
        place[group] = min(place.get(group, 1.0), _hashed(own[clip_id]))
    if len(place) < FOLDS:
        why = f"no column 'part', and {len(place)} groups of labelled clips are too few to"
        return items, "", [Fault(0, "", f"{why} make a test part of: it takes {FOLDS}")]
    having: dict[str, set[str]] = {}
    for item in labelled:
        for name in item.names():
            having.setdefault(name, set()).add(group_of[item.clip_id])
    kept = {
        group
        for groups in having.values()
        for group in sorted(groups, key=place.__getitem__)[-TRAINING_GROUPS:]
    }
    rare = [f"'{name}' ({len(groups)})" for name, groups in sorted(having.items())
            if len(groups) <= TRAINING_GROUPS]  # fmt: skip
    in_test = {group for group, share in place.items() if share < TEST_SHARE} - kept
    if not in_test:
        why = (
            f"no column 'part', and none of the {len(place)} groups of labelled clips (without a "
            "column 'group': clips) falls into the test part: a fifth of them, by a hash of their "
            "names, of which each class keeps two groups for training. Say in a column 'part' "
            "which clips are test clips, or add more."
            + f" Too rare, with their groups: {', '.join(rare)}"
            * bool(rare)
        )
        return items, "", [Fault(0, "", why)]
    test = {clip_id for clip_id, group in group_of.items() if group in in_test}
    note = (
        f"no column 'part': {len(test)} of {len(labelled)} labelled clips are the test part (whole "
        "groups, a fifth of them by a hash of their names: rows that are added move none out of it)"
    )
    return [replace(i, part="test") if i.clip_id in test else i for i in items], note, []


def _hashed(name: str) -> float:
    """A number from 0 to 1 that follows from a name."""
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


# --- faults ---


def _clip_faults(items: Sequence[Item], timed: set[str], seconds: dict[str, float]) -> list[Fault]:
    """What is wrong with single clips, once their parts are known."""
    faults = []
    for item in items:
        if item.part == "unlabelled" and (item.names() or item.none):
            faults.append((item, "labels in part 'unlabelled' would not be used"))
        elif item.part in timed and item.labels:
            faults.append((item, f"labels without onset, but part '{item.part}' has events"))
        elif item.part in ("test", "validation") and item.part not in timed and not item.labelled:
            why = f"no label, but part '{item.part}' is scored (none of the classes is '{NONE}')"
            faults.append((item, why))
    found = [Fault(item.line, item.clip_id, why) for item, why in faults]
    for item in items:
        for event in item.events:
            duration = seconds.get(item.clip_id, math.inf)
            why = event_fault(event.onset, event.offset, duration)
            found += [Fault(event.line, item.clip_id, why)] if why else []
    return found


def _table_faults(items: Sequence[Item], rows: Rows) -> list[Fault]:
    """What is wrong with the table as a whole: parts, classes, folds."""
    parts = {item.part for item in items}
    faults = []
    if "part" in rows.header and "test" not in parts:
        why = "no clip of part 'test': without one nothing can be scored (without the column "
        faults.append(Fault(0, "", f"{why}'part' a fifth of the clips becomes the test part)"))
    if "validation" in parts and any(item.fold for item in items):
        why = "a column 'fold' and a part 'validation' both say who validates: keep one"
        faults.append(Fault(0, "", why))
    return [*faults, *_untrained(items), *_fold_faults(items, rows)]


def _untrained(items: Sequence[Item]) -> list[Fault]:
    """Classes that no training clip has, at the line of their first clip."""
    trained = {name for item in items if item.part == "train" for name in item.names()}
    if not trained:
        return [Fault(0, "", "no labelled training clip")]
    first: dict[str, Item] = {}
    for item in items:
        for name in item.names():
            first.setdefault(name, item)
    return [
        Fault(i.line, i.clip_id, f"class '{name}' has no training clip{nearest(name, trained)}")
        for name, i in first.items()
        if name not in trained
    ]


def _fold_faults(items: Sequence[Item], rows: Rows) -> list[Fault]:
    if not any(item.fold for item in items):
        return []
    line = {item.clip_id: item.line for item in items}
    training = [_clip(item, 0.0) for item in items if item.part == "train"]
    wrong = own_fold_faults(training, _folds(items))
    # A part that was made here, not written, takes clips out of the user's folds.
    if "part" in rows.header:
        wrong += [
            (item.clip_id, f"fold '{item.fold}', but part '{item.part}': folds are for training")
            for item in items
            if item.fold and item.part in ("validation", "test")
        ]
    return [Fault(line[clip_id], clip_id, why) for clip_id, why in wrong]


def _refusal(path: Path, rows: Rows, faults: Sequence[Fault], broken: Broken) -> UserError:
    text = f"{path} cannot be used."
    found = sorted((*rows.faults, *faults))
    if found:
        text += "\n" + "\n".join(f"  {fault}" for fault in found)
    if broken:
        line = {item.clip_id: item.line for item in rows.items}
        files = [(f"line {line[clip_id]} ({clip_id})", why) for clip_id, why in broken]
        text += f"\n{len(broken)} of {len(rows.items)} audio files cannot be used:\n"
        text += f"{broken_lines(files)}\n{MEND}"
    return UserError(text)


# --- the data set ---


def _dataset(
    path: Path,
    items: Sequence[Item],
    timed: set[str],
    seconds: dict[str, float],
    skipped: Broken,
    notes: Sequence[str],
) -> Dataset:
    parts = {name: tuple(i for i in items if i.part == name) for name in {i.part for i in items}}
    scored = [item for item in items if item.part != "unlabelled"]
    untimed: LabelKind = "class" if all(len(i.names()) == 1 for i in scored) else "tags"
    kinds: dict[str, LabelKind] = {
        name: "events" if name in timed else untimed for name in parts if name != "unlabelled"
    }
    sealed: dict[str, Callable[[], Labels]] = {
        "test": partial(_labels, kinds["test"], parts["test"])
    }
    folds = _folds(items)
    return Dataset(
        name=NAME,
        task=TASK,
        classes=tuple(sorted({name for item in items for name in item.names()})),
        clips=tuple(_clip(item, seconds[item.clip_id]) for item in items),
        labels={n: _labels(kinds[n], parts[n]) for n in ("train", "validation") if n in parts},
        sealed=sealed,
        sealed_kind={"test": kinds["test"]},
        source=Files(str(path.parent), {item.clip_id: item.clip_id for item in items}),
        official_validation="validation" if "validation" in parts else None,
        tables=(identity(path),),
        folds=folds or None,
        skipped=skipped,
        notes=(*notes, *_event_notes(items, timed)),
    )


def _folds(items: Sequence[Item]) -> dict[str, str]:
    return {item.clip_id: item.fold for item in items if item.fold and item.part == "train"}


def _clip(item: Item, seconds: float) -> Clip:
    role: Role = "unlabelled" if item.part == "unlabelled" else "labelled"
    return Clip(item.clip_id, item.part, role, item.group, seconds, item.columns)


def _labels(kind: LabelKind, items: Sequence[Item]) -> Labels:
    values: dict[str, Any] = {item.clip_id: item.names() for item in items}
    if kind == "class":
        values = {clip_id: names[0] for clip_id, names in values.items()}
    elif kind == "events":
        values = {item.clip_id: merged(_events(item)) for item in items}
    return Labels(kind, values)


def _events(item: Item) -> tuple[Event, ...]:
    """As they are written: :func:`event_notes` tells of what is doubled or overlaps."""
    return tuple(Event(float(e.onset), float(e.offset), e.label) for e in item.events)


def _event_notes(items: Sequence[Item], timed: set[str]) -> list[str]:
    return [
        note
        for part in PARTS
        if part in timed
        for note in event_notes(
            {item.clip_id: _events(item) for item in items if item.part == part},
            f"events of part '{part}'", merges=True,
        )
    ]  # fmt: skip
