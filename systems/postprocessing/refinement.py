"""Self-adaptive label refinement (SALR): per-class threshold and median width without any label.

Source: arXiv 1810.06897, Section 2.4. A decoder is good if the network itself, shown only the
frames that the decoder marks, still hears the class, and no longer hears it in the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from systems.postprocessing.decoding import Decoding, active_frames, runs

SHORTEST_SAMPLE = 3  # frames; shorter cuts are repeated up to this
Weak = Callable[[Sequence[tuple[int, np.ndarray]]], np.ndarray]


@dataclass(frozen=True)
class Refinement:
    """What the refinement adapts on and which decoders it tries.

    ``on``: ``none`` (threshold 0.5, no filter), the ``labelled`` training clips, the ``unlabelled``
    ones, or the ``target`` clips themselves (transductive). ``thresholds`` and odd ``medians`` (in
    frames) make the grid. ``clips_per_class`` bounds the clips that a class is adapted on.
    ``average``: a candidate's loss is the mean of the two labels' means, or of all cut ``samples``
    alike; the paper says "a crossentropy loss for each class". Of one clip with three marked runs
    the marked frames count for a half, or for three quarters.
    """

    on: Literal["none", "labelled", "unlabelled", "target"] = "none"
    thresholds: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
    medians: tuple[int, ...] = (1, 3, 5, 9, 13, 19, 25, 37, 49, 61, 81, 101)
    weak_threshold: float = 0.5
    clips_per_class: int | None = None
    average: Literal["labels", "samples"] = "labels"

    def __post_init__(self) -> None:
        if any(width % 2 == 0 for width in self.medians):
            raise ValueError("median widths are odd")


@dataclass(frozen=True)
class Refined:
    """The chosen decoders, their losses, and what a reader of the report should know."""

    decoding: Decoding
    losses: tuple[float | None, ...]
    without_clips: tuple[int, ...]
    whole_clip_wins: tuple[int, ...]


def refine(
    clip_scores: np.ndarray, frame_scores: Sequence[np.ndarray], weak: Weak, settings: Refinement
) -> Refined:
    """Choose each class's (threshold, median) by the smallest refinement loss.

    Args:
        clip_scores: [N, K] weak predictions on the adaptation clips.
        frame_scores: N arrays [T, K].
        weak: cut samples, each (clip index, frame indices) -> weak predictions [S, K].
        settings: grid and clips.

    The loss of a candidate is the cross-entropy over the cut samples of label 1 (each run of marked
    frames) and of label 0 (the unmarked frames joined in time order), averaged as the settings say;
    if one label is missing the other counts alone. Ties go to the smaller median width. A class
    that no clip is tagged with keeps 0.5 and width 1. Classes are independent.
    """
    chosen: list[tuple[float, int]] = []
    losses: list[float | None] = []
    without: list[int] = []
    whole: list[int] = []
    for k in range(clip_scores.shape[1]):
        kept = np.flatnonzero(clip_scores[:, k] > settings.weak_threshold)[
            : settings.clips_per_class
        ]
        if len(kept) == 0:
            chosen.append((0.5, 1))
            losses.append(None)
            without.append(k)
            continue
        threshold, median, loss, marks_whole = _refine_class(
            k, kept, [frame_scores[i][:, k] for i in kept], weak, settings
        )
        chosen.append((threshold, median))
        losses.append(loss)
        if marks_whole:
            whole.append(k)
    decoding = Decoding(tuple(t for t, _ in chosen), tuple(w for _, w in chosen))
    return Refined(decoding, tuple(losses), tuple(without), tuple(whole))


def _refine_class(
    k: int, kept: np.ndarray, scores: Sequence[np.ndarray], weak: Weak, settings: Refinement
) -> tuple[float, int, float, bool]:
    """The best (threshold, median, loss, does it mark all kept clips whole) of one class."""
    grid = [(t, w) for w in sorted(settings.medians) for t in settings.thresholds]
    masks = [[active_frames(s, t, w) for s in scores] for t, w in grid]
    samples: dict[tuple[int, int, bytes], np.ndarray] = {}
    cuts: list[list[tuple[int, int, bytes]]] = []
    for candidate in masks:  # equal masks of a clip cut equal samples: each is heard once
        cuts.append([])
        for clip, mask in zip(kept, candidate, strict=True):
            for label, frames in cut(mask):
                key = (label, int(clip), frames.tobytes())
                samples[key] = frames
                cuts[-1].append(key)
    keys = list(samples)
    heard = weak([(clip, samples[label, clip, frames]) for label, clip, frames in keys])[:, k]
    heard = np.clip(heard, 1e-6, 1 - 1e-6)
    entropy = {
        key: float(-np.log(y if key[0] else 1 - y)) for key, y in zip(keys, heard, strict=True)
    }
    best = (0, np.inf)
    for index, candidate_cuts in enumerate(cuts):
        loss = _loss([(key[0], entropy[key]) for key in candidate_cuts], settings)
        if loss < best[1]:
            best = (index, loss)
    threshold, median = grid[best[0]]
    return threshold, median, best[1], all(mask.all() for mask in masks[best[0]])


def _loss(cuts: Sequence[tuple[int, float]], settings: Refinement) -> float:
    """The loss of a candidate from its cut samples: (label, cross-entropy)."""
    if settings.average == "samples":
        return float(np.mean([entropy for _, entropy in cuts]))
    sides = [[entropy for of, entropy in cuts if of == label] for label in (0, 1)]
    return float(np.mean([np.mean(side) for side in sides if side]))


def cut(mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The samples a mask [T] cuts from its clip: (label, frame indices).

    Every run of ones is a sample of label 1; all other frames, joined, are one of label 0.
    """
    pieces = [(1, np.arange(start, stop)) for start, stop in runs(mask)]
    rest = np.flatnonzero(~mask)
    if len(rest):
        pieces.append((0, rest))
    return [
        (label, np.resize(frames, max(len(frames), SHORTEST_SAMPLE))) for label, frames in pieces
    ]
