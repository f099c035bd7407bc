"""Tags: any number of classes a clip, each there where its score is above 0.5."""

from __future__ import annotations

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Kind, Truth, above_threshold


def f1_by_clip(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """F1 of each clip over all classes [N]; NaN where no tag is true and none predicted."""
    there, found = truth.values > 0.5, above_threshold(scores)
    both, either = (there & found).sum(axis=1), there.sum(axis=1) + found.sum(axis=1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), np.nan)


KIND = Kind(
    "tags",
    answers=("clip_scores",),
    matrix=Labels.tag_matrix,
    metrics=("clip_macro_f1",),
    closeness=f1_by_clip,
    words="tags",
    decide=above_threshold,
)
