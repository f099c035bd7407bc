"""Metrics by name, each from per-clip counts, so that a bootstrap over clips gives intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from systems.data.dataset import LabelKind
from systems.errors import unknown
from systems.metrics.classes import (
    accuracy_of_hits,
    hits,
    mean_of_pairs,
    precision_at_3,
    uar_of_hits,
)
from systems.metrics.intervals import Interval, OfCounts, bootstrap
from systems.metrics.ranking import precisions, reciprocal_ranks
from systems.metrics.regression import ccc_of_moments, moments, pcc_of_moments, rmse_of_moments
from systems.metrics.tagging import (
    auc,
    average_precision,
    macro_f1_of_counts,
    micro_f1_of_counts,
    rows_of,
    tag_counts,
)

ClipMetric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric: the predictions and labels that it needs, its direction, and what it is.

    ``counts``: (targets, scores) -> per-clip counts [N, ...]; ``of_counts``: counts of some clips
    -> value. ``sums``: the value follows from the counts' sum over clips. Metrics of events have
    counts of their own (:mod:`systems.metrics.events`).
    """

    name: str
    predictions: str
    labels: tuple[LabelKind, ...]
    mode: Literal["max", "min"]
    text: str
    counts: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    of_counts: OfCounts | None = None
    sums: bool = True


def _tag_counts(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return tag_counts(targets, scores > 0.5)


TAGS: tuple[LabelKind, ...] = ("tags", "events", "class")
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "clip_macro_f1", "clip_scores", TAGS, "max",
            "F1 of clip-level tags at threshold 0.5, mean over classes",
            _tag_counts, macro_f1_of_counts,
        ),
        Metric(
            "clip_micro_f1", "clip_scores", TAGS, "max",
            "F1 of clip-level tags at threshold 0.5, over all classes together",
            _tag_counts, micro_f1_of_counts,
        ),
        Metric(
            "clip_map", "clip_scores", TAGS, "max",
            "average precision of clip-level scores, mean over classes",
            rows_of, average_precision, sums=False,
        ),
        Metric(
            "clip_auc", "clip_scores", TAGS, "max",
            "area under the ROC curve of clip-level scores, mean over classes",
            rows_of, auc, sums=False,
        ),
        Metric(
            "accuracy", "clip_scores", ("class",), "max",
            "share of clips whose class has the largest score", hits, accuracy_of_hits,
        ),
        Metric(
            "uar", "clip_scores", ("class",), "max",
            "unweighted average recall over classes", hits, uar_of_hits,
        ),
        Metric(
            "map_at_3", "clip_scores", ("class",), "max",
            "mean average precision at 3 (DCASE 2018 task 2)", precision_at_3, mean_of_pairs,
        ),
        Metric(
            "pcc", "clip_values", ("values",), "max",
            "Pearson's correlation coefficient, mean over outputs", moments, pcc_of_moments,
        ),
        Metric(
            "ccc", "clip_values", ("values",), "max",
            "concordance correlation coefficient, mean over outputs", moments, ccc_of_moments,
        ),
        Metric(
            "rmse", "clip_values", ("values",), "min",
            "root mean squared error, mean over outputs", moments, rmse_of_moments,
        ),
        Metric(
            "mrr", "ranking", ("relevance",), "max",
            "mean reciprocal rank of the first relevant item", reciprocal_ranks, mean_of_pairs,
        ),
        Metric(
            "ranking_map", "ranking", ("relevance",), "max",
            "mean average precision over queries", precisions, mean_of_pairs,
        ),
        Metric(
            "event_f1", "events", ("events",), "max",
            "event-based F1, 200 ms onset collar, offset 200 ms / 20 %, mean over classes",
        ),
        Metric(
            "event_er", "events", ("events",), "min",
            "event-based error rate with the same collars, mean over classes",
        ),
        Metric(
            "event_micro_f1", "events", ("events",), "max",
            "event-based F1 with the same collars, over all classes together",
        ),
        Metric(
            "segment_f1", "events", ("events",), "max",
            "segment-based F1, segments of 1 s, mean over classes",
        ),
    )
}  # fmt: skip


def metric(name: str) -> Metric:
    """A metric by name. Raises UserError for an unknown one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def _clip(name: str) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], OfCounts, bool]:
    found = METRICS.get(name)
    if found is None or found.counts is None or found.of_counts is None:
        raise unknown("clip metric", name, [m.name for m in METRICS.values() if m.counts])
    return found.counts, found.of_counts, found.sums


def score_counts(name: str, targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per-clip counts [N, ...] of a metric of clip scores [N, K]."""
    return _clip(name)[0](targets, scores)


def of_counts(name: str) -> OfCounts:
    """Counts of some clips -> value, for a metric of clip scores."""
    return _clip(name)[1]


def clip_metric(name: str) -> ClipMetric:
    """(targets [N, K], scores [N, K]) -> value, for a metric of clip scores."""
    counts, value, _ = _clip(name)
    return lambda targets, scores: value(counts(targets, scores))


def clip_interval(name: str, targets: np.ndarray, scores: np.ndarray) -> Interval:
    """A metric of clip scores [N, K] with its 95 % interval over clips."""
    counts, value, sums = _clip(name)
    return bootstrap(counts(targets, scores), value, sums=sums)
