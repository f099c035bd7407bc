"""ComParE 2020 Breathing: a belt round the chest, 25 values a second, beside spontaneous speech.

A recording is one speaker and a group. The test values are withheld: :func:`write_submission`
writes what the challenge took. Every clip has its number of steps as the column ``steps``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from systems.data import compare2020
from systems.data.compare2020 import AUDIO, PARTS, SPLITS, WITHHELD, part_of
from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of
from systems.errors import UserError
from systems.predictions import Predictions

__all__ = ["CLASSES", "CLIPS", "LABEL_HOP", "LAYOUT", "METRICS", "NAME", "SPLITS", "TASK", "read",
           "write_submission"]  # fmt: skip

NAME = "compare2020_breathing"
TASK = "series_regression"
LAYOUT = """\
lab/labels.csv  filename, timeFrame (s, every 0.04 s), upper_belt (of the test part ?)
wav/*.wav       train_*.wav, devel_*.wav, test_*.wav"""

CLASSES = ("upper_belt",)
CLIPS = {"train": 17, "devel": 16, "test": 16}
METRICS = ("pcc", "mean_pcc")
LABEL_HOP = 0.04  # s
TABLE = "lab/labels.csv"
COLUMNS = ("filename", "timeFrame", "upper_belt")


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set in ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out).
    """
    listing = Listing(NAME, root_of(NAME, folder, LAYOUT, "lab"))
    recordings: dict[str, list[Row]] = {}
    for row in listing.table(TABLE, COLUMNS, key=2):
        recordings.setdefault(row["filename"], []).append(row)
    compare2020.check_parts(listing, (rows[0] for rows in recordings.values()), "filename")
    items = [
        _item(listing, name, rows) for name, rows in recordings.items() if part_of(name) in PARTS
    ]
    compare2020.check_test_labels(listing, items)
    compare2020.check_listed(listing, items, TABLE)
    return listing.dataset(
        items, CLASSES, TASK, skip_broken,
        kind="series", validation="devel", label_hop=LABEL_HOP,
    )  # fmt: skip


def _item(listing: Listing, name: str, rows: list[Row]) -> Item:
    """A recording; the first of its rows at a wrong time and without a number are told."""
    for step, row in enumerate(rows):
        time = _number(row["timeFrame"])
        if not abs(time - step * LABEL_HOP) < LABEL_HOP / 4:
            why = f"timeFrame '{row['timeFrame']}' instead of {step * LABEL_HOP:.2f}"
            listing.faults.append(f"{row.where}: {why}")
            break
    part, path, columns = part_of(name), f"{AUDIO}/{name}", {"steps": len(rows)}
    if part == "test" and all(row["upper_belt"] == WITHHELD for row in rows):
        return Item(part, path, None, path, rows[0], columns)
    values = np.array([[_number(row["upper_belt"])] for row in rows])
    wrong = [row for row, value in zip(rows, values, strict=True) if not np.isfinite(value[0])]
    if wrong:
        why = f"upper_belt '{wrong[0]['upper_belt']}' is no number"
        more = f" (and {len(wrong) - 1} more of {name})" if len(wrong) > 1 else ""
        listing.faults.append(f"{wrong[0].where}: {why}{more}")
    return Item(part, path, values, path, rows[0], columns)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def write_submission(dataset: Dataset, predictions: Predictions, folder: Path) -> Path:
    """Write the test recordings' values as ``compare2020_breathing.csv``.

    Its rows are those of ``lab/labels.csv``: filename, timeFrame, prediction.

    Args:
        dataset: that is answered.
        predictions: with ``frame_values``, [T, 1] of each test recording.
        folder: gets the file, whose path is returned.

    Raises:
        UserError: a test recording has no answer or several, or one at other steps.
    """
    values = predictions.frame_values
    assert values is not None
    rows: list[tuple[str, str, str]] = []
    for clip, row in compare2020.answered(dataset, predictions):
        name, steps = Path(clip.clip_id).name, clip.columns["steps"]
        if len(values[row]) != steps:
            raise UserError(f"{name} is answered at {len(values[row])} steps instead of {steps}.")
        rows += [
            (name, f"{step * LABEL_HOP:.2f}", f"{value:.6f}")
            for step, value in enumerate(values[row][:, 0])
        ]
    header = ("filename", "timeFrame", "prediction")
    return compare2020.write_table(folder / f"{NAME}.csv", header, rows)
