"""One class a clip: that with the largest score."""

from __future__ import annotations

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth, largest


def score_of_truth(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """The score of each clip's true class [N]."""
    of_truth: np.ndarray = scores[np.arange(len(scores)), truth.values.argmax(axis=1)]
    return of_truth


def most_frequent(truth: Truth) -> tuple[Constant, ...]:
    """The classes by their share of the training clips."""
    return (Constant("the most frequent class", truth.values.mean(axis=0)),)


KIND = Kind(
    "class",
    answers=("clip_scores",),
    matrix=Labels.tag_matrix,
    metrics=("accuracy", "uar", "map_at_3", "clip_macro_f1"),
    closeness=score_of_truth,
    words="class",
    constants=most_frequent,
    contains=("tags",),
    decide=largest,
    exclusive=True,
)
