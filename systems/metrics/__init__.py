"""The metrics by name: all that is known of each stands here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from systems.data.dataset import LabelKind
from systems.errors import unknown
from systems.kinds import KINDS, Truth, kind
from systems.metrics.classes import (
    hits,
    mean_by_class,
    mean_of_clips,
    places_of_truth,
    uar_of_hits,
)
from systems.metrics.directions import angular_errors, reversals
from systems.metrics.events import class_er_of_counts, event_counts, event_er_of_counts
from systems.metrics.intervals import Interval
from systems.metrics.metric import Metric, decided, dense, timed
from systems.metrics.ranking import mean_of_pairs, precisions, ranks, recalls, reciprocal_ranks
from systems.metrics.regression import (
    ccc_by_output,
    ccc_of_moments,
    mean_pcc_by_output,
    mean_pcc_of_moments,
    moments_of_clips,
    pcc_by_output,
    pcc_of_moments,
    pooled_pcc_of_moments,
    rmse_by_output,
    rmse_of_moments,
)
from systems.metrics.segments import segment_counts
from systems.metrics.tagging import (
    auc,
    auc_by_class,
    average_precision,
    average_precision_by_class,
    f1_of_classes,
    macro_f1_of_counts,
    micro_f1_of_counts,
    rows_of,
)

__all__ = ["METRICS", "Metric", "clip_interval", "clip_metric", "fused_by", "metric", "named",
           "scored_by", "searchable", "words_of"]  # fmt: skip

ClipMetric = Callable[[np.ndarray, np.ndarray], float]

_rows, _hits, _places = dense(rows_of), dense(hits), dense(places_of_truth)
_events, _segments = timed(event_counts), timed(segment_counts)  # each counts once for all of it

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "clip_macro_f1", ("tags",), "max", "clip macro F1",
            "F1 of clip-level decisions (tags at threshold 0.5), mean over classes",
            decided, macro_f1_of_counts, f1_of_classes, "clip_f1", "clip F1", aliases=("f1",),
        ),
        Metric(
            "clip_micro_f1", ("tags",), "max", "clip micro F1",
            "F1 of clip-level decisions (tags at threshold 0.5), over all classes together",
            decided, micro_f1_of_counts, f1_of_classes, "clip_f1", "clip F1",
        ),
        Metric(
            "clip_map", ("tags",), "max", "mean average precision",
            "average precision of clip-level scores, mean over classes",
            _rows, average_precision, average_precision_by_class, "ap", "average precision",
            sums=False, aliases=("map", "ap"),
        ),
        Metric(
            "clip_auc", ("tags",), "max", "area under the ROC curve",
            "area under the ROC curve of clip-level scores, mean over classes",
            _rows, auc, auc_by_class, "auc", "area under the ROC curve",
            sums=False, aliases=("auc", "tag_auc"),
        ),
        Metric(
            "accuracy", ("class",), "max", "accuracy",
            "share of clips whose class has the largest score",
            _hits, mean_of_clips, mean_by_class, "recall", "recall",
        ),
        Metric(
            "uar", ("class",), "max", "unweighted average recall",
            "recall, mean over classes", _hits, uar_of_hits, mean_by_class, "recall", "recall",
            aliases=("accuracy",),
        ),
        Metric(
            "map_at_3", ("class",), "max", "MAP@3",
            "mean average precision at 3 (DCASE 2018 task 2)",
            _places, mean_of_clips, mean_by_class, "map_at_3", "MAP@3",
        ),
        Metric(
            "pcc", ("values", "series"), "max", "Pearson's correlation",
            "Pearson's correlation coefficient over all clips (steps), mean over outputs",
            moments_of_clips, pcc_of_moments, pcc_by_output, "pcc", "Pearson's correlation",
        ),
        Metric(
            "pearson_r", ("values",), "max", "Pearson's r of all values",
            "Pearson's correlation coefficient over all clips and outputs together",
            moments_of_clips, pooled_pcc_of_moments, pcc_by_output, "pcc", "Pearson's correlation",
        ),
        Metric(
            "mean_pcc", ("series",), "max", "Pearson's correlation within recordings",
            "Pearson's correlation coefficient of each recording, mean over recordings and outputs",
            moments_of_clips, mean_pcc_of_moments, mean_pcc_by_output, "mean_pcc",
            "Pearson's correlation within recordings", sums=False,
        ),
        Metric(
            "ccc", ("values", "series"), "max", "concordance correlation",
            "concordance correlation coefficient, mean over outputs",
            moments_of_clips, ccc_of_moments, ccc_by_output, "ccc", "concordance correlation",
        ),
        Metric(
            "rmse", ("values", "series"), "min", "root mean squared error",
            "root mean squared error, mean over outputs",
            moments_of_clips, rmse_of_moments, rmse_by_output, "rmse", "root mean squared error",
        ),
        Metric(
            "mrr", ("relevance",), "max", "mean reciprocal rank",
            "mean reciprocal rank of the first relevant item",
            dense(reciprocal_ranks), mean_of_pairs,
        ),
        Metric(
            "ranking_map", ("relevance",), "max", "mean average precision of queries",
            "mean average precision over queries", dense(precisions), mean_of_pairs,
        ),
        *(
            Metric(
                f"recall_at_{k}", ("relevance",), "max", f"recall at {k}",
                f"share of a query's relevant items among the first {k}, mean over queries",
                dense(recalls(k)), mean_of_pairs, aliases=(f"mean_recall_{k}",),
            )
            for k in (1, 2, 5, 10)
        ),
        Metric(
            "mean_rank", ("relevance",), "min", "mean rank",
            "rank of the first relevant item, mean over queries; among equal scores the mean rank",
            dense(ranks), mean_of_pairs,
        ),
        Metric(
            "angular_error", ("direction",), "min", "angular error",
            "degrees between the answer and the direction, mean over clips",
            angular_errors, mean_of_pairs,
        ),
        Metric(
            "front_back", ("direction",), "min", "front-back reversals",
            "share of clips whose answer lies nearer to the direction's mirror image behind or "
            "before the listener, of those that are not within 15 degrees of up or down",
            reversals, mean_of_pairs,
        ),
        Metric(
            "event_f1", ("events",), "max", "event-based F1",
            "event-based F1, 200 ms onset collar, offset 200 ms / 20 %, mean over classes",
            _events, macro_f1_of_counts, f1_of_classes, "event_f1", "event-based F1",
            predictions="events",
        ),
        Metric(
            "event_er", ("events",), "min", "event-based error rate",
            "event-based error rate with the same collars, mean over classes",
            _events, event_er_of_counts, class_er_of_counts, "event_er", "event-based error rate",
            predictions="events",
        ),
        Metric(
            "event_micro_f1", ("events",), "max", "event-based micro F1",
            "event-based F1 with the same collars, over all classes together",
            _events, micro_f1_of_counts, f1_of_classes, "event_f1", "event-based F1",
            predictions="events",
        ),
        Metric(
            "segment_f1", ("events",), "max", "segment-based F1",
            "segment-based F1, segments of 1 s, mean over classes",
            _segments, macro_f1_of_counts, f1_of_classes, "segment_f1", "segment-based F1",
            predictions="events",
        ),
    )
}  # fmt: skip


def metric(name: str) -> Metric:
    """A metric by name. Raises UserError for an unknown one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def named(published: str) -> tuple[Metric, ...]:
    """The metrics that papers mean by a name: that of the name itself first."""
    own = [METRICS[published]] if published in METRICS else []
    return (*own, *(m for m in METRICS.values() if published in m.aliases))


def words_of(name: str) -> str:
    """The name for people of a metric or of a class's value; of any other the name itself."""
    if name in METRICS:
        return METRICS[name].words
    of_class = {m.class_name: m.class_words for m in METRICS.values()}
    return of_class.get(name, name.replace("_", " "))


def scored_by(labels: LabelKind, own: str, also: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The metrics that labels of a kind are scored by.

    Those of the kind, and first of all the run's ``own`` where it is another one that fits; at last
    those that ``also`` (by the data set's card) do.
    """
    names = kind(labels).metrics
    asked = metric(own)
    first = (asked,) if asked.fits(labels) and own not in names else ()
    others = (METRICS[name] for name in also if name not in (*names, own))
    last = (one for one in others if one.fits(labels))
    return (*first, *(METRICS[name] for name in names), *last)


def searchable(labels: LabelKind, gives: Collection[str]) -> tuple[str, ...]:
    """The metrics that a search can follow on validation labels of a kind.

    ``gives``: the predictions of the system: its frames are decided into events.
    """
    if labels not in KINDS:
        return ()
    read = {kind(labels).dense, *gives} | ({"events"} if "frame_scores" in gives else set())
    return tuple(
        m.name for m in METRICS.values() if m.follows_epochs(labels) and m.reads(labels) in read
    )


def fused_by(name: str, labels: LabelKind) -> str:
    """What fused scores are judged by in a run of this metric: itself, where it reads scores; else
    the first metric of the kind of labels that does."""
    return name if METRICS[name].reads(labels) == kind(labels).dense else kind(labels).metrics[0]


def _dense(name: str) -> Metric:
    of_scores = {m.name for m in METRICS.values() if m.predictions is None}
    if name not in of_scores:
        raise unknown("clip metric", name, of_scores)
    return METRICS[name]


def clip_metric(
    name: str, labels: LabelKind = "tags", lengths: Sequence[int] | None = None
) -> ClipMetric:
    """(targets, scores) -> value, for a metric of clip scores, values or ranks [N, K].

    Of a series both are [ΣT, D], and ``lengths`` are T of each clip.
    """
    found, of_clips = _dense(name), None if lengths is None else tuple(lengths)

    def value(targets: np.ndarray, scores: np.ndarray) -> float:
        return found.value(found.count(Truth(labels, targets, lengths=of_clips), scores))

    return value


def clip_interval(
    name: str, targets: np.ndarray, scores: np.ndarray, groups: Sequence[str] | None,
    labels: LabelKind = "tags", lengths: Sequence[int] | None = None,
) -> Interval:  # fmt: skip
    """Such a metric of scores with its 95 % interval over groups of clips."""
    found, of_clips = _dense(name), None if lengths is None else tuple(lengths)
    return found.interval(found.count(Truth(labels, targets, lengths=of_clips), scores), groups)
