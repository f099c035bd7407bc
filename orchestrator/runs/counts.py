"""Per-clip counts of scored models and the clips' groups, kept so that runs can be compared without
opening labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from systems.kinds import Truth, kind
from systems.metrics import scored_by
from systems.metrics.metric import Count
from systems.predictions import Predictions, save_arrays

ENOUGH = 10  # clips of a class, for a value of it that means something


@dataclass(frozen=True)
class Scored:
    """A scored model: who it is, and its counts [N, ...] by the name of the metric."""

    who: str
    variant: str | None
    learner: str | None
    best: bool
    counts: Mapping[str, np.ndarray]

    @property
    def key(self) -> str:
        """What it is compared under: its decision or its learner, whatever trial it came from."""
        return self.learner or f"{'best' if self.best else self.who}, {self.variant}"


class Stored(NamedTuple):
    """The counts of scored models over the same N clips; ``groups``: of each clip."""

    clip_ids: tuple[str, ...]
    groups: tuple[str, ...]
    rows: list[Scored]


def counted(
    predictions: Predictions, truth: Truth, own: str, also: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Counts [N, ...] by metric; metrics that count alike share them. ``own``: the run's;
    ``also``: those of the data set's card."""
    found: dict[str, np.ndarray] = {}
    shared: dict[Count, np.ndarray | None] = {}
    for about in scored_by(truth.kind, own, also):
        if about.count not in shared:
            shared[about.count] = about.counts(truth, predictions)
        counts = shared[about.count]
        if counts is not None:
            found[about.name] = counts
    return found


def sizes(truth: Truth, groups: Sequence[str]) -> dict[str, Any]:
    """What intervals over these clips rest on: ``clips``, ``groups``, and ``rare``: class -> clips,
    of the classes that fewer than ten clips have."""
    rare = {}
    if kind(truth.kind).says_tags:
        having = (truth.values > 0.5).sum(axis=0).tolist()
        rare = {c: n for c, n in zip(truth.classes, having, strict=True) if n < ENOUGH}
    return {"clips": len(groups), "groups": len(set(groups)), "rare": rare}


def save_counts(
    path: Path,
    clip_ids: Sequence[str],
    groups: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    counts: Sequence[Mapping[str, np.ndarray]],
) -> None:
    """Write every row's counts by metric, atomically and without pickles."""
    arrays = {
        f"{place}/{metric}": array
        for place, of_row in enumerate(counts)
        for metric, array in of_row.items()
    }
    head = {
        "clip_ids": list(clip_ids),
        "groups": list(groups),
        "rows": [{key: row[key] for key in ("who", "variant", "learner", "best")} for row in rows],
        "metrics": [list(of_row) for of_row in counts],
    }
    save_arrays(path, arrays, head)


def load_counts(path: Path) -> Stored:
    """What :func:`save_counts` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        head = json.loads(stored["head"].tobytes())
        rows = [
            Scored(**row, counts={metric: stored[f"{place}/{metric}"] for metric in metrics})
            for place, (row, metrics) in enumerate(zip(head["rows"], head["metrics"], strict=True))
        ]
    return Stored(tuple(head["clip_ids"]), tuple(head["groups"]), rows)
