"""Which frequencies a trial's models decide by, on the clips that each has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.training.job import Job, Task
from orchestrator.training.trained import trained
from systems.errors import UserError
from systems.fitted_network import FittedNetwork
from systems.frequency_relevance import frequency_relevance
from systems.metrics.intervals import bootstrap


def run_relevance(job: Job, number: int) -> None:
    """Write ``relevance.json``: of each class, over the held-out clips that it is true of, what
    each band of frequencies adds to its logit, with intervals over groups of clips; or why that
    cannot be told."""
    try:
        told: dict[str, Any] = {"classes": _classes(job, number), "why": None}
    except UserError as error:
        told = {"classes": {}, "why": str(error)}
    job.check_generation()
    write_json(RunDir(Path(job.run)).relevance, {"trial": number, **told})


def _classes(job: Job, number: int) -> dict[str, Any]:
    """The bands of each class that some held-out clip has."""
    rows, targets, groups = list[np.ndarray](), list[np.ndarray](), list[str]()
    edges = np.zeros(0)
    sounds = job.sounds(job.config(job.trial(number)))
    for fold, data in enumerate(job.folds):
        fitted = trained(job, Task(number, fold))
        assert data.validation is not None
        clips = data.validation.some(data.validation.counting())
        assert clips.targets is not None
        assert isinstance(fitted, FittedNetwork)
        edges, values = frequency_relevance(fitted, clips.clip_ids, sounds, job.context())
        rows.append(values)
        targets.append(clips.targets)
        groups += clips.groups
    every, true = np.concatenate(rows), np.concatenate(targets) > 0.5
    classes = {}
    for k, name in enumerate(job.plan.classes):
        mine = np.flatnonzero(true[:, k])
        if len(mine):
            classes[name] = _bands(every[mine, k], edges, [groups[row] for row in mine])
    return classes


def _bands(values: np.ndarray, edges: np.ndarray, groups: list[str]) -> dict[str, Any]:
    """The mean over clips [N, h] of each band, with its interval."""
    bands = []
    for band, of_band in enumerate(values.T):
        counts = np.stack([of_band, np.ones_like(of_band)], axis=1)
        found = bootstrap(counts, _mean, groups)
        bands.append({"from": float(edges[band]), "to": float(edges[band + 1]), **found._asdict()})
    return {"clips": len(values), "bands": bands}


def _mean(counts: np.ndarray) -> np.ndarray:
    """Counts [..., N, 2] (values, ones) -> their mean [...]."""
    sums = counts.sum(-2)
    mean: np.ndarray = sums[..., 0] / sums[..., 1]
    return mean
