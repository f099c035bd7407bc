"""TUT Urban Acoustic Scenes 2018, development set (DCASE 2018 task 1, subtask A): 10 scenes.

10 s of binaural sound (stereo, 48 kHz) a clip, from six cities. The official split is read: what
``fold1_train`` lists trains, and what ``fold1_evaluate`` lists is the sealed test part. A place
(``identifier``) is a group; it lies in one part. ``device`` is the recorder, ``city`` the place's.
"""

from __future__ import annotations

from collections.abc import Sequence

from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of

NAME = "tut2018"
TASK = "scene_classification"
LAYOUT = """\
meta.csv                              filename, scene_label, identifier, source_label (by TAB)
evaluation_setup/fold1_train.txt      filename, scene_label (by TAB, no header)
evaluation_setup/fold1_evaluate.txt   the same, of the test part
audio/*.wav"""
INSIDE = "TUT-urban-acoustic-scenes-2018-development"

CLIPS = {"train": 6122, "test": 2518}
# Split of the papers' tables -> part. Their "dev" is the test part of the development set; the
# labels of the evaluation set ("eval", "public-lb", "private-lb") are not published.
SPLITS = {"dev": "test"}
METRICS = ("uar", "accuracy")  # the papers' accuracy is the mean over classes

CLASSES = (
    "airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
    "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
META = "meta.csv"
FOLDS = {
    "train": "evaluation_setup/fold1_train.txt",
    "test": "evaluation_setup/fold1_evaluate.txt",
}


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set in ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out).
    """
    return read_scenes(NAME, folder, INSIDE, ("a",), skip_broken)


def read_scenes(
    name: str, folder: str | None, inside: str, devices: Sequence[str], skip_broken: bool
) -> Dataset:
    """A set in this layout, recorded by ``devices``; raises like :func:`read`.

    ``inside``: the folder that the set's archives unpack to.
    """
    listing = Listing(name, root_of(name, folder, LAYOUT, META, inside))
    meta = listing.table(META, ("filename", "scene_label", "identifier", "source_label"))
    listing.check(meta, "scene_label", CLASSES, "scene")
    phones = {row["source_label"] for row in meta} & {"b", "c"} - set(devices)
    if phones:
        listing.faults.append(
            f"{META}: has clips of device {' and '.join(sorted(phones))}, as the Mobile set does: "
            "--dataset tut2018_mobile reads it"
        )
    else:
        listing.check(meta, "source_label", devices, "device")
    about = {row["filename"]: row for row in meta}
    folds = {
        part: listing.table(table, ("filename", "scene_label"), header=False)
        for part, table in FOLDS.items()
    }
    if meta and all(folds.values()):
        listing.faults += _fold_faults(about, folds)
    items = [
        _item(part, about[row["filename"]])
        for part, rows in folds.items()
        for row in rows
        if row["filename"] in about
    ]
    strangers = [path for path in listing.unlisted("audio", items) if path not in about]
    if meta:
        listing.faults += [f"{path}: no row of {META} is of it" for path in strangers]
    return listing.dataset(items, CLASSES, TASK, skip_broken)


def _item(part: str, row: Row) -> Item:
    place = row["identifier"]
    city = place.split("-")[0]
    columns = {"device": row["source_label"], "identifier": place, "city": city}
    return Item(part, row["filename"], row["scene_label"], place, row, columns)


def _fold_faults(about: dict[str, Row], folds: dict[str, list[Row]]) -> list[str]:
    """Clips of the table of clips and of the two lists that do not fit together."""
    faults = []
    where: dict[str, Row] = {}
    for row in (row for rows in folds.values() for row in rows):
        name, scene = row["filename"], row["scene_label"]
        if name not in about:
            faults.append(f"{row.where}: no row of {META} is of {name}")
        elif scene != about[name]["scene_label"]:
            faults.append(f"{row.where}: '{scene}' is not what {about[name].where} says")
        if name in where and where[name].table != row.table:
            faults.append(f"{row.where}: {name} trains too ({where[name].where})")
        where.setdefault(name, row)
    faults += [
        f"{row.where}: {name} is in no list of {' and '.join(FOLDS.values())}"
        for name, row in about.items()
        if name not in where
    ]
    return faults
