"""Sound from files, and what makes a file unusable: every offender is named in one error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from systems.data.compressed import contents, opened
from systems.errors import UserError, shown

Broken = tuple[tuple[str, str], ...]  # (path, why)

# Some readers take durations from a table that rounds them; codecs fill their last block.
LENGTH_TOLERANCE = 0.01  # s
BLOCK = 1 << 22  # samples that are decoded at once
# Full scale is 1. What lies beyond this is no loud sound but another scale.
HIGHEST_PEAK = 100.0
# A mix to mono below this share of its channels, in amplitude, is what cancelling left.
CANCELLED = 1e-3
# libsndfile cuts the length to what is there and tells its log alone: "data : 9600 (should be 44)".
SIZE_LINE = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# Programs that write into a pipe cannot go back: they leave such a size for "until the end".
UNKNOWN_SIZE = 0x7FFF0000
UNKNOWN_FRAMES = 2**62

MEND = (
    "Mend or remove them (and their rows), or pass --skip-broken to leave them out (they are "
    "listed in the report)."
)


class BrokenSound(Exception):
    """Sound that cannot be used, and why."""


@dataclass(frozen=True)
class Files:
    """Clips that lie in audio files: ``paths[clip_id]`` is the file below ``root``, or absolute."""

    root: str
    paths: Mapping[str, str]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Return samples [C, S] float32 and the rate in Hz. Raises UserError for a broken file."""
        path = self.where(clip_id)
        try:
            return _decode(path)
        except BrokenSound as error:
            raise UserError(f"{shown(path)} {error}") from error

    def identity(self) -> Iterable[str]:
        for clip_id in self.paths:
            yield f"{clip_id}|{identity(self.where(clip_id))}"

    def where(self, clip_id: str) -> str:
        """The path of a clip's file."""
        return os.path.join(self.root, self.paths[clip_id])


def identity(path: str | Path) -> str:
    """Name, size and time of change of a file. Raises UserError where it is gone."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return f"{os.path.basename(path)}|{status.st_size}|{status.st_mtime_ns}"


def fault(
    samples: np.ndarray, rate: int, seconds: float, mixed: bool = True, silence: bool = False
) -> str:
    """Why decoded samples [C, S] cannot be used, or an empty string.

    ``seconds`` is the length that the header, or a table, states. Sound whose mix to mono never
    changes is silent: nothing can be learnt from it, and as a rule a recording or a copy failed.
    ``mixed``: whether that is heard, and not the channels. ``silence``: it may be silent.
    """
    decoded = samples.shape[1] / rate
    if abs(decoded - seconds) > LENGTH_TOLERANCE:
        return f"decodes to {decoded:.3f} s instead of {seconds:.3f} s (truncated?)"
    if not np.isfinite(samples).all():
        return "holds samples that are not finite"
    levels = Levels()
    levels.add(samples, samples.mean(axis=0))
    why = levels.fault(mixed)
    silent = levels.silent(mixed) and not silence
    return why or ("is silent (all samples are equal)" if silent else "")


class Levels:
    """The lowest and highest samples of some sound, added piece by piece: of each channel, and of
    their mix to mono."""

    def __init__(self) -> None:
        self._lowest: np.ndarray | None = None
        self._highest: np.ndarray | None = None

    def add(self, samples: np.ndarray, mono: np.ndarray) -> None:
        """Samples [C, S] that are finite, and their mix [S]."""
        low = np.append(samples.min(axis=1), mono.min())
        high = np.append(samples.max(axis=1), mono.max())
        self._lowest = low if self._lowest is None else np.minimum(low, self._lowest)
        self._highest = high if self._highest is None else np.maximum(high, self._highest)

    @property
    def _ranges(self) -> np.ndarray:
        assert self._lowest is not None
        assert self._highest is not None
        return self._highest - self._lowest

    def silent(self, mixed: bool = True) -> bool:
        """Whether the mix (or else every channel) never changes."""
        heard = self._ranges[-1:] if mixed else self._ranges[:-1]
        return not heard.any()

    def fault(self, mixed: bool = True) -> str:
        """Why sound of such levels cannot be used, or an empty string."""
        if self._lowest is None or self._highest is None:
            return ""
        peak = max(-self._lowest.min(), self._highest.max())
        if peak > HIGHEST_PEAK:
            return (
                f"has a peak of {peak:g}, where full scale is 1: integers that were stored as "
                "floats? Divide them by their full scale (32768 of 16 bits)"
            )
        *channels, mono = self._ranges
        if mixed and max(channels) > 0 and mono <= CANCELLED * max(channels):
            return (
                f"cancels itself: its {len(channels)} channels are mixed to mono by their mean, "
                "and are in antiphase. Invert one of them, or keep one alone"
            )
        return ""


def examine(
    files: Files, listed_in: Mapping[str, str], decode: bool, silence: bool = False
) -> tuple[dict[str, float], Broken]:
    """Seconds of every usable file and, for the others, the path and why they cannot be used.

    Headers show missing, empty, corrupt and most truncated files. Silence and the rest are found
    by ``decode`` alone. ``listed_in``: per clip, the table that names it, or an empty text.
    ``silence``: they may be silent.
    """

    def check(clip_id: str) -> tuple[float, str]:
        path = files.where(clip_id)
        if not os.path.isfile(path):
            table = listed_in[clip_id]
            return 0.0, f"is listed in {table} and missing" if table else "does not exist"
        if os.path.getsize(path) == 0:
            return 0.0, "is empty (0 bytes)"
        try:
            seconds, why = _header(path)
            if decode and not why:
                why = fault(*_decode(path), seconds, silence=silence)
            return seconds, why
        except (BrokenSound, soundfile.LibsndfileError) as error:
            return 0.0, _text(error)
        except OSError as error:
            return 0.0, f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor(8) as pool:
        checked = dict(zip(files.paths, pool.map(check, files.paths), strict=True))
    seconds = {clip_id: length for clip_id, (length, why) in checked.items() if not why}
    return seconds, tuple((files.paths[i], why) for i, (_, why) in checked.items() if why)


def _header(path: str) -> tuple[float, str]:
    """Length in seconds, and why the file cannot be used, or an empty string.

    The length is the header's where it is exact. Where it is none or an estimate, the sound itself
    says it.
    """
    found = contents(path)
    if found.fault:
        return 0.0, found.fault
    seconds = 0.0
    for piece in found.pieces:
        length, why = _length(piece)
        if why:
            return 0.0, why
        seconds += length
    return seconds, ""


def _length(piece: Any) -> tuple[float, str]:
    try:
        sound = soundfile.SoundFile(opened(piece))
    except soundfile.LibsndfileError as error:
        return 0.0, f"is no audio file (libsndfile: {_text(error)})"
    with sound:
        if sound.frames == 0:
            return 0.0, "holds no samples"
        if sound.frames >= UNKNOWN_FRAMES or not sound.seekable():
            return sum(map(len, _read(sound, 1 << 16))) / sound.samplerate, ""
        seconds = sound.frames / sound.samplerate
        size = SIZE_LINE.search(sound.extra_info)
        if size and int(size[2]) < int(size[1]) < UNKNOWN_SIZE:
            missing = (int(size[1]) - int(size[2])) / max(int(size[2]), 1) * seconds
            if missing > LENGTH_TOLERANCE:
                return 0.0, f"is truncated: {size[2]} of {size[1]} bytes of sound are there"
        if not _reaches(sound, sound.frames - 1 - round(LENGTH_TOLERANCE * sound.samplerate)):
            return 0.0, "is truncated: its header says more than is there"
        return seconds, ""


def _reaches(sound: Any, frame: int) -> bool:
    """Whether a compressed file reaches as far as its header says; cheap, since it seeks."""
    try:
        sound.seek(max(0, frame))
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def blocks(path: str, size: int = BLOCK) -> Iterator[tuple[np.ndarray, int]]:
    """All sound of a file, whatever its header says of its length: [S, C] float32, and Hz.

    Raises:
        BrokenSound: it cannot be read, or holds recordings that do not fit together.
    """
    try:
        found = contents(path)
    except OSError as error:
        raise BrokenSound(f"cannot be read: {error.strerror}") from error
    if found.fault:
        raise BrokenSound(found.fault)
    layouts = set()
    try:
        for piece in found.pieces:
            with soundfile.SoundFile(opened(piece)) as sound:
                layouts.add((sound.samplerate, sound.channels))
                if len(layouts) > 1:
                    raise BrokenSound("holds recordings of different rates or channels: split it")
                for block in _read(sound, size):
                    yield block, sound.samplerate
    except soundfile.LibsndfileError as error:
        raise BrokenSound(f"cannot be read: {_text(error)}") from error


def _read(sound: Any, size: int) -> Iterator[np.ndarray]:
    if sound.frames >= UNKNOWN_FRAMES:
        sound.seekable = lambda: (
            False
        )  # else soundfile seeks after each block, and fails at the end
    while len(block := sound.read(size, dtype="float32", always_2d=True)):
        yield block


def _decode(path: str) -> tuple[np.ndarray, int]:
    found = list(blocks(path))
    if not found:
        raise BrokenSound("holds no samples")
    held = [block for block, _ in found]
    return (held[0] if len(held) == 1 else np.concatenate(held)).T, found[0][1]


def _text(error: Exception) -> str:
    return str(getattr(error, "error_string", error))


def broken_lines(broken: Sequence[tuple[str, str]]) -> str:
    """One line a file: its path and why it cannot be used."""
    lines = [(shown(path), why) for path, why in broken]
    width = max(len(path) for path, _ in lines)
    return "\n".join(f"  {path:<{width}}  {why}" for path, why in lines)


def refusal(dataset: str, root: str | Path, faults: Sequence[str], broken: Broken) -> UserError:
    """One error that names every fault of a set's tables and every file that cannot be used."""
    lines = [f"  {fault}" for fault in faults]
    if broken:
        lines += [f"audio files that cannot be used ({len(broken)}):", broken_lines(broken), MEND]
    return UserError(f"{dataset} in {root} cannot be used:\n" + "\n".join(lines))
