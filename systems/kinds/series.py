"""Numbers at each step of a recording, such as a belt's signal beside speech.

Rows are steps: truth and answer are [ΣT, D], clip after clip, and the truth has each clip's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from systems.data.dataset import Labels
from systems.errors import UserError
from systems.kinds.kind import Kind, Truth
from systems.kinds.values import mean


def steps(labels: Labels, clip_ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The values [ΣT, D] at all steps of clips, D outputs."""
    rows = [np.asarray(labels.values[clip_id], float) for clip_id in clip_ids]
    return np.concatenate(rows) if rows else np.zeros((0, len(classes)))


def joined(truth: Truth, said: Any) -> np.ndarray:
    """What was said of the clips, N arrays [T, D] or [ΣT, D], as [ΣT, D].

    Raises:
        UserError: a clip is answered at other steps than it is labelled at.
    """
    whole = isinstance(said, np.ndarray)
    found = [len(said)] if whole else [len(one) for one in said]
    expected = [sum(_lengths(truth))] if whole else list(_lengths(truth))
    if found != expected:
        raise UserError(
            f"a series is answered at {sum(found)} steps instead of {sum(expected)}: one value is "
            "needed at each labelled step of each recording."
        )
    rows: np.ndarray = said if whole else np.concatenate(said)
    return rows


def by_clip(truth: Truth, rows: np.ndarray) -> list[np.ndarray]:
    """Rows [ΣT, ...] as one array [T, ...] a clip."""
    return by_lengths(rows, _lengths(truth))


def by_lengths(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Rows [ΣT, ...] as one array [T, ...] a clip, of T of each clip."""
    return np.split(rows, np.cumsum(lengths))[:-1]


def _lengths(truth: Truth) -> tuple[int, ...]:
    if truth.lengths is None:
        raise ValueError("a series needs the lengths of its clips")
    return truth.lengths


def likeness(truth: Truth, said: Any) -> np.ndarray:
    """Pearson's correlation within each clip [N], mean over outputs; 0 of a constant."""
    true, found = by_clip(truth, truth.values), by_clip(truth, joined(truth, said))
    return np.array([
        np.mean([_correlation(t[:, d], v[:, d]) for d in range(t.shape[1])])
        for t, v in zip(true, found, strict=True)
    ])  # fmt: skip


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


KIND = Kind(
    "series",
    answers=("frame_values",),
    matrix=steps,
    metrics=("pcc", "mean_pcc", "ccc", "rmse"),
    closeness=likeness,
    words="course",
    constants=mean,
    ragged=True,
)
