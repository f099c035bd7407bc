"""How long a system hears at once, and how what it says of excerpts becomes what it says of a clip.

One policy for training, validation, prediction and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Join = Literal["arithmetic", "geometric", "vote", "overlap"]


@dataclass(frozen=True)
class Voting:
    """A decision: how windows' scores become their clip's. It is adapted on nothing."""

    mean: Join = "arithmetic"
    on: Literal["none"] = "none"


@dataclass(frozen=True)
class Excerpts:
    """Excerpts of the sound, or of features that are made of the whole sound.

    Args:
        seconds: the length in s of excerpts of the sound; the front end hears each alone.
        frames: the length of excerpts of features, which are made of each part of a clip as a
            whole; 0: excerpts are of the sound.
        train: one excerpt of each part a pass, at ``random`` or at its ``start``, or all
            ``windows``.
        predict: the ``whole`` part at once (one that is longer than an excerpt in windows that
            overlap by half, see :func:`covering`), the excerpt at its ``start``, or its
            ``windows``.
        hop: from window to window, as a share of the length.
        short: what a part (or its rest) that is shorter is filled with, at its end: zeros; of
            features also their ``minimum``, the part from its start (``repeat``), or nothing:
            frames that are ``absent`` are NaN, and the network reads the others alone
            (:func:`systems.nets.recurrent.present`).
        rest: what becomes of a rest that fills no window: one more window, which ends with the part
            (``align_end``) or is filled (``pad``), or nothing (``drop``; a short part is filled).
        mean: how windows' scores become the clip's: their mean, arithmetic or geometric over
            classes that exclude each other, the ``vote`` of their decisions; of series ``overlap``:
            the mean of all windows that tell of a step.
        mirror: s of sound that are mirrored at both ends of a clip before its features are made.
        overhang: frames that an excerpt takes beyond its length, for what looks ahead.
        made_of: s of sound that a part is cut to, or filled to with zeros, before its features are
            made; 0: they are made of all of it.
        at_least: s of sound that a shorter part is repeated to before its features are made.
    """

    seconds: float = 10.0
    frames: int = 0
    train: Literal["random", "start", "windows"] = "random"
    predict: Literal["whole", "start", "windows"] = "whole"
    hop: float = 1.0
    short: Literal["zeros", "minimum", "repeat", "absent"] = "zeros"
    rest: Literal["align_end", "pad", "drop"] = "align_end"
    mean: Join = "arithmetic"
    mirror: float = 0.0
    overhang: int = 0
    made_of: float = 0.0
    at_least: float = 0.0

    def __post_init__(self) -> None:
        least = min(self.frames, self.made_of, self.at_least)
        if self.seconds <= 0 or least < 0 or not 0 < self.hop <= 1:
            raise ValueError(
                "seconds lie above 0, frames, made_of and at_least at or above, hop in (0, 1]"
            )
        if (self.made_of or self.at_least or self.short != "zeros") and not self.frames:
            raise ValueError("made_of, at_least and short are of features, cut by frames")

    @property
    def of_features(self) -> bool:
        """Whether features are made of whole parts, and then cut."""
        return self.frames > 0

    def fitted(self, waveform: np.ndarray, rate: int) -> np.ndarray:
        """What features of a part [..., S] are made of."""
        if (least := round(self.at_least * rate)) > waveform.shape[-1] > 0:
            times = -(-least // waveform.shape[-1])
            waveform = np.concatenate([waveform] * times, axis=-1)[..., :least]
        if not self.made_of:
            return waveform
        samples = round(self.made_of * rate)
        missing = max(0, samples - waveform.shape[-1])
        fill = [(0, 0)] * (waveform.ndim - 1) + [(0, missing)]
        return np.pad(waveform[..., :samples], fill)

    def too_short(self, shortest: float, least: float) -> str:
        """Why features cannot be made of all clips, the shortest of which has such a length in s,
        where a frame takes ``least`` s; or an empty text."""
        made_of = self.made_of or max(shortest, self.at_least) + 2 * self.mirror
        if not self.of_features or made_of >= least:
            return ""
        return (
            f"the shortest clip has {shortest:.4g} s, and features are made of "
            f"{made_of:.4g} s of it: a window takes {least:.4g} s"
        )

    def starts(self, total: int, length: int, grid: int = 1) -> tuple[int, ...]:
        """Where the windows of a part of ``total`` units begin, on a grid."""
        step = max(1, min(round(self.hop * length / grid), length // grid)) * grid  # without gaps
        if total <= length:
            return (0,)
        starts = list(range(0, total - length + 1, step))
        if starts[-1] + length < total and self.rest != "drop":
            last = total - length if self.rest == "align_end" else starts[-1] + step
            starts.append(-(-last // grid) * grid)
        return tuple(starts)


def covering(total: int, length: int, step: int, frame: int) -> tuple[int, ...]:
    """Where windows begin that hear a part too long to be heard at once: one every ``step`` units,
    the last ending with the part, but for less than a ``frame``."""
    last = max(0, total - length) // frame * frame
    return (*range(0, last, step), last)


def blended(windows: Sequence[np.ndarray], starts: Sequence[int]) -> np.ndarray:
    """Frames [T, K] of windows that begin at some frames as those of the whole.

    Where windows overlap it is their mean, weighted by a triangle that falls from a window's middle
    to its ends, where a network sees least around a frame.
    """
    length, classes = windows[0].shape
    ramp = np.arange(length) + 0.5
    triangle = np.minimum(ramp, ramp[::-1])[:, None]
    total = np.zeros((max(starts) + length, classes))
    weight = np.zeros((len(total), 1))
    for start, scores in zip(starts, windows, strict=True):
        total[start : start + length] += triangle * scores
        weight[start : start + length] += triangle
    return (total / weight).astype(np.float32)


def joined(scores: np.ndarray, mean: Join) -> np.ndarray:
    """Scores [N, K] of windows as scores [K] of their clip.

    A vote is the share of windows that name a class: the one of at least 0.5; a window without such
    a class names the first (nnf_cnn_ensemble, section "Decision").
    """
    from systems.postprocessing.pooling import mean_of

    if len(scores) == 1 and mean != "vote":
        return scores[0]
    if mean == "vote":
        votes = np.where(scores.max(axis=1) >= 0.5, scores.argmax(axis=1), 0)
        return np.bincount(votes, minlength=scores.shape[1]) / len(scores)
    return mean_of(scores, "geometric" if mean == "geometric" else "arithmetic", True)


def overlapped(windows: Sequence[np.ndarray], starts: Sequence[int], total: int) -> np.ndarray:
    """Windows [T, D] at their first steps as one series [total, D]: the mean where they overlap."""
    out = np.zeros((total, windows[0].shape[1]), np.float64)
    count = np.zeros((total, 1))
    for window, start in zip(windows, starts, strict=True):
        part = window[: max(0, total - start)]
        out[start : start + len(part)] += part
        count[start : start + len(part)] += 1
    if (count == 0).any():  # steps after the last window: what it said last
        told = np.flatnonzero(count[:, 0])[-1]
        out[told + 1 :], count[told + 1 :] = out[told] / count[told], 1
    return (out / count).astype(np.float32)
