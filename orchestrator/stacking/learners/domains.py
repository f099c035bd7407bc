"""Each domain of clips has its own member: a device, a recording campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Event
from systems.errors import CannotFit


@dataclass(frozen=True)
class Domains:
    """``column`` of the clips that names their domain. ``values`` and ``places``: which member
    speaks for which value, as a paper gives it; else the best of each on the fitted rows.
    ``otherwise``: the place of the member for all other clips."""

    column: str = ""
    values: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    otherwise: int = 0

    def __post_init__(self) -> None:
        if len(self.values) != len(self.places):
            raise ValueError("each of the values has a member's place")
        if any(place < 0 for place in (*self.places, self.otherwise)):
            raise ValueError("places are 0 or more")


class DomainChoice(Learner):
    """A clip takes the scores, and the events, of the member for its domain."""

    name = "domain_choice"
    title = "a member for each domain"
    source = "bird_crnn (cv3x5_warblr_swap)"
    general = False
    Settings = Domains

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.places: dict[str, int] = {}

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Note who speaks for which domain.

        Raises:
            CannotFit: the clips have no such column, or there is no such member.
        """
        column, s = self.settings.column, self.settings
        if not members.about or not any(column in about for about in members.about):
            raise CannotFit(f"the clips have no column '{column}' that names their domain.")
        self.places = dict(zip(s.values, s.places, strict=True))
        if not s.values:
            domains = self._domains(members)
            for domain in sorted({one for one in domains if one is not None}):
                inside = np.array([one == domain for one in domains])
                ours, truth = members.scores[inside], targets.rows(inside)
                worth = [truth.worth(ours[:, m]) for m in range(ours.shape[1])]
                self.places[domain] = int(np.argmax(worth))
        beyond = [p for p in (*self.places.values(), s.otherwise) if p >= members.scores.shape[1]]
        if beyond:
            raise CannotFit(f"there is no member at place {beyond[0]}.")

    def _domains(self, members: Members) -> list[str | None]:
        about = members.about or ({},) * len(members.clip_ids)
        values = (one.get(self.settings.column) for one in about)
        return [None if value is None else str(value) for value in values]

    def _chosen(self, members: Members) -> list[int]:
        otherwise = self.settings.otherwise
        return [otherwise if domain is None else self.places.get(domain, otherwise)
                for domain in self._domains(members)]  # fmt: skip

    def predict(self, members: Members) -> np.ndarray:
        return members.scores[np.arange(len(members.scores)), self._chosen(members)]

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        """The chosen member's own; of one that tells of none the first's that does, of the tags
        that the chosen one holds for present."""
        if members.events is None:
            return None
        other = members.gated_events(members.with_events()[0], self.predict(members))
        own = [other if events is None else events for events in members.events]
        return tuple(own[place][clip] for clip, place in enumerate(self._chosen(members)))

    def state(self) -> dict[str, Any]:
        return {"places": self.places}

    def restore(self, state: dict[str, Any]) -> None:
        self.places = dict(state["places"])


LEARNERS: tuple[type[Learner], ...] = (DomainChoice,)
