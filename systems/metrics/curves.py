"""Event counts at every threshold at once, for one class.

``sed_scores_eval`` gives such curves too. It refuses clips whose events of one class touch or
overlap, as public sets have them, and knows neither filled pauses nor shortest events: hence this.
The counts are those of ``sed_eval`` with its optimal matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from systems.metrics.events import OFFSET_SHARE, ONSET_COLLAR


@dataclass(frozen=True)
class Frames:
    """Frame scores of one class in some clips: [ΣT], clip n from ``starts[n]`` to ``starts[n+1]``.

    ``hop`` and ``start`` (of each clip's first frame) in s, as ``decoding.frame_edges`` takes them;
    ``durations`` [N] in s; reference events ``onsets``, ``offsets`` [ΣR] in s, those of clip n from
    ``firsts[n]`` to ``firsts[n+1]``.
    """

    scores: np.ndarray
    starts: np.ndarray
    hop: float
    durations: np.ndarray
    onsets: np.ndarray
    offsets: np.ndarray
    firsts: np.ndarray
    start: float = 0.0

    @classmethod
    def of(
        cls,
        scores: Sequence[np.ndarray],
        hop: float,
        durations: Sequence[float],
        events: Sequence[Sequence[tuple[float, float]]],
        start: float = 0.0,
    ) -> Frames:
        """From clips' frame scores [T] and their reference events (onset, offset) of the class."""
        times = np.array([time for clip in events for time in clip], float).reshape(-1, 2)
        return cls(
            np.concatenate(scores).astype(float), _bounds(scores), hop,
            np.array(durations, float), times[:, 0].copy(), times[:, 1].copy(), _bounds(events),
            start,
        )  # fmt: skip


def _bounds(parts: Sequence[Sequence[object]] | Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)


@dataclass(frozen=True)
class Curve:
    """Counts of ``scores > threshold`` as a step function of the threshold.

    ``values`` [V]: distinct scores, falling; at a threshold from ``values[v+1]`` to below
    ``values[v]`` there are ``hits[v]`` true positives among ``found[v]`` events. ``reference``:
    events that are to be found.
    """

    values: np.ndarray
    hits: np.ndarray
    found: np.ndarray
    reference: int

    def at(self, threshold: float) -> tuple[int, int, int]:
        """(true positive, false positive, false negative) at a threshold."""
        place = int(np.searchsorted(-self.values, -threshold, "left")) - 1
        if place < 0:
            return 0, 0, self.reference
        hits = int(self.hits[place])
        return hits, int(self.found[place]) - hits, self.reference - hits

    def best(self) -> tuple[float, float]:
        """The threshold with the largest F1, and that F1; of equals the one nearest to 0.5."""
        if not self.reference or not len(self.values):
            return 0.5, 0.0
        f1 = 2 * self.hits / (self.found + self.reference)
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        bounds = self.thresholds(best)
        chosen = int(np.argmin(np.abs(bounds - 0.5)))
        return float(bounds[chosen]), float(f1[best[chosen]])

    def thresholds(self, places: np.ndarray) -> np.ndarray:
        """A threshold for each place: 0.5 where that fits, else half-way to the next score."""
        high = self.values[places]
        low = np.append(self.values[1:], self.values[-1] - 1e-6)[places]
        middle = (high + low) / 2
        inside = (low <= 0.5) & (high > 0.5)
        bounds: np.ndarray = np.where(inside, 0.5, np.where(middle < high, middle, low))
        return bounds

    def front(self) -> Front:
        """The thresholds that no other beats in both right and wrong events."""
        wrong = self.found - self.hits
        order = np.lexsort((-self.hits, wrong))  # fewest wrong first, of equals the most right
        ahead = np.maximum.accumulate(self.hits[order])
        better = self.hits[order] > np.concatenate([[0], ahead[:-1]])
        places = order[better]
        if not len(places):
            return Front(np.ones(1), np.array([[0, 0, self.reference]]))
        hits = self.hits[places]
        counts = np.stack([hits, wrong[places], self.reference - hits], axis=-1)
        none = max(1.0, self.values[0] + 1e-6)  # above all scores
        return Front(
            np.concatenate([[none], self.thresholds(places)]),
            np.vstack([[0, 0, self.reference], counts]),
        )


@dataclass(frozen=True)
class Front:
    """Thresholds [F] worth trying, and their (true, false positive, false negative) [F, 3].

    Any measure that rises with right events and falls with wrong ones has its optimum among them.
    """

    thresholds: np.ndarray
    counts: np.ndarray


def event_curve(frames: Frames, gap: float = 0.0, shortest: float = 0.0) -> Curve:
    """Event-based counts at all thresholds: onset collar 200 ms, offset 200 ms or 20 %.

    Args:
        frames: scores (filter them first: a median of scores is the median of their decisions) and
            reference events.
        gap: pauses below this are filled, s.
        shortest: events below this are left out, s.
    """
    values, hits, found = _changes(
        frames.scores, frames.starts, frames.hop, frames.start, frames.durations, frames.onsets,
        frames.offsets, frames.firsts, gap, shortest, ONSET_COLLAR, OFFSET_SHARE,
    )  # fmt: skip
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.append(ranked[1:] < ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    return Curve(
        ranked[last], np.cumsum(hits[order])[last], np.cumsum(found[order])[last],
        len(frames.onsets),
    )  # fmt: skip


@numba.njit(cache=True)
def _changes(  # type: ignore[no-untyped-def]
    scores, starts, hop, start, durations, onsets, offsets, firsts, gap, shortest, collar, share
):
    """Where a clip's counts change: score, change of true positives, change of events: [C] each."""
    values = np.empty(len(scores))
    hits = np.empty(len(scores), np.int64)
    found = np.empty(len(scores), np.int64)
    changes = 0
    for clip in range(len(durations)):
        clip_scores = scores[starts[clip] : starts[clip + 1]]
        levels = np.unique(clip_scores)[::-1]
        on, off = onsets[firsts[clip] : firsts[clip + 1]], offsets[firsts[clip] : firsts[clip + 1]]
        before_hits, before_found = 0, 0
        est_on, est_off = np.empty(len(clip_scores)), np.empty(len(clip_scores))
        for level in levels:
            count = _events(
                clip_scores, level, hop, start, durations[clip], gap, shortest, est_on, est_off
            )
            right = 0
            if len(on) and count:
                right = _matched(on, off, est_on[:count], est_off[:count], collar, share)
            if right != before_hits or count != before_found:
                values[changes] = level
                hits[changes], found[changes] = right - before_hits, count - before_found
                before_hits, before_found = right, count
                changes += 1
    return values[:changes], hits[:changes], found[:changes]


@numba.njit(cache=True)
def _edge(frame, frames, hop, start, duration):  # type: ignore[no-untyped-def]
    """Where a frame begins, or the last of ``frames`` ends: as :func:`frame_edges` has it."""
    time = min(max(start + frame * hop, 0.0), duration)
    if frame == 0:
        return 0.0
    if frame == frames and duration - time < max(start, 0.0) + hop:
        return duration
    return time


@numba.njit(cache=True)
def _events(  # type: ignore[no-untyped-def]
    scores, level, hop, start, duration, gap, shortest, est_on, est_off
):
    """Events of frames with at least ``level``, into ``est_on`` and ``est_off``; their number."""
    count, frame, frames = 0, 0, len(scores)
    while frame < frames:
        if scores[frame] < level:
            frame += 1
            continue
        first = frame
        while frame < frames and scores[frame] >= level:
            frame += 1
        onset = _edge(first, frames, hop, start, duration)
        offset = _edge(frame, frames, hop, start, duration)
        if onset >= duration:
            break
        if count and onset - est_off[count - 1] < gap:
            est_off[count - 1] = offset
        else:
            est_on[count], est_off[count] = onset, offset
            count += 1
    kept = 0
    for i in range(count):
        if est_off[i] - est_on[i] >= shortest:
            est_on[kept], est_off[kept] = est_on[i], est_off[i]
            kept += 1
    return kept


@numba.njit(cache=True)
def _matched(on, off, est_on, est_off, collar, share):  # type: ignore[no-untyped-def]
    """The largest number of pairs of reference and estimated events within the collars."""
    match = np.full(len(est_on), -1)
    pairs = 0
    for ref in range(len(on)):
        seen = np.zeros(len(est_on), np.bool_)
        if _augment(ref, on, off, est_on, est_off, collar, share, match, seen):
            pairs += 1
    return pairs


@numba.njit(cache=True)
def _augment(  # type: ignore[no-untyped-def]
    ref, on, off, est_on, est_off, collar, share, match, seen
):
    """Find an event for a reference, moving earlier pairs where that makes room."""
    for est in range(len(est_on)):
        if seen[est] or abs(on[ref] - est_on[est]) > collar:
            continue
        if abs(off[ref] - est_off[est]) > max(collar, share * (off[ref] - on[ref])):
            continue
        seen[est] = True
        if match[est] < 0 or _augment(
            match[est], on, off, est_on, est_off, collar, share, match, seen
        ):
            match[est] = ref
            return True
    return False
