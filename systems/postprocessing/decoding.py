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
    start: float = 0.0,
) -> tuple[Event, ...]:
    """Events of one clip.

    Args:
        frame_scores: [T, K] probabilities.
        decoding: thresholds and median widths.
        classes: K names.
        hop: seconds a frame stands for.
        duration: of the clip in seconds; events end there at the latest.
        start: s at which the first frame begins, see :func:`frame_edges`.
    """
    events = []
    edges = frame_edges(len(frame_scores), hop, duration, start)
    for k, name in enumerate(classes):
        active = active_frames(frame_scores[:, k], decoding.thresholds[k], decoding.medians[k])
        times = [
            (float(edges[first]), float(edges[stop]))
            for first, stop in runs(active)
            if edges[first] < duration
        ]
        gap = decoding.gaps[k] if decoding.gaps else 0.0
        shortest = decoding.minima[k] if decoding.minima else 0.0
        events += [
            Event(*time, name) for time in joined(times, gap) if time[1] - time[0] >= shortest
        ]
    return tuple(sorted(events))


def frame_edges(frames: int, hop: float, duration: float, start: float = 0.0) -> np.ndarray:
    """Where each frame begins to stand for the sound, and where the last one ends: [T + 1] in s.

    Frame t stands for ``start + t hop`` to ``start + (t + 1) hop``, the half hops around the middle
    of what it saw. What lies beyond the first and the last one is theirs too: ``start`` s at both
    ends of a clip whose windows are not centred, and less than a hop at its end.
    """
    edges: np.ndarray = np.clip(start + np.arange(frames + 1) * hop, 0.0, duration)
    edges[0] = 0.0
    if duration - edges[-1] < max(start, 0.0) + hop:
        edges[-1] = duration
    return edges


def joined(times: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Onsets and offsets in s, in order, with pauses shorter than ``gap`` filled."""
    found: list[tuple[float, float]] = []
    for onset, offset in times:
        if found and onset - found[-1][1] < gap:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((onset, offset))
    return found


def finest(hops: Sequence[float], starts: Sequence[float]) -> tuple[float, float]:
    """The finest of some hops, and where its first frame begins, in s."""
    place = hops.index(min(hops))
    return hops[place], starts[place] if starts else 0.0


def align_frames(
    scores: Sequence[np.ndarray], hops: Sequence[float], starts: Sequence[float] = ()
) -> np.ndarray:
    """Several models' frame scores [T_m, K] of one clip as [T, M, K], as the finest has its frames.

    A frame takes the score that each model gives at its middle. ``starts``: s at which each model's
    first frame begins; none: with the clip.
    """
    starts = starts or (0.0,) * len(scores)
    hop, start = finest(hops, starts)
    begin = start + max(start, 0.0)
    ends = [s + max(s, 0.0) + len(one) * h for one, h, s in zip(scores, hops, starts, strict=True)]
    frames = min(int(np.ceil((end - begin) / hop - 1e-9)) for end in ends)
    middles = (np.arange(frames) + 0.5) * hop
    taken = [
        one[np.clip(np.floor((middles + (start - s)) / h).astype(int), 0, len(one) - 1)]
        for one, h, s in zip(scores, hops, starts, strict=True)
    ]
    return np.stack(taken, axis=1)
