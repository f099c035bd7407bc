"""How meta-learners meet their members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from systems.postprocessing.pooling import Mean


@dataclass(frozen=True)
class Manner:
    """How a meta-learner meets its members.

    ``by_fold``: one for each fold; ``mean``: how folds are combined; ``folds_predict``: whether the
    folds' models predict the test part. ``pool``: whether it fuses clips, or frames over which a
    clip is the mean or the vote. ``events_of``: the place of the member whose events its tags gate.
    ``parts``: of a fusion of fusions (:func:`part_of`).
    """

    by_fold: bool = False
    mean: Mean = "arithmetic"
    folds_predict: bool = False
    pool: Pool = "clips"
    events_of: int | None = None
    parts: tuple[Mapping[str, Any], ...] = ()


Pool = Literal["clips", "frame_mean", "frame_vote"]
