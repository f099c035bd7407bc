"""FSDKaggle2018 (DCASE 2018 task 2): one of 41 classes a clip of Freesound, 0.3 to 30 s.

A training label is verified by hand or not (the column ``manually_verified``, 1 or 0; of those that
are not, 65 % or more are right); test labels all are. Which test clips made the public and the
private leaderboard (``usage``) comes with the sealed labels.
"""

from __future__ import annotations

from pathlib import Path

from systems.data.dataset import Dataset
from systems.data.listed import Item, Listing, Row, root_of
from systems.figures import Where

NAME = "fsdkaggle2018"
TASK = "single_label_tagging"
SPLITS = {"private-lb": ("test", {"usage": ("Private",)}),
          "public-lb": ("test", {"usage": ("Public",)})}  # fmt: skip
LAYOUT = """\
FSDKaggle2018.meta/train_post_competition.csv               fname, label, manually_verified
FSDKaggle2018.meta/test_post_competition_scoring_clips.csv  fname, label, usage (or
                   test_post_competition.csv: the same with padding, label None)
FSDKaggle2018.audio_train/*.wav
FSDKaggle2018.audio_test/*.wav                              padding, without a row, is left out"""

CLIPS = {"train": 9473, "test": 1600}
METRICS = ("map_at_3",)
SUBSETS: dict[str, Where] = {
    "public leaderboard": {"usage": ("Public",)},
    "private leaderboard": {"usage": ("Private",)},
}
CLASSES = (
    "Acoustic_guitar", "Applause", "Bark", "Bass_drum", "Burping_or_eructation", "Bus", "Cello",
    "Chime", "Clarinet", "Computer_keyboard", "Cough", "Cowbell", "Double_bass",
    "Drawer_open_or_close", "Electric_piano", "Fart", "Finger_snapping", "Fireworks", "Flute",
    "Glockenspiel", "Gong", "Gunshot_or_gunfire", "Harmonica", "Hi-hat", "Keys_jangling", "Knock",
    "Laughter", "Meow", "Microwave_oven", "Oboe", "Saxophone", "Scissors", "Shatter", "Snare_drum",
    "Squeak", "Tambourine", "Tearing", "Telephone", "Trumpet", "Violin_or_fiddle", "Writing",
)  # fmt: skip
META = "FSDKaggle2018.meta"
AUDIO = {"train": "FSDKaggle2018.audio_train", "test": "FSDKaggle2018.audio_test"}
TRAIN = f"{META}/train_post_competition.csv"
SCORED = f"{META}/test_post_competition_scoring_clips.csv"
PADDED = f"{META}/test_post_competition.csv"
PADDING = "None"  # what PADDED calls the label of a clip that was never scored


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken files out).
    """
    root = root_of(NAME, folder, LAYOUT, META)
    listing = Listing(NAME, root)
    train = listing.table(TRAIN, ("fname", "label", "manually_verified"))
    padded = not (root / SCORED).exists() and (root / PADDED).exists()
    test = listing.table(PADDED if padded else SCORED, ("fname", "label", "usage"))
    test = [row for row in test if row["label"] != PADDING]
    listing.check([*train, *test], "label", CLASSES, "class")
    listing.check(train, "manually_verified", ("0", "1"), "manually_verified (0 or 1)")
    listing.check(test, "usage", ("Public", "Private"), "usage")
    items = [*map(_trained, train), *map(_scored, test)]
    strangers = listing.unlisted(AUDIO["train"], items)
    if train:
        listing.faults += [f"{path}: no row of {TRAIN} is of it" for path in strangers]
    padding = len(listing.unlisted(AUDIO["test"], items))
    notes = [f"{padding} files of {AUDIO['test']} are not scored (padding) and left out"]
    return listing.dataset(items, CLASSES, TASK, skip_broken, notes if padding else ())


def _trained(row: Row) -> Item:
    columns = {"manually_verified": int(row["manually_verified"] == "1")}
    return Item("train", _path("train", row), row["label"], _origin("train", row), row, columns)


def _scored(row: Row) -> Item:
    group, sealed = _origin("test", row), {"usage": row["usage"]}
    columns = {"manually_verified": 1}
    return Item("test", _path("test", row), row["label"], group, row, columns, sealed)


def _path(part: str, row: Row) -> str:
    return f"{AUDIO[part]}/{row['fname']}"


def _origin(part: str, row: Row) -> str:
    """The sound on Freesound that a clip is of, where its table tells it; else the clip."""
    return row.cells.get("freesound_id") or f"{part}/{Path(row['fname']).stem}"
