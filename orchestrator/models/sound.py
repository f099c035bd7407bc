"""Sound of any length: blocks of a file, and windows over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import soundfile
import soxr

from systems.data.files import LENGTH_TOLERANCE
from systems.data.store import load_mono

BLOCK = 1 << 18  # samples of a file that are read at once


class BrokenSound(Exception):
    """Sound that cannot be used, and why."""


def windows(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[np.ndarray]:
    """Windows [length] of sound that comes in blocks [S], one every ``step`` samples.

    The last one ends where the sound does and may be shorter; sound no longer than a window is one.
    """
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > length:
            yield held[:length]
            held = held[step:]
    yield held


def join(frames: Sequence[np.ndarray], step: int) -> np.ndarray:
    """Frame scores [T, K] of windows that start every ``step`` frames as those of the whole.

    Where windows overlap it is their mean, weighted by a triangle over each window.
    """
    if len(frames) == 1:
        return frames[0]
    length, classes = frames[0].shape
    ramp = np.arange(length) + 0.5
    triangle = np.minimum(ramp, ramp[::-1])[:, None]
    total = np.zeros(((len(frames) - 1) * step + length, classes))
    weight = np.zeros((len(total), 1))
    for start, scores in zip(itertools.count(0, step), frames, strict=False):
        total[start : start + length] += triangle * scores
        weight[start : start + length] += triangle
    return (total / weight).astype(np.float32)


def file_blocks(path: str, seconds: float, rate: int) -> Iterator[np.ndarray]:
    """The file's sound, mono at a rate, in blocks [S].

    Raises:
        BrokenSound: it cannot be decoded, ends before its header says, or is not finite.
    """
    with soundfile.SoundFile(path) as file:
        mono = _mono_blocks(file, seconds)
        yield from fitted_to(_resampled(mono, file.samplerate, rate), round(seconds * rate))


def _mono_blocks(file: soundfile.SoundFile, seconds: float) -> Iterator[np.ndarray]:
    done = 0
    try:
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise BrokenSound("holds samples that are not finite")
            done += len(block)
            yield load_mono(block.T, file.samplerate, file.samplerate)
    except soundfile.LibsndfileError as error:
        raise BrokenSound(f"cannot be decoded: {error.error_string}") from error
    decoded = done / file.samplerate
    if abs(decoded - seconds) > LENGTH_TOLERANCE:
        raise BrokenSound(f"decodes to {decoded:.3f} s instead of {seconds:.3f} s (truncated?)")


def _resampled(blocks: Iterable[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    """Blocks as :func:`load_mono` resamples the whole: soxr gives the same bits either way."""
    if source_rate == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def fitted_to(blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks cut or padded to so many samples, as the waveform store does it."""
    for block in blocks:
        yield block[:samples]
        samples -= min(samples, len(block))
    yield np.zeros(samples, np.float32)
