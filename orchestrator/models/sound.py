"""Sound of any length: blocks of a file, and windows over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import soundfile
import soxr

from systems.data.files import LENGTH_TOLERANCE
from systems.data.store import COUNT, Channels, mixed, too_many

BLOCK = 1 << 18  # samples of a file that are read at once


class BrokenSound(Exception):
    """Sound that cannot be used, and why."""


def windows(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[np.ndarray]:
    """Windows [length] of sound that comes in blocks [S] or [2, S], one every ``step`` samples.

    The last one ends where the sound does and may be shorter; sound no longer than a window is one.
    """
    held: np.ndarray | None = None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=-1)
        while held.shape[-1] > length:
            yield held[..., :length]
            held = held[..., step:]
    if held is not None:
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


def file_blocks(
    path: str, seconds: float, rate: int, channels: Channels = "mono"
) -> Iterator[np.ndarray]:
    """The file's sound at a rate, mono in blocks [S] or stereo [2, S].

    Raises:
        BrokenSound: it cannot be decoded, ends before its header says, is not finite, or has more
            channels than stereo.
    """
    with soundfile.SoundFile(path) as file:
        read = _mixed_blocks(file, seconds, channels)
        resampled = _resampled(read, file.samplerate, rate, channels)
        yield from fitted_to(resampled, round(seconds * rate))


def _mixed_blocks(
    file: soundfile.SoundFile, seconds: float, channels: Channels
) -> Iterator[np.ndarray]:
    done = 0
    try:
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise BrokenSound("holds samples that are not finite")
            if why := too_many(block.T, channels):
                raise BrokenSound(why)
            done += len(block)
            yield mixed(block.T, file.samplerate, file.samplerate, channels)
    except soundfile.LibsndfileError as error:
        raise BrokenSound(f"cannot be decoded: {error.error_string}") from error
    decoded = done / file.samplerate
    if abs(decoded - seconds) > LENGTH_TOLERANCE:
        raise BrokenSound(f"decodes to {decoded:.3f} s instead of {seconds:.3f} s (truncated?)")


def _resampled(
    blocks: Iterable[np.ndarray], source_rate: int, rate: int, channels: Channels
) -> Iterator[np.ndarray]:
    """Blocks as the waveform store resamples the whole: soxr gives the same bits either way."""
    if source_rate == rate:
        yield from blocks
        return
    count = COUNT[channels]
    stream = soxr.ResampleStream(source_rate, rate, count, dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    nothing = np.zeros((0, count) if count > 1 else 0, np.float32)
    yield stream.resample_chunk(nothing, last=True).T


def fitted_to(blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks cut or padded to so many samples, as the waveform store does it."""
    lead: tuple[int, ...] = ()
    for block in blocks:
        yield block[..., :samples]
        lead = block.shape[:-1]
        samples -= min(samples, block.shape[-1])
    yield np.zeros((*lead, samples), np.float32)
