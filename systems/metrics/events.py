"""Event-based metrics: counts from ``sed_eval``, the field's own evaluation, clip by clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from systems.data.dataset import Event
from systems.metrics.averages import mean_over_classes, quotients

if TYPE_CHECKING:
    from dcase_util.containers import MetaDataContainer

ONSET_COLLAR = 0.2  # seconds
OFFSET_SHARE = 0.2  # of the event's length, where that is more than the collar


def event_counts(
    reference: Mapping[str, Sequence[Event]],
    estimated: Mapping[str, Sequence[Event]],
    classes: Sequence[str],
) -> np.ndarray:
    """Per clip and class (true positive, false positive, false negative): [N, K, 3].

    Clips in the order of ``reference``; onset collar 200 ms, offset collar 200 ms or 20 % of the
    event's length.
    """
    import sed_eval.sound_event  # here: only what scores events waits for it

    counts = np.zeros((len(reference), len(classes), 3), np.int64)
    for row, clip_id in enumerate(reference):
        judge = sed_eval.sound_event.EventBasedMetrics(
            event_label_list=list(classes),
            t_collar=ONSET_COLLAR,
            percentage_of_length=OFFSET_SHARE,
        )
        judge.evaluate(
            event_container(clip_id, reference[clip_id]),
            event_container(clip_id, estimated[clip_id]),
        )
        for k, name in enumerate(classes):
            c = judge.class_wise[name]
            counts[row, k] = (c["Ntp"], c["Nsys"] - c["Ntp"], c["Nref"] - c["Ntp"])
    return counts


def class_er_of_counts(counts: np.ndarray) -> np.ndarray:
    """Error rate ``(fp + fn) / reference`` by class [..., K] of counts [..., N, K, 3]; NaN of a
    class without references."""
    tp, fp, fn = np.moveaxis(counts.sum(axis=-3).astype(float), -1, 0)
    return quotients(fp + fn, tp + fn)


def event_er_of_counts(counts: np.ndarray) -> np.ndarray:
    """Macro event-based error rate over classes with references."""
    return mean_over_classes(class_er_of_counts(counts))


def event_container(clip_id: str, events: Sequence[Event]) -> MetaDataContainer:
    """A clip's events as ``sed_eval`` takes them."""
    from dcase_util.containers import MetaDataContainer

    return MetaDataContainer(
        [
            {"filename": clip_id, "event_onset": e.onset, "event_offset": e.offset,
             "event_label": e.label}
            for e in events
        ]
    )  # fmt: skip
