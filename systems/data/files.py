"""Sound from files, and what makes a file unusable: every offender is named in one error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from systems.errors import UserError

Broken = tuple[tuple[str, str], ...]  # (path, why)

# Some readers take durations from a table that rounds them.
LENGTH_TOLERANCE = 0.01  # s
# libsndfile cuts the length to what is there and tells its log alone: "data : 9600 (should be 44)".
SIZE_LINE = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# Programs that write into a pipe cannot go back: they leave such a size for "until the end".
UNKNOWN_SIZE = 0x7FFF0000
UNKNOWN_FRAMES = 2**62

MEND = (
    "Mend or remove them (and their rows), or pass --skip-broken to leave them out (they are "
    "listed in the report)."
)


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
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{path} cannot be read: {_text(error)}") from error

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


def fault(samples: np.ndarray, rate: int, seconds: float) -> str:
    """Why decoded samples [C, S] cannot be used, or an empty string.

    ``seconds`` is the length that the header, or a table, states. Sound whose mix to mono never
    changes is silent: nothing can be learnt from it, and as a rule a recording or a copy failed.
    """
    decoded = samples.shape[1] / rate
    if abs(decoded - seconds) > LENGTH_TOLERANCE:
        return f"decodes to {decoded:.3f} s instead of {seconds:.3f} s (truncated?)"
    if not np.isfinite(samples).all():
        return "holds samples that are not finite"
    if np.ptp(samples.mean(axis=0)) == 0:
        return "is silent (all samples are equal)"
    return ""


def examine(
    files: Files, listed_in: Mapping[str, str], decode: bool
) -> tuple[dict[str, float], Broken]:
    """Seconds of every usable file and, for the others, the path and why they cannot be used.

    Headers show missing, empty, corrupt and most truncated files. Silence and the rest are found
    by ``decode`` alone. ``listed_in``: per clip, the table that names it, or an empty text.
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
            return seconds, why or (fault(*_decode(path), seconds) if decode else "")
        except (soundfile.LibsndfileError, OSError) as error:
            return 0.0, f"cannot be read: {_text(error)}"

    with ThreadPoolExecutor(8) as pool:
        checked = dict(zip(files.paths, pool.map(check, files.paths), strict=True))
    seconds = {clip_id: length for clip_id, (length, why) in checked.items() if not why}
    return seconds, tuple((files.paths[i], why) for i, (_, why) in checked.items() if why)


def _header(path: str) -> tuple[float, str]:
    """Length in seconds by the header, and why the file cannot be used, or an empty string."""
    try:
        sound = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        return 0.0, f"is no audio file (libsndfile: {_text(error)})"
    with sound:
        if sound.frames == 0:
            return 0.0, "holds no samples"
        if sound.frames >= UNKNOWN_FRAMES:
            return 0.0, "does not say how long it is: write it again"
        size = SIZE_LINE.search(sound.extra_info)
        if size and int(size[2]) < int(size[1]) < UNKNOWN_SIZE:
            return 0.0, f"is truncated: {size[2]} of {size[1]} bytes of sound are there"
        if not _has_last_frame(sound):
            return 0.0, "is truncated: its header says more than is there"
        return sound.frames / sound.samplerate, ""


def _has_last_frame(sound: Any) -> bool:
    """Whether a compressed file reaches as far as its header says; cheap, since it seeks."""
    try:
        sound.seek(sound.frames - 1)
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def _decode(path: str) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.T, rate


def _text(error: Exception) -> str:
    return str(getattr(error, "error_string", error))


def broken_lines(broken: Sequence[tuple[str, str]]) -> str:
    """One line a file: its path and why it cannot be used."""
    width = max(len(path) for path, _ in broken)
    return "\n".join(f"  {path:<{width}}  {why}" for path, why in broken)


def refusal(dataset: str, root: str | Path, faults: Sequence[str], broken: Broken) -> UserError:
    """One error that names every fault of a set's tables and every file that cannot be used."""
    lines = [f"  {fault}" for fault in faults]
    if broken:
        lines += [f"audio files that cannot be used ({len(broken)}):", broken_lines(broken), MEND]
    return UserError(f"{dataset} in {root} cannot be used:\n" + "\n".join(lines))
