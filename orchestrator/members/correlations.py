"""How what a member answers goes with all that listeners (or others) said of the clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr

from orchestrator.members.rows import OutOfFold
from systems.data.dataset import Dataset

FEWEST = 3  # clips of a correlation with a p


def correlations(rows: OutOfFold, place: int, judged: np.ndarray) -> list[dict[str, Any]]:
    """Pearson's r of each of a member's values with each value that is known of the clips: the
    outputs that it answers, and those that the data set has beside them.

    ``output``, ``value``, ``n``, ``r`` and ``p`` (two-sided, of no correlation) of each pair;
    nothing where labels are no values, and nothing of what does not vary.
    """
    if rows.targets.kind != "values" or rows.trivial is None or len(judged) < FEWEST:
        return []
    ids = [rows.clip_ids[row] for row in judged]
    outputs = rows.trivial.dataset.classes
    known = dict(zip(outputs, rows.targets.values[judged].T, strict=True))
    known |= _beside(rows.trivial.dataset, ids)
    found = []
    for output, said in zip(outputs, rows.scores[judged, place].T, strict=True):
        for value, true in known.items():
            if np.ptp(said) > 0 and np.ptp(true) > 0:
                r = pearsonr(said, true)
                about = {"output": output, "value": value, "n": len(ids)}
                found.append({**about, "r": float(r.statistic), "p": float(r.pvalue)})
    return found


def _beside(dataset: Dataset, clip_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns [N] beside the labels that are numbers of all clips."""
    of_clip = {i: of for labels in dataset.labels.values() for i, of in labels.columns.items()}
    names = dict.fromkeys(name for i in clip_ids for name in of_clip.get(i, {}))
    found = {}
    for name in names:
        values = np.array([_number(of_clip.get(i, {}).get(name, "")) for i in clip_ids])
        if np.isfinite(values).all():
            found[name] = values
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
