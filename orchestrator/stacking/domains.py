"""Each domain of clips has its own member: a device, a recording campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.stacking.base import Learner, Members, Targets
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
            domains = np.array(self._domains(members))
            for domain in np.unique(domains):
                inside = domains == domain
                ours, truth = members.scores[inside], targets.rows(inside)
                worth = [truth.worth(ours[:, m]) for m in range(ours.shape[1])]
                self.places[str(domain)] = int(np.argmax(worth))
        beyond = [p for p in (*self.places.values(), s.otherwise) if p >= members.scores.shape[1]]
        if beyond:
            raise CannotFit(f"there is no member at place {beyond[0]}.")

    def _domains(self, members: Members) -> list[str]:
        about = members.about or ({},) * len(members.clip_ids)
        return [str(one.get(self.settings.column)) for one in about]

    def _chosen(self, members: Members) -> list[int]:
        return [self.places.get(d, self.settings.otherwise) for d in self._domains(members)]

    def predict(self, members: Members) -> np.ndarray:
        return members.scores[np.arange(len(members.scores)), self._chosen(members)]

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        if members.events is None:
            return None
        chosen = enumerate(self._chosen(members))
        return tuple(members.events[place][clip] for clip, place in chosen)

    def state(self) -> dict[str, Any]:
        return {"places": self.places}

    def restore(self, state: dict[str, Any]) -> None:
        self.places = dict(state["places"])


LEARNERS: tuple[type[Learner], ...] = (DomainChoice,)
