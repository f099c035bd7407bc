"""Binaural localisation on the median plane: dry sounds rendered with head-related responses.

``conditions.csv`` says which measurements of SOFA files are templates, and which directions are
tested: ``matched`` (the templates' own set), ``mismatched`` (the same head in another laboratory)
and ``off_centre`` (beside the median plane). Every direction is rendered with every dry sound, with
white and with pink noise, at four levels of noise. Dry speech in ``sources/training_speech`` is
what systems may learn from; without that folder every other sound of ``sources/speech`` is. The
training part, on which systems are searched, has the mismatched directions with two sounds of that
speech and other noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from systems.data.binaural import (
    CONDITIONS,
    NOISES,
    RATE,
    SUBSETS,
    TAPS,
    TASK,
    Design,
    Direction,
    named,
    noise,
)
from systems.data.dataset import Dataset
from systems.data.files import Files, examine, identity, refusal
from systems.data.listed import Listing, Row, root_of
from systems.data.sofa import Responses, SofaFault, interaural_polar, read_sofa
from systems.data.store import load_mono

__all__ = ["CLIPS", "LAYOUT", "METRICS", "NAME", "SUBSETS", "TASK", "read"]

NAME = "binaural_sofa"
LAYOUT = """\
conditions.csv              condition (template, matched, mismatched, off_centre), sofa_file, index,
                            azimuth, elevation, lateral, polar
*.sofa                      SimpleFreeFieldHRIR
sources/environmental/*     dry sounds (WAV, FLAC, ...)
sources/speech/*
sources/training_speech/*   may be absent"""

CLIPS = {"template": 178, "train": 560, "test": 12_320}
METRICS = ("angular_error", "front_back")
TABLE = "conditions.csv"
SOURCES, TRAINING = ("environmental", "speech"), "training_speech"
LONGEST = 5.0  # s of a dry sound
HEARD = 2  # sounds of speech in the training part
OFF_PLANE = 0.5  # degrees of a lateral angle that are on the median plane
ROUNDING = 0.5  # degrees by which the table may differ from the file


@dataclass(frozen=True)
class Folder:
    """The responses and dry sounds below ``root``; ``sounds``: name -> seconds."""

    root: str
    files: Files
    sounds: Mapping[str, float]
    tables: tuple[str, ...]

    def response(self, responses: str, number: int) -> np.ndarray:
        return _opened(str(Path(self.root) / responses)).at(number, RATE, TAPS)

    def sound(self, name: str) -> np.ndarray:
        if name not in self.files.paths:
            return noise(name, self.sounds[name])
        return _dry(self.files.where(name))[: round(self.sounds[name] * RATE)]

    def where(self, name: str) -> str:
        return self.files.where(name) if name in self.files.paths else name

    def identity(self) -> Iterable[str]:
        yield from self.files.identity()
        for name in self.tables:
            yield f"{name}|{identity(Path(self.root) / name)}"


@lru_cache(maxsize=4)
def _opened(path: str) -> Responses:
    return read_sofa(Path(path))


@lru_cache(maxsize=32)
def _dry(path: str) -> np.ndarray:
    samples, rate = Files("", {path: path}).read(path)
    return load_mono(samples, rate, RATE)


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of table, responses and
            sounds (``skip_broken`` leaves broken sounds out).
    """
    root = root_of(NAME, folder, LAYOUT, TABLE)
    listing = Listing(NAME, root)
    columns = ("condition", "sofa_file", "index", "lateral", "polar")
    rows = listing.table(TABLE, columns, key=3)
    listing.check(rows, "condition", ("template", *CONDITIONS), "condition")
    directions = _directions(listing, rows)
    paths = _sounds(listing)
    files = Files(str(root), paths)
    seconds, broken = examine(files, dict.fromkeys(paths, TABLE), decode=skip_broken)
    seconds = {name: min(length, LONGEST) for name, length in seconds.items()}
    tested, training = _dealt(seconds)
    if rows and not listing.faults:
        listing.faults += _missing(directions, tested, training)
    if listing.faults or (broken and not skip_broken):
        raise refusal(NAME, root, listing.faults, () if skip_broken else broken)
    typical = float(np.median(list(tested.values())))
    noises = {f"{name}/{part}": typical for part in ("test", "train") for name in NOISES}
    heard = dict(list(training.items())[:HEARD])
    used = {**tested, **training}
    bank = Folder(
        str(root),
        Files(str(root), {name: paths[name] for name in used}),
        {**used, **noises},
        tuple(sorted({one.responses for of in directions.values() for one in of})),
    )
    return Design(
        templates=directions["template"],
        conditions={name: directions[name] for name in CONDITIONS if name in directions},
        development=directions["mismatched"],
        sounds={**tested, **{n: s for n, s in noises.items() if n.endswith("/test")}},
        training=training,
        heard={**heard, **{n: s for n, s in noises.items() if n.endswith("/train")}},
    ).dataset(NAME, bank, tables=(identity(root / TABLE),), skipped=broken)


def _directions(listing: Listing, rows: list[Row]) -> dict[str, list[Direction]]:
    """The directions of each condition, in the order of the table; faults are added."""
    opened: dict[str, Responses | None] = {}
    found: dict[str, list[Direction]] = {}
    for row in rows:
        name = row["sofa_file"]
        if name not in opened:
            opened[name] = _checked(listing, row, name)
        responses = opened[name]
        if responses is None:
            continue
        direction = _direction(listing, row, responses)
        if direction is not None:
            found.setdefault(row["condition"], []).append(direction)
    names = [named(one.polar) for one in found.get("template", [])]
    twice = sorted({name for name in names if names.count(name) > 1})
    listing.faults += [f"{TABLE}: several templates lie at polar angle {name}" for name in twice]
    return found


def _checked(listing: Listing, row: Row, name: str) -> Responses | None:
    """The responses of a file in the set's folder."""
    path = listing.root / name
    if Path(name).name != name or not path.is_file():
        listing.faults.append(f"{row.where}: {name} is no file of the folder")
        return None
    try:
        return read_sofa(path)
    except SofaFault as fault:
        listing.faults.append(f"{name}: {fault}")
        return None


def _direction(listing: Listing, row: Row, responses: Responses) -> Direction | None:
    """A measurement as its file has it; the table has to agree."""
    try:
        index, said = int(row["index"]), (float(row["lateral"]), float(row["polar"]))
    except ValueError:
        listing.faults.append(f"{row.where}: index, lateral and polar are numbers")
        return None
    if not 0 <= index < len(responses.taps):
        listing.faults.append(
            f"{row.where}: {row['sofa_file']} has measurements 0 to {len(responses.taps) - 1}"
        )
        return None
    lateral, polar = (
        float(angle)
        for angle in interaural_polar(responses.azimuth[index], responses.elevation[index])
    )
    off = abs(lateral - said[0]), abs((polar - said[1] + 180.0) % 360.0 - 180.0)
    if max(off) > ROUNDING:
        listing.faults.append(
            f"{row.where}: {row['sofa_file']} has lateral {lateral:.2f} and polar {polar:.2f} there"
        )
    if row["condition"] != "off_centre" and abs(lateral) >= OFF_PLANE:
        listing.faults.append(f"{row.where}: lateral {lateral:.2f} is not on the median plane")
    return Direction(row["sofa_file"], index, lateral, polar)


def _sounds(listing: Listing) -> dict[str, str]:
    """The dry sounds: ``KIND/NAME`` -> path below the root."""
    found: dict[str, str] = {}
    for kind in (*SOURCES, TRAINING):
        folder = listing.root / "sources" / kind
        if not folder.is_dir():
            if kind != TRAINING:
                listing.faults.append(f"sources/{kind}: is missing")
            continue
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            name = f"{kind}/{path.stem}"
            if name in found:
                listing.faults.append(f"sources/{kind}: several files are called {path.stem}")
            found[name] = f"sources/{kind}/{path.name}"
    return found


def _dealt(seconds: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Sounds that are tested, and speech that is learnt from."""
    own = {name: s for name, s in seconds.items() if name.startswith(f"{TRAINING}/")}
    if not own:
        speech = [name for name in seconds if name.startswith("speech/")]
        own = {name: seconds[name] for name in speech[1::2]}
    return {name: s for name, s in seconds.items() if name not in own}, own


def _missing(
    directions: Mapping[str, list[Direction]], tested: Mapping[str, float],
    training: Mapping[str, float],
) -> list[str]:  # fmt: skip
    """What a run cannot do without."""
    faults = [
        f"{TABLE}: has no row of condition {name}"
        for name in ("template", "mismatched")
        if name not in directions
    ]
    if not tested:
        faults.append("sources: no dry sound can be used")
    if not training:
        faults.append("sources/speech: two sounds are needed, one of them to learn from")
    return faults
