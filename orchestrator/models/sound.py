"""The sound of any file, as the waveform store has that of clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import soxr

from systems.data.files import LENGTH_TOLERANCE, BrokenSound, Levels, blocks
from systems.data.store import COUNT, Channels, mixed, to_mono, too_many
from systems.errors import UserError, shown

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
