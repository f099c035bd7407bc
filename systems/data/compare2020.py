"""The sub-challenges of ComParE 2020: what their readers share.

Sound lies in ``wav/``, named by its part (``train_``, ``devel_``, ``test_``); tables lie in
``lab/``. Test labels were never published: ``?`` stands for them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from systems.data import VALIDATION
from systems.data.dataset import Clip, Dataset
from systems.data.listed import Item, Listing, Row
from systems.errors import UserError
from systems.files import whole
from systems.predictions import Predictions

PARTS = ("train", "devel", "test")
SPLITS = {"dev": VALIDATION}  # split of the papers' tables -> rows: those of the part devel
WITHHELD = "?"
AUDIO = "wav"


def part_of(name: str) -> str:
    """The part that a file's name says; the text before the first ``_`` of any other."""
    return name.split("_")[0]


def check_parts(listing: Listing, rows: Iterable[Row], column: str) -> None:
    """Every file is named by a part."""
    listing.faults += [
        f"{row.where}: '{row[column]}' begins with none of {', '.join(f'{p}_' for p in PARTS)}"
        for row in rows
        if part_of(row[column]) not in PARTS
    ]


def check_test_labels(listing: Listing, items: Iterable[Item]) -> None:
    """All of the test labels are withheld, or none of them."""
    test = [item for item in items if item.part == "test"]
    hidden = [item for item in test if item.label is None]
    if 0 < len(hidden) < len(test):
        listing.faults.append(
            f"{hidden[0].row.where}: the labels of {len(hidden)} of {len(test)} test clips are "
            f"'{WITHHELD}'; all or none of them are withheld"
        )


def check_listed(listing: Listing, items: Sequence[Item], table: str) -> None:
    """Every sound has its row in the table."""
    strangers = listing.unlisted(AUDIO, items)
    if {item.part for item in items} == {*PARTS}:  # else what is wrong with a table is told
        listing.faults += [f"{path}: no row of {table} is of it" for path in strangers]


def answered(dataset: Dataset, predictions: Predictions) -> list[tuple[Clip, int]]:
    """The test clips, in the set's order, each with its row of the predictions.

    Raises:
        UserError: a test clip is not answered exactly once.
    """
    rows = {clip_id: row for row, clip_id in enumerate(predictions.clip_ids)}
    clips = dataset.part("test")
    lacking = [clip.clip_id for clip in clips if predictions.clip_ids.count(clip.clip_id) != 1]
    if lacking:
        raise UserError(
            f"a submission of {dataset.name} needs one answer to each test clip: {len(lacking)} "
            f"have none or several, such as {lacking[0]}."
        )
    return [(clip, rows[clip.clip_id]) for clip in clips]


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write a CSV file, whole or not at all; returns its path."""
    with whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
