"""From frame probabilities to events: a threshold and a median filter per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from systems.data.dataset import Event


@dataclass(frozen=True)
class Decoding:
    """Per class a threshold on the frame probability and an odd median width in frames.

    Then, where they are given: pauses shorter than ``gaps`` are filled, and events shorter than
    ``minima`` left out; seconds, by class.
    """

    thresholds: tuple[float, ...]
    medians: tuple[int, ...]
    gaps: tuple[float, ...] = ()
    minima: tuple[float, ...] = ()

    @classmethod
    def plain(cls, classes: int) -> Decoding:
        """Threshold 0.5, no median filter."""
        return cls((0.5,) * classes, (1,) * classes)


def active_frames(scores: np.ndarray, threshold: float, median: int) -> np.ndarray:
    """``median_w(1[scores > threshold])`` of one class over time: [T] -> bool [T]."""
    active = scores > threshold
    if median == 1:
        return active
    filtered: np.ndarray = scipy.ndimage.median_filter(
        active.astype(np.uint8), size=median, mode="nearest"
    )
    return filtered > 0


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every run of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def decode(
    frame_scores: np.ndarray,
    decoding: Decoding,
    classes: Sequence[str],
    hop: float,
    duration: float,
) -> tuple[Event, ...]:
    """Events of one clip.

    Args:
        frame_scores: [T, K] probabilities.
        decoding: thresholds and median widths.
        classes: K names.
        hop: seconds a frame stands for.
        duration: of the clip in seconds; events end there at the latest.
    """
    events = []
    for k, name in enumerate(classes):
        active = active_frames(frame_scores[:, k], decoding.thresholds[k], decoding.medians[k])
        times = [
            (start * hop, min(stop * hop, duration))
            for start, stop in runs(active)
            if start * hop < duration
        ]
        gap = decoding.gaps[k] if decoding.gaps else 0.0
        shortest = decoding.minima[k] if decoding.minima else 0.0
        events += [
            Event(*time, name) for time in joined(times, gap) if time[1] - time[0] >= shortest
        ]
    return tuple(sorted(events))


def joined(times: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Onsets and offsets in s, in order, with pauses shorter than ``gap`` filled."""
    found: list[tuple[float, float]] = []
    for onset, offset in times:
        if found and onset - found[-1][1] < gap:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((onset, offset))
    return found


def align_frames(scores: Sequence[np.ndarray], hops: Sequence[float]) -> np.ndarray:
    """Several models' frame scores [T_m, K] of one clip as [T, M, K], at the finest of their hops.

    A frame takes the score that each model gives at its middle.
    """
    hop = min(hops)
    frames = min(int(np.ceil(len(s) * h / hop - 1e-9)) for s, h in zip(scores, hops, strict=True))
    middles = (np.arange(frames) + 0.5) * hop
    taken = [
        s[np.minimum((middles / h).astype(int), len(s) - 1)]
        for s, h in zip(scores, hops, strict=True)
    ]
    return np.stack(taken, axis=1)
