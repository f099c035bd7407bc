"""A meta-learner over some of the members only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Snapshots, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.data.dataset import Event


class OverChosen(Around):
    """A learner that gets some of the members, by place; it is told and shown as over all."""

    kind = "over"

    def __init__(self, inner: Learner, chosen: Sequence[int], count: int) -> None:
        super().__init__(inner)
        self.chosen, self.count = tuple(chosen), count

    def sees(self, members: Members) -> Members:
        return self.inner.sees(members.only(self.chosen))

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.inner.fit(members.only(self.chosen), targets, seed)

    def predict(self, members: Members) -> np.ndarray:
        return self.inner.predict(members.only(self.chosen))

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        return self.inner.events(members.only(self.chosen))

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        return self.inner.fused_frames(members.only(self.chosen))

    def snapshots(self) -> Snapshots:
        return {
            (self.chosen[place], fold): epochs
            for (place, fold), epochs in self.inner.snapshots().items()
        }

    def weights(self) -> dict[str, Any] | None:
        """Those of all members: 0 of one that is left out."""
        weights = self.inner.weights()
        if weights is None:
            return None
        whole: dict[str, Any] = {"members": self._of_all(weights["members"])}
        if "classes" in weights:
            whole["classes"] = [self._of_all(row) for row in weights["classes"]]
        return whole

    def _of_all(self, weights: Sequence[float]) -> list[float]:
        each = dict(zip(self.chosen, weights, strict=True))
        return [each.get(m, 0.0) for m in range(self.count)]

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> OverChosen:
        return cls(inner(state["inner"]), state["over"], state["count"])

    def state(self) -> dict[str, Any]:
        return {**super().state(), "over": list(self.chosen), "count": self.count}

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "members.best": len(self.chosen)}
