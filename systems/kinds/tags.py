"""Tags: any number of classes a clip, each there where its score is above 0.5."""

from __future__ import annotations

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth, above_threshold


def f1_by_clip(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """F1 of each clip over all classes [N]; NaN where no tag is true and none predicted."""
    there, found = truth.values > 0.5, above_threshold(scores)
    both, either = (there & found).sum(axis=1), there.sum(axis=1) + found.sum(axis=1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), np.nan)


def always(truth: Truth) -> tuple[Constant, ...]:
    """Yes to all classes, to the most frequent ones of the training clips, or to none."""
    share = truth.values.mean(axis=0)
    rank = np.empty(len(share), int)
    rank[np.argsort(-share, kind="stable")] = np.arange(len(share))
    some = (
        Constant(f"always the {count} most frequent", (rank < count).astype(float))
        for count in range(1, len(share))
    )
    every, none = np.ones(len(share)), np.zeros(len(share))
    return (
        Constant("always yes", every), *some, Constant("prevalence", share),
        Constant("always no", none),
    )  # fmt: skip


KIND = Kind(
    "tags",
    answers=("clip_scores",),
    matrix=Labels.tag_matrix,
    metrics=("clip_macro_f1",),
    closeness=f1_by_clip,
    words="tags",
    constants=always,
    decide=above_threshold,
)
