"""Numbers, one or several a clip, as a regression gives them: nothing is decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth


def value_matrix(labels: Labels, clip_ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The values [N, D] of clips, D outputs."""
    rows = [np.atleast_1d(np.asarray(labels.values[clip_id], float)) for clip_id in clip_ids]
    return np.stack(rows) if rows else np.zeros((0, len(classes)))


def nearness(truth: Truth, values: np.ndarray) -> np.ndarray:
    """The mean absolute error of each clip [N], negative."""
    near: np.ndarray = -np.abs(truth.values - values).mean(axis=1)
    return near


def mean(truth: Truth) -> tuple[Constant, ...]:
    """The mean of each output over the training clips (of a series over their steps)."""
    return (Constant("the mean of what trained", truth.values.mean(axis=0)),)


KIND = Kind(
    "values",
    answers=("clip_values",),
    matrix=value_matrix,
    metrics=("pcc", "ccc", "rmse"),
    closeness=nearness,
    words="values",
    constants=mean,
)
