"""Sound from files, and the one error that names every file that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from systems.errors import UserError


@dataclass(frozen=True)
class Files:
    """Clips that lie in audio files: ``paths[clip_id]`` is the file below ``root``."""

    root: str
    paths: Mapping[str, str]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Return samples [C, S] float32 and the rate in Hz. Raises UserError for a broken file."""
        path = os.path.join(self.root, self.paths[clip_id])
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        return samples.T, rate

    def identity(self) -> Iterable[str]:
        for clip_id, path in self.paths.items():
            status = os.stat(os.path.join(self.root, path))
            yield f"{clip_id}|{path}|{status.st_size}|{status.st_mtime_ns}"


def durations(dataset: str, files: Files, listed_in: Mapping[str, str]) -> dict[str, float]:
    """Length in seconds of every file, from its header.

    Args:
        dataset: name of the data set, for the message.
        files: the files to check.
        listed_in: per clip, the table that names it.

    Raises:
        UserError: one error that names every missing, empty or broken file and why.
    """

    def check(clip_id: str) -> tuple[str, float, str]:
        path = Path(files.root) / files.paths[clip_id]
        if not path.exists():
            return clip_id, 0.0, f"is listed in {listed_in[clip_id]} and missing"
        if path.stat().st_size == 0:
            return clip_id, 0.0, "is empty (0 bytes)"
        try:
            header = soundfile.info(str(path))
        except soundfile.LibsndfileError as error:
            return clip_id, 0.0, f"is no audio file (libsndfile: {error.error_string})"
        if header.frames == 0:
            return clip_id, 0.0, "holds no samples"
        return clip_id, header.frames / header.samplerate, ""

    with ThreadPoolExecutor(8) as pool:
        checked = list(pool.map(check, files.paths))
    broken = [(files.paths[clip_id], why) for clip_id, _, why in checked if why]
    if broken:
        width = max(len(path) for path, _ in broken)
        lines = "\n".join(f"  {path:<{width}}  {why}" for path, why in broken)
        raise UserError(
            f"{len(broken)} of {len(files.paths)} audio files of {dataset} in {files.root} "
            f"cannot be used:\n{lines}\nMend or remove them (and their rows)."
        )
    return {clip_id: seconds for clip_id, seconds, _ in checked}
