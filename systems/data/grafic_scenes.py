"""Simulated scenes of a city, a track a source, with the answers of a listening test.

The scenes and answers of urban_source_presence are not public: the layout is ours, its scenes,
sources and questions are the paper's. There is no test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from systems.data import VALIDATION
from systems.data.dataset import Dataset, Event, event_fault
from systems.data.files import LENGTH_TOLERANCE, Broken, Files, examine, identity, refusal
from systems.data.listed import Listing, Row, root_of
from systems.data.ratings import Answers
from systems.data.soundscapes import (
    LABELS,
    METRICS,
    MIX,
    PLEASANTNESS,
    QUESTIONS,
    SCALE,
    SOURCES,
    TASK,
    soundscapes,
)

__all__ = ["CLIPS", "LABELS", "LAYOUT", "METRICS", "NAME", "SPLITS", "TASK", "read"]

NAME = "grafic_scenes"
LAYOUT = """\
scenes.csv                scene, type
scenes/SCENE/*.flac       mix, traffic, birds, horns_sirens, voices, footsteps (or *.wav)
annotations/SCENE.csv     source (a track), kind (background or event), onset, duration (s)
ratings.csv               subject, scene, OL, I, L, C, and T_ and L_ of T, B, H, V, F (0 to 10)
calibration.csv           rms_1_is_db_spl: dB SPL of sound whose RMS is 1 (may be absent)
pleasantness              a column of ratings.csv or scenes.csv (0 to 10), if there is one: the
                          paper's test had no such question"""

CLIPS = {"train": 9}
# The paper fits and judges on the same scenes: --protocol paper.
SPLITS = {"corpus (n=9)": VALIDATION}
TRACKS = (MIX, *SOURCES.values())
ENDINGS = (".flac", ".wav")
RATINGS, SCENES, CALIBRATION = "ratings.csv", "scenes.csv", "calibration.csv"


@dataclass(frozen=True)
class TrackFiles:
    """A file for each track of a scene: ``files`` are called ``SCENE/TRACK``."""

    files: Files

    def read(self, clip_id: str, track: str = MIX) -> tuple[np.ndarray, int]:
        """Samples [C, S] and their rate. Raises UserError for a broken file."""
        return self.files.read(f"{clip_id}/{track}")

    def identity(self) -> list[str]:
        return list(self.files.identity())

    def where(self, clip_id: str) -> str:
        return self.files.where(f"{clip_id}/{MIX}")


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the scenes in ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves scenes with broken files out).
    """
    listing = Listing(NAME, root_of(NAME, folder, LAYOUT, RATINGS))
    rows = listing.table(SCENES, ("scene", "type"))
    kinds = {row["scene"]: row["type"] for row in rows}
    answers = _answers(listing, kinds)
    calibration = _calibration(listing)
    files, seconds, broken = _tracks(listing, kinds, skip_broken)
    kinds = {scene: kind for scene, kind in kinds.items() if scene in seconds}
    events = {scene: _events(listing, scene, seconds[scene]) for scene in kinds}
    given = [row for row in rows if PLEASANTNESS in row.cells and row["scene"] in kinds]
    pleasant = {row["scene"]: _number(listing, row, PLEASANTNESS) for row in given}
    if not kinds and not listing.faults:
        listing.faults.append("no scene can be used")
    if listing.faults or (broken and not skip_broken):
        raise refusal(NAME, listing.root, listing.faults, () if skip_broken else broken)
    return soundscapes(
        NAME, kinds, TrackFiles(files), seconds, events, answers, pleasant or None,
        calibration=calibration, tables=[identity(path) for path in listing.tables],
        skipped=broken,
    )  # fmt: skip


def _answers(listing: Listing, kinds: Mapping[str, str]) -> Answers:
    rows = listing.table(RATINGS, ("subject", "scene", *QUESTIONS), key=2)
    listing.check(rows, "scene", kinds, "scene of scenes.csv")
    questions = QUESTIONS
    if rows and PLEASANTNESS in rows[0].cells:
        questions = (*QUESTIONS, PLEASANTNESS)
    values = [[_number(listing, row, question) for question in questions] for row in rows]
    scenes = tuple(row["scene"] for row in rows)
    if rows:
        silent = [scene for scene in kinds if scene not in scenes]
        listing.faults += [f"{RATINGS}: no row is of the scene {scene}" for scene in silent]
    return Answers(tuple(row["subject"] for row in rows), scenes, questions, np.array(values))


def _number(listing: Listing, row: Row, column: str) -> float:
    """An answer; one that is no number from 0 to 10 is a fault."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if row[column] and not 0 <= value <= SCALE:  # an empty cell is told with the table
        listing.faults.append(f"{row.where}: {column} '{row[column]}' is no number from 0 to 10")
    return value


def _calibration(listing: Listing) -> float | None:
    if not (listing.root / CALIBRATION).exists():
        return None
    rows = listing.table(CALIBRATION, ("rms_1_is_db_spl",))
    try:
        return float(rows[0]["rms_1_is_db_spl"]) if rows else None
    except ValueError:
        listing.faults.append(f"{rows[0].where}: '{rows[0]['rms_1_is_db_spl']}' is no level in dB")
        return None


def _tracks(
    listing: Listing, scenes: Sequence[str] | Mapping[str, str], skip_broken: bool
) -> tuple[Files, dict[str, float], Broken]:
    """The files of all tracks, and the length in s of each scene all of whose tracks can be used
    and are equally long."""
    paths = {}
    for scene, track in product(scenes, TRACKS):
        found = [f"scenes/{scene}/{track}{ending}" for ending in ENDINGS]
        there = [path for path in found if (listing.root / path).exists()]
        paths[f"{scene}/{track}"] = (there or found)[0]
    files = Files(str(listing.root), paths)
    tables = dict.fromkeys(paths, SCENES)
    lengths, broken = examine(files, tables, decode=skip_broken, silence=True)
    seconds = {}
    for scene in scenes:
        of_tracks = {t: lengths[i] for t in TRACKS if (i := f"{scene}/{t}") in lengths}
        if len(of_tracks) < len(TRACKS):
            continue
        seconds[scene] = of_tracks[MIX]
        listing.faults += [
            f"{paths[f'{scene}/{track}']}: lasts {length:.3f} s, and the mix {of_tracks[MIX]:.3f} s"
            for track, length in of_tracks.items()
            if abs(length - of_tracks[MIX]) > LENGTH_TOLERANCE
        ]
    return files, seconds, broken


def _events(listing: Listing, scene: str, seconds: float) -> tuple[Event, ...]:
    """The annotated events of a scene, by the tracks of their sources; backgrounds are none."""
    table = f"annotations/{scene}.csv"
    rows = listing.table(table, ("source", "kind", "onset", "duration"), key=4)
    listing.check(rows, "source", SOURCES.values(), "source")
    listing.check(rows, "kind", ("background", "event"), "kind (background or event)")
    events = []
    for row in (row for row in rows if row["kind"] == "event"):
        try:
            offset = str(float(row["onset"]) + float(row["duration"]))
        except ValueError:
            offset = row["duration"]
        why = event_fault(row["onset"], offset, seconds)
        if why:
            listing.faults.append(f"{row.where}: {why}")
            continue
        events.append(Event(float(row["onset"]), min(float(offset), seconds), row["source"]))
    return tuple(events)
