"""Fused tags as a gate on one member's events."""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.data.dataset import Event
from systems.errors import CannotFit


class Gated(Around):
    """A learner decides the tags; events are one member's own, of the tags that are there.

    Source: multiscale_crnn (the vote of three taggers masks the frames of one).
    """

    kind = "gated"

    def __init__(self, inner: Learner, events_of: int) -> None:
        super().__init__(inner)
        self.events_of = events_of

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Fit the learner of the tags.

        Raises:
            CannotFit: the member says nothing about time.
        """
        if self.events_of not in members.with_events():
            who = members.names[self.events_of]
            raise CannotFit(f"it keeps the events of {who}, which tells of no time.")
        super().fit(members, targets, seed)

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        """The member's events of the classes that the fused tags hold for present."""
        return members.gated_events(self.events_of, self.predict(members))

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        """None: events are a member's own."""
        return None

    def sees(self, members: Members) -> Members:
        return members.only([self.events_of])

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> Gated:
        return cls(inner(state["inner"]), state["events_of"])

    def state(self) -> dict[str, Any]:
        return {**super().state(), "events_of": self.events_of}
