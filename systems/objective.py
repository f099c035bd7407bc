"""What a search ranks trials by, where a paper has more than a metric for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """A trial's own objective.

    ``words``: the formula, for a reader. ``score``: (metric, epochs trained, epochs allowed) -> a
    number that is better the way the metric is; epochs are a mean over the folds that are searched.
    """

    words: str
    score: Callable[[float, float, int], float]
