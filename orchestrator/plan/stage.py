"""Stage two: what is asked for, and how meta-learners meet their members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from systems.data.protocol import Final as Final
from systems.postprocessing.pooling import Mean

FINALS: tuple[Final, ...] = ("refit", "fold_mean", "fold_geometric")
FittedOn = Literal["out_of_fold", "validation", "test"]
Pool = Literal["clips", "frame_mean", "frame_vote"]


@dataclass(frozen=True)
class Manner:
    """How a meta-learner meets its members.

    ``by_fold``: one for each fold; ``mean``: how folds are combined; ``folds_predict``: whether the
    folds' models predict the test part. ``pool``: whether it fuses clips, or frames over which a
    clip is the mean or the vote. ``events_of``: the place of the member whose events its tags gate.
    ``parts``: of a fusion of fusions.
    """

    by_fold: bool = False
    mean: Mean = "arithmetic"
    folds_predict: bool = False
    pool: Pool = "clips"
    events_of: int | None = None
    parts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class StageSettings:
    """What stage two of a run is asked for.

    Args:
        learners: names of the meta-learners.
        top_k: how many of the best trials are members.
        trials: of the search of each meta-learner's settings; 0 for none.
        final: what predicts the test part: refits, or the mean of the folds' models.
        by_fold: whether each fold has a meta-learner of its own.
        pool: what meta-learners fuse.
        events_of: the place of the member whose events the fused tags gate.
        row_weights: column of the clips -> value -> weight of its rows.
        parts: of a fusion of fusions: name, places, learner, settings and manner of each.
        settings: learner -> the values that a paper gives.
        fitted_on: the rows that fit meta-learners: those that no member saw, or as a paper did.
    """

    learners: tuple[str, ...] = ()
    top_k: int = 3
    trials: int = 0
    final: Final = "refit"
    by_fold: bool = False
    pool: Pool = "clips"
    events_of: int | None = None
    row_weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parts: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fitted_on: FittedOn = "out_of_fold"

    @property
    def folds_predict(self) -> bool:
        """Whether members predict the test part by the mean of their folds' models."""
        return self.final != "refit"

    @property
    def mean_of_folds(self) -> Mean:
        """How folds' models are averaged."""
        return "geometric" if self.final == "fold_geometric" else "arithmetic"

    @property
    def manner(self) -> Manner:
        """How meta-learners meet the members."""
        return Manner(
            self.by_fold, self.mean_of_folds, self.folds_predict, self.pool, self.events_of,
            self.parts,
        )  # fmt: skip
