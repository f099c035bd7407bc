"""The sound of any file, as the waveform store has that of clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import soxr

from systems.data.files import LENGTH_TOLERANCE, BrokenSound, Levels, blocks
from systems.data.store import load_mono

BLOCK = 1 << 18  # samples of a file that are decoded at once


class FileSound:
    """A file's mono sound, at any rate. Of hours of it some blocks are in memory; the rest lies in
    an unnamed file whose pages are the kernel's to keep or to drop."""

    def __init__(self, path: str, stated: float) -> None:
        self.path, self.stated = path, stated  # s, as its header or a look at it says
        self._at: dict[int, np.ndarray] = {}
        self.seconds = 0.0

    def at(self, rate: int) -> np.ndarray:
        """Samples [S] at a rate in Hz; ``seconds`` is then known.

        Raises:
            BrokenSound: it cannot be decoded, or is nothing that can be judged.
            OSError: it cannot be read, or there is no room for it.
        """
        if rate not in self._at:
            with tempfile.TemporaryFile() as file:
                for block in self._resampled(rate):
                    file.write(np.ascontiguousarray(block, np.float32).tobytes())
                samples = round(self.seconds * rate)
                file.truncate(samples * 4)  # cut or filled, as the waveform store does it
                self._at[rate] = (
                    np.memmap(file, np.float32, "r") if samples else np.zeros(0, np.float32)
                )
        return self._at[rate]

    def _resampled(self, rate: int) -> Iterator[np.ndarray]:
        """Blocks as :func:`load_mono` resamples the whole: soxr gives the same bits either way."""
        stream = None
        for block, source_rate in self._mono():
            if source_rate == rate:
                yield block
                continue
            if stream is None:
                stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="VHQ")
            yield stream.resample_chunk(block)
        if stream is not None:
            yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    def _mono(self) -> Iterator[tuple[np.ndarray, int]]:
        done, rate, levels = 0, 1, Levels()
        for block, rate in blocks(self.path, BLOCK):
            if not np.isfinite(block).all():
                raise BrokenSound("holds samples that are not finite")
            mono = load_mono(block.T, rate, rate)
            levels.add(block.T, mono)
            done += len(block)
            yield mono, rate
        self.seconds = done / rate
        if abs(self.seconds - self.stated) > LENGTH_TOLERANCE:
            what = f"decodes to {self.seconds:.3f} s instead of {self.stated:.3f} s"
            raise BrokenSound(f"{what} (truncated?)")
        if why := levels.fault():
            raise BrokenSound(why)


class MemorySound:
    """Samples [C, S] at a rate in Hz, mono at any rate."""

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.seconds = samples.shape[1] / rate
        self._at: dict[int, np.ndarray] = {}

    def at(self, rate: int) -> np.ndarray:
        """Samples [S] at a rate in Hz."""
        if rate not in self._at:
            mono = load_mono(self.samples, self.rate, rate)[: round(self.seconds * rate)]
            self._at[rate] = np.pad(mono, (0, round(self.seconds * rate) - len(mono)))
        return self._at[rate]
