"""One class a clip: that with the largest score."""

from __future__ import annotations

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Kind, Truth, largest


def score_of_truth(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """The score of each clip's true class [N]."""
    of_truth: np.ndarray = scores[np.arange(len(scores)), truth.values.argmax(axis=1)]
    return of_truth


KIND = Kind(
    "class",
    answers=("clip_scores",),
    matrix=Labels.tag_matrix,
    metrics=("accuracy", "uar", "map_at_3", "clip_macro_f1"),
    closeness=score_of_truth,
    words="class",
    contains=("tags",),
    decide=largest,
    exclusive=True,
)
