"""The scores of one model: every metric of the kind of labels, in total and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.runs.counts import counted
from systems.kinds import Truth
from systems.metrics import metric
from systems.predictions import Predictions


@dataclass(frozen=True)
class Score:
    """``counts``: by metric [N, ...]; ``metrics``: value and interval; ``classes``: by class;
    ``subsets``: of some of the clips each, by key."""

    counts: dict[str, np.ndarray]
    metrics: dict[str, Any]
    classes: dict[str, dict[str, float | None]]
    subsets: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As scores.json has it."""
        return {"metrics": self.metrics, "classes": self.classes, "subsets": self.subsets}


def score(
    predictions: Predictions, truth: Truth, own: str, groups: Sequence[str],
    subsets: Mapping[str, tuple[str, np.ndarray]] | None = None,
) -> Score:  # fmt: skip
    """Predictions of N clips by all metrics that they answer, the run's ``own`` included.

    ``groups``: of each clip. ``subsets``: key -> name and clips [n] by place.
    """
    counts = counted(predictions, truth, own)
    some = {}
    for key, (name, rows) in (subsets or {}).items():
        mine = {of: all_[rows] for of, all_ in counts.items()}
        of_rows = [groups[row] for row in rows]
        some[key] = {"name": name, "clips": len(rows), "metrics": intervals(mine, of_rows),
                     "classes": by_class(mine, truth.classes)}  # fmt: skip
    return Score(counts, intervals(counts, groups), by_class(counts, truth.classes), some)


def intervals(counts: Mapping[str, np.ndarray], groups: Sequence[str]) -> dict[str, Any]:
    """Value and 95 % interval by metric, of counts [N, ...] of clips of these groups."""
    return {name: metric(name).interval(c, groups)._asdict() for name, c in counts.items()}


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
