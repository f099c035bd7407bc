"""Vocal Imitation Set: voices that imitate a recording, the reference of its class, and a gallery.

The gallery are all original recordings (column ``class``; ``reference`` is 1 of those that were
imitated). Queries are the imitations that were included; each is to find its reference. The set has
no test part. A query's group is who imitated: the public tables round the participants' numbers, so
that two may be taken for one. A recording of two classes is an item of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.files import Files, examine, identity, refusal
from systems.data.listed import Listing, Row, root_of

__all__ = ["CLIPS", "LAYOUT", "METRICS", "NAME", "SPLITS", "TASK", "read"]

NAME = "vocal_imitation"
TASK = "vocal_imitation_search"
LAYOUT = """\
original_recordings_classes.txt                      filename, classname, is_reference, ...
vocal_imitations.txt                                 imitation_filename, reference_filename,
                                                     included, participant_id, ...
original_recordings/reference/CLASS_reference.wav
original_recordings/non_reference/CLASS/*.wav
vocal_imitations/included/*.wav"""

CLIPS = {"gallery": 2985, "train": 5601}
METRICS = ("mrr", "mean_rank", "recall_at_1", "recall_at_2", "recall_at_5", "recall_at_10")
SPLITS = {"dev": "out_of_fold"}
RECORDINGS, IMITATIONS = "original_recordings_classes.txt", "vocal_imitations.txt"
ORIGINALS, INCLUDED = "original_recordings", "vocal_imitations/included"


@dataclass(frozen=True)
class Entry:
    """A recording or an imitation: its clip's name, its file below the set's folder, its row."""

    clip_id: str
    path: str
    of_class: str
    row: Row


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out, and the imitations of such a reference).
    """
    root = root_of(NAME, folder, LAYOUT, IMITATIONS)
    listing = Listing(NAME, root)
    recordings = list(_recordings(listing))
    references = {e.row["filename"]: e for e in recordings if e.row["is_reference"] == "True"}
    imitations = list(_imitations(listing, references))
    files = Files(str(root), {e.clip_id: e.path for e in (*recordings, *imitations)})
    tables = {e.clip_id: e.row.table for e in (*recordings, *imitations)}
    seconds, broken = examine(files, tables, decode=skip_broken)
    if not listing.faults and not imitations:
        listing.faults.append(f"{IMITATIONS}: no imitation is included")
    if listing.faults or (broken and not skip_broken):
        raise refusal(NAME, root, listing.faults, () if skip_broken else broken)
    recordings = [e for e in recordings if e.clip_id in seconds]
    items = {e.clip_id for e in recordings}
    target = {e.clip_id: references[e.row["reference_filename"]].clip_id for e in imitations}
    queries = [e for e in imitations if e.clip_id in seconds and target[e.clip_id] in items]
    lost = sum(e.clip_id in seconds for e in imitations) - len(queries)
    return Dataset(
        name=NAME,
        task=TASK,
        classes=tuple(e.clip_id for e in recordings),
        clips=(
            *(_item(e, seconds[e.clip_id]) for e in recordings),
            *(_query(e, seconds[e.clip_id]) for e in queries),
        ),
        labels={"train": Labels("relevance", {e.clip_id: (target[e.clip_id],) for e in queries})},
        sealed={},
        sealed_kind={},
        source=Files(str(root), {e.clip_id: e.path for e in (*recordings, *queries)}),
        test_part=None,
        tables=tuple(identity(path) for path in listing.tables),
        skipped=broken,
        notes=(f"{lost} imitations of broken references are left out",) if lost else (),
    )


def _recordings(listing: Listing) -> Iterator[Entry]:
    """The original recordings, in the order of their table."""
    rows = listing.table(RECORDINGS, ("filename", "classname", "is_reference"), key=2)
    listing.check(rows, "is_reference", ("True", "False"), "is_reference (True or False)")
    for row in rows:
        inside = (
            "reference" if row["is_reference"] == "True" else f"non_reference/{row['classname']}"
        )
        path = f"{inside}/{row['filename']}"
        yield Entry(path, f"{ORIGINALS}/{path}", row["classname"], row)


def _imitations(listing: Listing, references: dict[str, Entry]) -> Iterator[Entry]:
    """The imitations that were included, each of a known reference."""
    columns = ("imitation_filename", "reference_filename", "included", "participant_id")
    rows = [row for row in listing.table(IMITATIONS, columns) if row["included"] == "True"]
    listing.check(rows, "reference_filename", references, f"reference of {RECORDINGS}")
    for row in rows:
        if row["reference_filename"] in references:
            name, of_class = (
                row["imitation_filename"],
                references[row["reference_filename"]].of_class,
            )
            yield Entry(f"imitation/{name}", f"{INCLUDED}/{name}", of_class, row)


def _item(entry: Entry, seconds: float) -> Clip:
    columns = {"class": entry.of_class, "reference": int(entry.row["is_reference"] == "True")}
    return Clip(entry.clip_id, "gallery", "gallery", entry.clip_id, seconds, columns)


def _query(entry: Entry, seconds: float) -> Clip:
    columns = {"class": entry.of_class}
    return Clip(entry.clip_id, "train", "labelled", entry.row["participant_id"], seconds, columns)
