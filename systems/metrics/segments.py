"""Segment-based metrics: counts from ``sed_eval``, clip by clip, in segments of 1 s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from systems.data.dataset import Event
from systems.metrics.events import event_container
from systems.postprocessing.decoding import frame_edges

SEGMENT = 1.0  # s


def segment_counts(
    reference: Mapping[str, Sequence[Event]],
    estimated: Mapping[str, Sequence[Event]],
    classes: Sequence[str],
) -> np.ndarray:
    """Per clip and class (true positive, false positive, false negative) segments: [N, K, 3]."""
    import sed_eval.sound_event

    counts = np.zeros((len(reference), len(classes), 3), np.int64)
    for row, clip_id in enumerate(reference):
        judge = sed_eval.sound_event.SegmentBasedMetrics(
            event_label_list=list(classes), time_resolution=SEGMENT
        )
        judge.evaluate(
            event_container(clip_id, reference[clip_id]),
            event_container(clip_id, estimated[clip_id]),
        )
        for k, name in enumerate(classes):
            c = judge.class_wise[name]
            counts[row, k] = (c["Ntp"], c["Nfp"], c["Nfn"])
    return counts


def segment_scores(
    frame_scores: np.ndarray, hop: float, duration: float, start: float = 0.0
) -> np.ndarray:
    """The largest frame score in each segment of a clip: [S, K].

    A segment is active where a frame that touches it is, as the rounding of ``sed_eval`` has it: an
    event takes the segments from the floor of its onset to the ceiling of its offset.

    Args:
        frame_scores: [T, K], frame t from ``start + t hop`` to ``start + (t + 1) hop`` s.
        hop: in s.
        start: in s, see :func:`frame_edges`.
        duration: of the clip in s; frames that begin later do not count.
    """
    edges = frame_edges(len(frame_scores), hop, duration, start)
    first = np.floor(edges[:-1] / SEGMENT).astype(int)
    last = np.ceil(edges[1:] / SEGMENT).astype(int) - 1
    out = np.zeros((int(np.ceil(duration / SEGMENT)), frame_scores.shape[1]))
    for t in np.flatnonzero(edges[:-1] < duration):
        part = out[first[t] : last[t] + 1]
        np.maximum(part, frame_scores[t], out=part)
    return out


def segment_targets(events: Sequence[Event], duration: float, classes: Sequence[str]) -> np.ndarray:
    """Which segments of a clip hold an event of each class: [S, K] in {0, 1}."""
    out = np.zeros((int(np.ceil(duration / SEGMENT)), len(classes)))
    for event in events:
        first, last = int(np.floor(event.onset / SEGMENT)), int(np.ceil(event.offset / SEGMENT))
        out[first:last, list(classes).index(event.label)] = 1
    return out
