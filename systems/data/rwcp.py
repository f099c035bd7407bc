"""RWCP-SSD with onomatopoeic words: dry sounds, and what listeners wrote of them.

The gallery are all sounds (columns ``class``, ``part``); the queries are the words, each of which
is to find the sound that it was written of. Who wrote is a group. The set has no test part: words
that are held out are the result. Words of sounds that ``split.csv`` calls ``test`` are not read:
nothing is known of these sounds but how they sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.files import identity, refusal
from systems.data.listed import Listing, root_of
from systems.data.words import WordsAndSounds, seconds, symbols
from systems.errors import UserError

__all__ = ["CLIPS", "LAYOUT", "METRICS", "NAME", "SPLITS", "TASK", "read"]

NAME = "rwcp"
TASK = "onomatopoeia_search"
LAYOUT = """\
RWCP-SSD_Vol1/nospeech/drysrc/GROUP/CLASS/48khz/NUMBER.raw   16-bit little-endian mono, no header
RWCPSSD_Onomatopoeia/RWCP_SSD_Onomatopoeia_en/nospeech/drysrc/GROUP/CLASS/NUMBER.ono
                                              listener, word, phonemes, confidence; no header
split.csv                                     file, part (train, test); may be left out"""

CLIPS = {"gallery": 810, "train": 8508}
METRICS = ("mrr", "mean_rank", "recall_at_1", "recall_at_5")
SPLITS = {"dev": "out_of_fold"}
SOUNDS = "RWCP-SSD_Vol1/nospeech/drysrc"
WORDS = "RWCPSSD_Onomatopoeia/RWCP_SSD_Onomatopoeia_en/nospeech/drysrc"
RATE = 48_000
BYTES = 2  # a sample


@dataclass(frozen=True)
class RawSounds:
    """Sounds in files without a header: ``paths[clip_id]`` lies below ``root``."""

    root: str
    paths: dict[str, str]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Samples [1, S] in -1..1 and the rate in Hz. Raises UserError for a file that is gone."""
        try:
            samples = np.fromfile(self.where(clip_id), "<i2")
        except OSError as error:
            raise UserError(f"{self.where(clip_id)} cannot be read: {error.strerror}") from error
        return samples[None].astype(np.float32) / 32768, RATE

    def identity(self) -> Iterable[str]:
        for clip_id in self.paths:
            yield f"{clip_id}|{identity(self.where(clip_id))}"

    def where(self, clip_id: str) -> str:
        return os.path.join(self.root, self.paths[clip_id])


@dataclass(frozen=True)
class Word:
    """A word that a listener wrote of a sound."""

    clip_id: str
    sound: str
    listener: str
    phonemes: str


def read(folder: str | None, skip_broken: bool = False) -> Dataset:
    """Read the set below ``folder``.

    Raises:
        UserError: no folder given, or one error that names every fault of tables and files
            (``skip_broken`` leaves broken sounds out, and their words).
    """
    root = root_of(NAME, folder, LAYOUT, SOUNDS)
    listing = Listing(NAME, root)
    paths = {
        _name(path, "raw"): str(path.relative_to(root)) for path in _found(root / SOUNDS, "raw")
    }
    broken = tuple((paths[i], why) for i in paths if (why := _fault(root / paths[i])))
    parts = _parts(listing, paths)
    words = list(_words(listing, paths, parts))
    if not paths:
        listing.faults.append(f"{SOUNDS}: holds no 48khz/*.raw")
    if not listing.faults and not words:
        listing.faults.append(f"{WORDS}: holds no word of a sound")
    if listing.faults or (broken and not skip_broken):
        raise refusal(NAME, root, listing.faults, () if skip_broken else broken)
    lost = {path for path, _ in broken}
    paths = {i: path for i, path in paths.items() if path not in lost}
    words = [word for word in words if word.sound in paths]
    length = {i: (root / path).stat().st_size / BYTES / RATE for i, path in paths.items()}
    return Dataset(
        name=NAME,
        task=TASK,
        classes=tuple(paths),
        clips=(
            *(Clip(i, "gallery", "gallery", i, length[i], _about(i, parts[i])) for i in paths),
            *(Clip(w.clip_id, "train", "labelled", w.listener, seconds(w.phonemes),
                   _about(w.sound, "train")) for w in words),
        ),
        labels={"train": Labels("relevance", {word.clip_id: (word.sound,) for word in words})},
        sealed={},
        sealed_kind={},
        source=WordsAndSounds(
            RawSounds(str(root), paths), {word.clip_id: word.phonemes for word in words}
        ),
        test_part=None,
        tables=tuple(identity(path) for path in listing.tables),
        skipped=broken,
    )  # fmt: skip


def _found(folder: Path, suffix: str) -> list[Path]:
    """The files of all classes."""
    inside = "*/*/48khz/*" if suffix == "raw" else "*/*/*"
    return sorted(path for path in folder.glob(f"{inside}.{suffix}") if path.is_file())


def _name(path: Path, suffix: str) -> str:
    """What a sound is called: ``GROUP/CLASS/NUMBER``."""
    parts = [part for part in path.with_suffix("").parts if part != "48khz"]
    return "/".join(parts[-3:])


def _about(sound: str, part: str) -> dict[str, str]:
    return {"class": sound.rpartition("/")[0], "part": part}


def _fault(path: Path) -> str:
    """Why a sound cannot be used, or an empty text."""
    size = path.stat().st_size
    if size == 0:
        return "is empty (0 bytes)"
    if size % BYTES:
        return f"has {size} bytes, which is no whole number of 16-bit samples (truncated?)"
    return ""


def _parts(listing: Listing, paths: dict[str, str]) -> dict[str, str]:
    """The part of each sound: ``train`` where no table says otherwise."""
    parts = dict.fromkeys(paths, "train")
    if not (listing.root / "split.csv").exists():
        return parts
    rows = listing.table("split.csv", ("file", "part"))
    listing.check(rows, "part", ("train", "test"), "part")
    for row in rows:
        name = _name(Path(row["file"]), "raw")
        if name in parts:
            parts[name] = row["part"]
        else:
            listing.faults.append(f"{row.where}: {row['file']} is no sound of {SOUNDS}")
    return parts


def _words(listing: Listing, paths: dict[str, str], parts: dict[str, str]) -> Iterator[Word]:
    """The words of the sounds of part ``train``."""
    columns = ("listener", "word", "phonemes", "confidence")
    for path in _found(listing.root / WORDS, "ono"):
        sound, file = _name(path, "ono"), str(path.relative_to(listing.root))
        if sound not in paths:
            listing.faults.append(f"{file}: there is no sound {sound}")
            continue
        if parts[sound] != "train":
            continue
        for row in listing.table(file, columns, header=False, key=2):
            if symbols(row["phonemes"]):
                yield Word(f"{sound}/{row['word']}", sound, row["listener"], row["phonemes"])
