"""Metrics by name, from per-clip counts, so that a bootstrap over clips gives intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from systems.data.dataset import LabelKind
from systems.errors import unknown
from systems.metrics.intervals import Interval, OfCounts, bootstrap
from systems.metrics.tagging import macro_f1, macro_f1_of_counts, tag_counts

ClipMetric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric: the predictions and labels that it needs, its direction, and what it is."""

    name: str
    predictions: str
    labels: tuple[LabelKind, ...]
    mode: Literal["max", "min"]
    text: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "clip_macro_f1", "clip_scores", ("tags", "events", "class"), "max",
            "F1 of clip-level tags at threshold 0.5, mean over classes",
        ),
        Metric(
            "event_f1", "events", ("events",), "max",
            "event-based F1, 200 ms onset collar, offset 200 ms / 20 %, mean over classes",
        ),
        Metric(
            "event_er", "events", ("events",), "min",
            "event-based error rate with the same collars, mean over classes",
        ),
    )
}  # fmt: skip

_CLIP: dict[str, ClipMetric] = {"clip_macro_f1": macro_f1}
_CLIP_COUNTS: dict[str, OfCounts] = {"clip_macro_f1": macro_f1_of_counts}


def metric(name: str) -> Metric:
    """A metric by name. Raises UserError for an unknown one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def clip_metric(name: str) -> ClipMetric:
    """(targets [N, K], scores [N, K]) -> value, for a metric of clip scores."""
    if name not in _CLIP:
        raise unknown("clip metric", name, _CLIP)
    return _CLIP[name]


def clip_interval(name: str, targets: np.ndarray, scores: np.ndarray) -> Interval:
    """A metric of clip scores [N, K] at threshold 0.5 with its 95 % interval over clips."""
    clip_metric(name)
    return bootstrap(tag_counts(targets, scores > 0.5), _CLIP_COUNTS[name])
