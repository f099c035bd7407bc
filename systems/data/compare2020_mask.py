"""ComParE 2020 Mask: whether a speaker wears a surgical mask; 1 s of speech a clip.

The test labels are withheld: :func:`write_submission` writes what the challenge took. The challenge
names no speakers, so each clip is its own group; where a table has a column ``speaker``, that is.
"""

from __future__ import annotations

from pathlib import Path

from systems.data import compare2020
from systems.data.compare2020 import AUDIO, PARTS, SPLITS, WITHHELD, part_of
from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of
from systems.kinds import kind
from systems.predictions import Predictions

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "METRICS", "NAME", "SPLITS", "TASK", "read",
           "write_submission"]  # fmt: skip

NAME = "compare2020_mask"
TASK = "speech_classification"
LAYOUT = """\
lab/labels.csv  file_name, label (clear, mask; of the test part ?), or the same rows in
                lab/train.csv, lab/devel.csv, lab/test.csv; further columns may follow: speaker
wav/*.wav       train_*.wav, devel_*.wav, test_*.wav"""

CLASSES = ("clear", "mask")
CLIPS = {"train": 10_895, "devel": 14_647, "test": 11_012}
METRICS = ("uar",)
TABLE = "lab/labels.csv"
COLUMNS = ("file_name", "label")


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set in ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out).
    """
    listing = Listing(NAME, root_of(NAME, folder, LAYOUT, "lab"))
    rows, table = _rows(listing)
    compare2020.check_parts(listing, rows, "file_name")
    rows = [row for row in rows if part_of(row["file_name"]) in PARTS]
    tested = [row for row in rows if part_of(row["file_name"]) == "test"]
    others = [row for row in rows if part_of(row["file_name"]) != "test"]
    listing.check(others, "label", CLASSES, "class")
    listing.check(tested, "label", (*CLASSES, WITHHELD), "class")
    items = [_item(row) for row in rows]
    compare2020.check_test_labels(listing, items)
    compare2020.check_listed(listing, items, table)
    return listing.dataset(items, CLASSES, TASK, skip_broken, validation="devel")


def _rows(listing: Listing) -> tuple[list[Row], str]:
    """The rows of all parts, and what their table is called."""
    if (listing.root / TABLE).exists():
        return listing.table(TABLE, COLUMNS), TABLE
    tables = {part: listing.table(f"lab/{part}.csv", COLUMNS) for part in PARTS}
    listing.faults += [
        f"{row.where}: '{row['file_name']}' is no clip of part {part}"
        for part, rows in tables.items()
        for row in rows
        if part_of(row["file_name"]) != part
    ]
    return [row for rows in tables.values() for row in rows], "lab/*.csv"


def _item(row: Row) -> Item:
    name, label = row["file_name"], row["label"]
    part = part_of(name)
    columns = {column: cell for column, cell in row.cells.items() if column not in COLUMNS}
    group = row.cells.get("speaker") or f"{part}/{Path(name).stem}"
    said = None if label == WITHHELD else label
    return Item(part, f"{AUDIO}/{name}", said, group, row, columns)


def write_submission(dataset: Dataset, predictions: Predictions, folder: Path) -> Path:
    """Write the decisions on the test clips as ``compare2020_mask.csv`` (file_name, prediction).

    Args:
        dataset: that is answered.
        predictions: with ``clip_scores`` [N, 2] of all test clips.
        folder: gets the file, whose path is returned.

    Raises:
        UserError: a test clip has no answer, or several.
    """
    decide = kind("class").decide
    assert decide is not None
    assert predictions.clip_scores is not None
    found = decide(predictions.clip_scores).argmax(axis=1)
    rows = (
        (Path(clip.clip_id).name, dataset.classes[found[row]])
        for clip, row in compare2020.answered(dataset, predictions)
    )
    return compare2020.write_table(folder / f"{NAME}.csv", ("file_name", "prediction"), rows)
