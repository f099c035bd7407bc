"""Bird audio detection (DCASE 2018 task 3): whether a clip of 10 s has a bird, in sets of their own
domains.

Three sets have labels (``train``). Those of the evaluation sets were never published: where their
sound is there it is the test part, and :func:`write_submission` writes what the challenge took. A
clip's set is its column ``datasetid``. No table names places or recorders: each clip is a group.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from systems.data.compare2020 import answered, write_table
from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of
from systems.predictions import Predictions

NAME = "dcase2018_task3"
TASK = "bird_audio_detection"
SETS = ("BirdVox-DCASE-20k", "ff1010bird", "warblrb10k")
TESTED = ("Chernobyl", "PolandNFC", "wabrlrb10k_test", "warblrb10k_test")  # misspelt as published
LAYOUT = """\
labels/BirdVox-DCASE-20k.csv, labels/ff1010bird.csv, labels/warblrb10k.csv: itemid, datasetid,
       hasbird (0 or 1); or under their published names: BirdVoxDCASE20k_csvpublic.csv,
       ff1010bird_metadata_2018.csv, warblrb10k_public_metadata_2018.csv. One or two will do
audio/BirdVox-DCASE-20k/*.wav, audio/ff1010bird/*.wav, audio/warblrb10k/*.wav: ITEMID.wav
audio/Chernobyl, audio/PolandNFC, audio/wabrlrb10k_test: the test part, without labels; any of
       them may be left out"""

CLIPS = {"train": 35_690, "test": 12_620}
SPLITS = {"eval": "test"}
METRICS = ("clip_auc",)
CLASSES = ("bird",)
TABLES = {
    "BirdVox-DCASE-20k": "BirdVoxDCASE20k_csvpublic.csv",
    "ff1010bird": "ff1010bird_metadata_2018.csv",
    "warblrb10k": "warblrb10k_public_metadata_2018.csv",
}
COLUMNS = ("itemid", "datasetid", "hasbird")


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the sets below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out).
    """
    listing = Listing(NAME, root_of(NAME, folder, LAYOUT, "audio"))
    items = [item for name in SETS for item in _labelled(listing, name)]
    names = Counter(Path(item.path).name for item in items)
    listing.faults += [f"{name}: lies in {n} sets" for name, n in names.items() if n > 1]
    if not items and not listing.faults:
        listing.faults.append(f"labels: no table of {', '.join(SETS)} is there")
    tested = [item for name in TESTED for item in _unlabelled(listing, name)]
    return listing.dataset(
        [*items, *tested], CLASSES, TASK, skip_broken, kind="tags", tested=bool(tested)
    )


def _labelled(listing: Listing, name: str) -> list[Item]:
    """The clips of a set, whose table lies under one of its two names; none without a table and
    sound."""
    found = [
        path for path in (f"labels/{name}.csv", TABLES[name]) if (listing.root / path).exists()
    ]
    if not found:
        if (listing.root / "audio" / name).is_dir():
            listing.faults.append(f"audio/{name}: has no table (labels/{name}.csv, {TABLES[name]})")
        return []
    table = found[0]
    rows = listing.table(table, COLUMNS)
    listing.check(rows, "hasbird", ("0", "1"), "hasbird (0 or 1)")
    listing.check(rows, "datasetid", (name,), f"clip of {name}")
    items = [_item(name, row) for row in rows]
    strangers = listing.unlisted(f"audio/{name}", items)
    listing.faults += [f"{path}: no row of {table} is of it" for path in strangers]
    return items


def _item(name: str, row: Row) -> Item:
    path = f"audio/{name}/{row['itemid'].removesuffix('.wav')}.wav"
    said = ("bird",) if row["hasbird"] == "1" else ()
    return Item("train", path, said, path, row, {"datasetid": name})


def _unlabelled(listing: Listing, name: str) -> list[Item]:
    """The clips of an evaluation set, by its files."""
    folder = f"audio/{name}"
    if not (listing.root / folder).is_dir():
        return []
    row = Row(folder, folder, {})
    paths = listing.unlisted(folder, ())
    return [Item("test", path, None, path, row, {"datasetid": name}) for path in paths]


def write_submission(dataset: Dataset, predictions: Predictions, folder: Path) -> Path:
    """Write the scores of the test clips as ``dcase2018_task3.csv`` (itemid, score).

    Args:
        dataset: that is answered.
        predictions: with ``clip_scores`` [N, 1] of all test clips.
        folder: gets the file, whose path is returned.

    Raises:
        UserError: a test clip has no answer, or several.
    """
    scores = predictions.clip_scores
    assert scores is not None
    rows = [
        (Path(clip.clip_id).stem, f"{scores[row, 0]:.6f}")
        for clip, row in answered(dataset, predictions)
    ]
    return write_table(folder / f"{NAME}.csv", ("itemid", "score"), rows)
