"""The scores of one model: every metric of the kind of labels, in total and by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.runs.counts import counted
from systems.kinds import Truth
from systems.metrics import metric
from systems.predictions import Predictions


@dataclass(frozen=True)
class Score:
    """``counts``: by metric [N, ...]; ``metrics``: value and interval; ``classes``: by class."""

    counts: dict[str, np.ndarray]
    metrics: dict[str, Any]
    classes: dict[str, dict[str, float | None]]


def score(predictions: Predictions, truth: Truth, own: str) -> Score:
    """Predictions of N clips by all metrics that they answer, the run's ``own`` included."""
    counts = counted(predictions, truth, own)
    values = {name: metric(name).interval(c)._asdict() for name, c in counts.items()}
    return Score(counts, values, by_class(counts, truth.classes))


def by_class(
    counts: Mapping[str, np.ndarray], classes: tuple[str, ...]
) -> dict[str, dict[str, float | None]]:
    """Class -> name -> value, of the metrics that have one by class; ``None`` of no number."""
    values = {}
    for name, of_metric in counts.items():
        about = metric(name)
        if about.by_class is not None and about.class_name not in values:
            values[about.class_name] = about.by_class(of_metric)
    if not values:
        return {}
    return {
        name: {key: _finite(of_classes[k]) for key, of_classes in values.items()}
        for k, name in enumerate(classes)
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
