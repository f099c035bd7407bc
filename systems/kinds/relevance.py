"""Which items of a gallery a query should find; the answer is a score of each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth, largest


def relevant_items(labels: Labels, clip_ids: Sequence[str], items: Sequence[str]) -> np.ndarray:
    """Whether an item is relevant to a query: [query, item] in {0, 1}."""
    column = {item: k for k, item in enumerate(items)}
    matrix = np.zeros((len(clip_ids), len(items)), np.float32)
    for row, clip_id in enumerate(clip_ids):
        matrix[row, [column[item] for item in labels.values[clip_id]]] = 1.0
    return matrix


def first_place(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """One over the rank of each query's first relevant item [N]; NaN of a query without any."""
    relevant = truth.values > 0.5
    best = np.where(relevant, scores, -np.inf).max(axis=1, initial=-np.inf)
    rank = 1 + (scores > best[:, None]).sum(axis=1)
    return np.where(relevant.any(axis=1), 1.0 / rank, np.nan)


def unheard(truth: Truth) -> tuple[Constant, ...]:
    """A random ranking, or the items by how often they are relevant to the training queries."""
    popular = Constant("what is relevant most often", truth.values.mean(axis=0))
    return Constant("a random ranking", None), popular


KIND = Kind(
    "relevance",
    answers=("ranking",),
    matrix=relevant_items,
    metrics=("mrr", "ranking_map"),
    closeness=first_place,
    words="ranking",
    constants=unheard,
    decide=largest,
)
