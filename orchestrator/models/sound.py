"""The sound of any file, as the waveform store has that of clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from systems.data.files import LENGTH_TOLERANCE, BrokenSound, Levels, blocks
from systems.data.store import COUNT, Channels, mixed, to_mono, too_many
from systems.errors import UserError, shown
from systems.system import Input

BLOCK = 1 << 18  # samples of a file that are decoded at once


class FileSound:
    """A file's sound, mono or stereo at any rate. Of hours of it some blocks are in memory; the
    rest lies in an unnamed file whose pages are the kernel's to keep or to drop."""

    def __init__(self, path: str, stated: float) -> None:
        self.path, self.stated = path, stated  # s, as its header or a look at it says
        self._at: dict[tuple[int, Channels], np.ndarray] = {}
        self.seconds = 0.0

    def at(self, rate: int, channels: Channels = "mono") -> np.ndarray:
        """Samples [S] or [2, S] at a rate in Hz; ``seconds`` is then known.

        Raises:
            BrokenSound: it cannot be read, or is nothing that can be judged.
            UserError: there is no room for it.
        """
        if (rate, channels) not in self._at:
            count = COUNT[channels]
            try:
                flat = self._unpacked(rate, channels)
            except OSError as error:
                raise UserError(
                    f"{shown(self.path)} cannot be unpacked in {tempfile.gettempdir()}: "
                    f"{error.strerror or error}. Make room there, or name another folder by TMPDIR."
                ) from error
            self._at[rate, channels] = flat if count == 1 else flat.reshape(-1, count).T
        return self._at[rate, channels]

    def _unpacked(self, rate: int, channels: Channels) -> np.ndarray:
        with tempfile.TemporaryFile() as file:
            for block in self._resampled(rate, channels):
                file.write(np.ascontiguousarray(block, np.float32).tobytes())
            samples = round(self.seconds * rate) * COUNT[channels]
            file.truncate(samples * 4)  # cut or filled, as the waveform store does it
            return np.memmap(file, np.float32, "r") if samples else np.zeros(0, np.float32)

    def _resampled(self, rate: int, channels: Channels) -> Iterator[np.ndarray]:
        """Blocks, time first, as the waveform store resamples the whole: soxr gives the same bits
        either way."""
        stream, count = None, COUNT[channels]
        for block, source_rate in self._mixed(channels):
            if source_rate == rate:
                yield block
                continue
            if stream is None:
                stream = soxr.ResampleStream(
                    source_rate, rate, count, dtype="float32", quality="VHQ"
                )
            yield stream.resample_chunk(block)
        if stream is not None:
            nothing = np.zeros((0, count) if count > 1 else 0, np.float32)
            yield stream.resample_chunk(nothing, last=True)

    def _mixed(self, channels: Channels) -> Iterator[tuple[np.ndarray, int]]:
        done, rate, levels = 0, 1, Levels()
        for block, rate in blocks(self.path, BLOCK):
            if not np.isfinite(block).all():
                raise BrokenSound("holds samples that are not finite")
            if why := too_many(block.T, channels):
                raise BrokenSound(why)
            sound = mixed(block.T, rate, rate, channels)
            levels.add(block.T, to_mono(sound))
            done += len(block)
            yield np.ascontiguousarray(sound.T), rate
        self.seconds = done / rate
        if abs(self.seconds - self.stated) > LENGTH_TOLERANCE:
            what = f"decodes to {self.seconds:.3f} s instead of {self.stated:.3f} s"
            raise BrokenSound(f"{what} (truncated?)")
        if why := levels.fault(mixed=channels == "mono"):
            raise BrokenSound(why)


class TrackSound:
    """A scene as a folder that holds a file of each of some tracks, called as they are."""

    def __init__(self, folder: str, files: Mapping[str, str], seconds: Mapping[str, float]) -> None:
        self.folder = folder
        self._files = {track: FileSound(path, seconds[path]) for track, path in files.items()}

    @property
    def seconds(self) -> float:
        """Of the longest track, once they are heard."""
        return max(one.seconds for one in self._files.values())

    def heard(self, tracks: Mapping[str, Input]) -> dict[str, np.ndarray]:
        """The samples of tracks by name, as a system takes them.

        Raises:
            BrokenSound: one cannot be read, or they are not equally long.
            UserError: there is no room for them.
        """
        found = {n: self._files[one.track].at(one.rate, one.channels) for n, one in tracks.items()}
        lengths = [one.seconds for one in self._files.values()]
        if max(lengths) - min(lengths) > LENGTH_TOLERANCE:
            raise BrokenSound(
                f"holds tracks of {min(lengths):.3f} to {max(lengths):.3f} s: they are of one scene"
            )
        return found


class MemorySound:
    """Samples [C, S] at a rate in Hz, mono or stereo at any rate."""

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.seconds = samples.shape[1] / rate
        self._at: dict[tuple[int, Channels], np.ndarray] = {}

    def at(self, rate: int, channels: Channels = "mono") -> np.ndarray:
        """Samples [S] or [2, S] at a rate in Hz.

        Raises:
            UserError: more channels than a system of stereo hears.
        """
        if why := too_many(self.samples, channels):
            raise UserError(f"the sound {why}.")
        if (rate, channels) not in self._at:
            samples = round(self.seconds * rate)
            made = mixed(self.samples, self.rate, rate, channels)[..., :samples]
            missing = [(0, 0)] * (made.ndim - 1) + [(0, samples - made.shape[-1])]
            self._at[rate, channels] = np.pad(made, missing)
        return self._at[rate, channels]


def audio_endings() -> set[str]:
    """The endings that files of sound have."""
    endings = {f".{name.lower()}" for name in soundfile.available_formats()}
    return (endings | {".aif", ".oga", ".opus"}) - {".raw"}  # raw has no header


def track_files(given: Iterable[str], tracks: Sequence[str]) -> dict[str, dict[str, str]]:
    """Folder -> track -> file, of folders that hold a file of each track, or of those in them.

    Raises:
        UserError: no sound holds such a track, or folders that hold no such files, with what each
            lacks.
    """
    if untold := [track for track in tracks if "/" in track]:
        raise UserError(
            f"this model is told {', '.join(untold)}, which no file of sound holds: it answers the "
            "clips of its data set alone. A model that hears tracks answers others."
        )
    found: dict[str, dict[str, str]] = {}
    lacking = []
    for name in given:
        folder = Path(name).expanduser()
        within = (
            [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
        )
        scenes = {str(one): files for one in within if (files := _tracks_in(one, tracks))}
        whole = {one: files for one, files in scenes.items() if len(files) == len(tracks)}
        found |= whole
        for one, files in scenes.items():
            if one not in whole:
                lacks = ", ".join(track for track in tracks if track not in files)
                lacking.append(f"{shown(one)} lacks {lacks}")
        if not scenes:
            lacking.append(f"{shown(name)} is no folder that holds them")
    if lacking:
        raise UserError(
            "this model hears the tracks of a scene: name folders that hold a file of each "
            f"({', '.join(tracks)}; {tracks[0]}.wav, say).\n  " + "\n  ".join(lacking)
        )
    return found


def _tracks_in(folder: Path, tracks: Sequence[str]) -> dict[str, str]:
    endings = audio_endings()
    sounds = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings]
    return {path.stem: str(path) for path in sounds if path.stem in tracks and path.is_file()}
