"""Metrics, parameters and tags in as few requests as MLflow's limits allow."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.tracking.names import LONGEST_NAME, SYNCED, TAG, metric_name
from orchestrator.tracking.views import View

POINTS, FINALS, PARAMS, TAGS = 600, 200, 100, 90  # of one request; MLflow takes 1,000 together


def finite(view: View) -> tuple[dict[str, float], dict[str, str]]:
    """Finite metrics, and the tags with the others among them: MLflow makes 1.8e308 of inf."""
    finite = {k: float(v) for k, v in view.metrics.items() if math.isfinite(v)}
    odd = {f"{TAG}not_finite.{k}": str(v) for k, v in view.metrics.items() if k not in finite}
    return finite, {**view.tags, **{key[:LONGEST_NAME]: value for key, value in odd.items()}}


Batch = tuple[list[Any], list[Any], list[Any]]  # metrics, parameters, tags


def point_batches(lines: Sequence[Mapping[str, Any]], done: int) -> list[Batch]:
    """Points of the lines after the first ``done``; each batch says how many lines are done then.

    A point keeps the time that metrics.jsonl has: should it be sent twice, MLflow knows it.
    """
    from mlflow.entities import Metric, RunTag

    points = [
        (index, Metric(name, value, int(line["time"] * 1000), line["step"]))
        for index, line in enumerate(lines)
        if index >= done
        for name, value in _points(line)
    ]
    batches: list[Batch] = []
    for start in range(0, len(points), POINTS):
        after = points[start + POINTS][0] if start + POINTS < len(points) else len(lines)
        metrics = [point for _, point in points[start : start + POINTS]]
        batches.append((metrics, [], [RunTag(SYNCED, str(after))]))
    return batches


def _points(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    head = f"fold{line['fold']}" if line["fold"] else "epoch"
    for key, value in line.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key not in ("fold", "step", "time") and is_number and math.isfinite(value):
            yield metric_name(head, key), float(value)


def rest_batches(
    finals: Mapping[str, float], params: Mapping[str, str], tags: Mapping[str, str]
) -> list[Batch]:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)  # the latest is the one that is shown
    metrics = [Metric(key, value, now, 0) for key, value in finals.items()]
    parameters = [Param(key, value) for key, value in params.items()]
    labels = [RunTag(key, value) for key, value in tags.items()]
    return [
        (list(some), list(other), list(third))
        for some, other, third in itertools.zip_longest(
            _chunks(metrics, FINALS), _chunks(parameters, PARAMS), _chunks(labels, TAGS),
            fillvalue=(),
        )
    ]  # fmt: skip


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def merged(points: Sequence[Batch], rest: Sequence[Batch]) -> Iterator[Batch]:
    """Both in as few requests as MLflow's limits allow."""
    nothing: Batch = ([], [], [])
    for one, other in itertools.zip_longest(points, rest, fillvalue=nothing):
        # Final metrics first: the page that compares runs begins with what was logged first.
        yield other[0] + one[0], one[1] + other[1], one[2] + other[2]
