"""UrbanSound8K: one of ten sounds of a city a clip, at most 4 s, in ten folds that are official.

There is no test part: each fold is judged by models of the others, and what they held out is the
result. Clips of one recording on Freesound are a group, which lies in one fold.
"""

from __future__ import annotations

from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of

NAME = "urbansound8k"
TASK = "single_label_tagging"
LAYOUT = """\
metadata/UrbanSound8K.csv  slice_file_name, fsID, fold (1 to 10), class; further columns may follow
audio/fold1/*.wav ... audio/fold10/*.wav"""

CLIPS = {"train": 8732}
METRICS = ("accuracy", "clip_auc")
CLASSES = (
    "air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling",
    "gun_shot", "jackhammer", "siren", "street_music",
)  # fmt: skip
FOLDS = tuple(str(fold) for fold in range(1, 11))
TABLE = "metadata/UrbanSound8K.csv"


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of the table and files
            (``skip_broken`` leaves broken files out).
    """
    listing = Listing(NAME, root_of(NAME, folder, LAYOUT, TABLE, "UrbanSound8K"))
    rows = listing.table(TABLE, ("slice_file_name", "fsID", "fold", "class"))
    listing.check(rows, "class", CLASSES, "class")
    listing.check(rows, "fold", FOLDS, "fold (1 to 10)")
    items = [_item(row) for row in rows if row["fold"] in FOLDS]
    for fold in sorted({item.row["fold"] for item in items}, key=int):
        strangers = listing.unlisted(f"audio/fold{fold}", items)
        listing.faults += [f"{path}: no row of {TABLE} is of it" for path in strangers]
    folds = {item.clip_id: f"{int(item.row['fold']):02d}" for item in items}
    return listing.dataset(items, CLASSES, TASK, skip_broken, tested=False, folds=folds)


def _item(row: Row) -> Item:
    path = f"audio/fold{row['fold']}/{row['slice_file_name']}"
    return Item("train", path, row["class"], row["fsID"], row, {"fold": int(row["fold"])})
