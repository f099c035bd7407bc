"""Clip decisions from fused frames: members are combined frame by frame, then over the clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.plan.stage import Pool
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.votes import votes
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.errors import CannotFit
from systems.excerpts import joined


class FramePooled(Around):
    """A pointwise learner over members' frames (chunks); clips by the frames' mean or vote.

    It is fitted on clip scores. Classes vote as windows do (:func:`systems.excerpts.joined`), tags
    above 0.5. Source: nnf_cnn_ensemble (average and majority vote over chunks).
    """

    kind = "frame_pooled"

    def __init__(self, inner: Learner, pool: Pool) -> None:
        super().__init__(inner)
        self.pool, self.exclusive = pool, False
        self.says(
            takes=tuple(dict.fromkeys((*inner.takes, "frame_scores"))),
            betters_one=inner.betters_one or "pooled frames",
        )

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Fit the inner learner on clips.

        Raises:
            CannotFit: it says nothing about frames, or the members do not.
        """
        if not self.pointwise or not members.all_have_frames():
            raise CannotFit(
                "votes over frames take members that all give frame scores, and a learner that "
                "fuses them."
            )
        self.exclusive = targets.exclusive
        super().fit(members, targets, seed)

    def predict(self, members: Members) -> np.ndarray:
        frames = self.inner.fused_frames(members)
        assert frames is not None
        if self.pool == "frame_mean":
            return np.stack([clip.mean(axis=0) for clip in frames])
        if self.exclusive:
            return np.stack([joined(clip, "vote") for clip in frames])
        return np.stack(
            [votes(clip[:, None], exclusive=False)[:, 0].mean(axis=0) for clip in frames]
        )

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> FramePooled:
        return cls(inner(state["inner"]), state["pool"])

    def state(self) -> dict[str, Any]:
        return {**super().state(), "pool": self.pool, "exclusive": self.exclusive}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.exclusive = state["exclusive"]
