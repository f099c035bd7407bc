"""Votes on hard decisions: each member says yes or no to a tag, or names a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.means import FixedMean, Weights
from systems.kinds import above_threshold, largest

Ties = Literal["score", "first"]
TIE = 1e-6  # of the mean score beside a share of votes: it breaks ties and outvotes nobody


def votes(scores: np.ndarray, exclusive: bool) -> np.ndarray:
    """The members' decisions [N, M, K] as their kind decides: tags, or one class."""
    decide = largest if exclusive else above_threshold
    return decide(scores).astype(float)


def shares(
    scores: np.ndarray, exclusive: bool, weights: np.ndarray | None = None, ties: Ties = "score"
) -> np.ndarray:
    """The share of votes [N, K].

    Args:
        scores: [N, M, K].
        exclusive: whether a vote names one class; else it says yes or no to each.
        weights: [M] votes that each member has, as shares; ``None`` for one each.
        ties: of classes: by the larger mean score, or by the first member that votes for one of
            them.
    """
    m = scores.shape[1]
    w = np.full(m, 1 / m) if weights is None else weights
    cast = votes(scores, exclusive)
    share: np.ndarray = np.einsum("nmk,m->nk", cast, w)
    if not exclusive:
        return share
    if ties == "score":
        return share + TIE * (scores.mean(axis=1) - share)
    earliest = (cast * np.arange(m, 0, -1)[:, None]).max(axis=1) / m
    return share + TIE * (earliest - share)


@dataclass(frozen=True)
class Ballot(Weights):
    """``weights``: how many votes each member has; ``ties``: what decides between classes."""

    ties: Ties = "score"


class MajorityVote(FixedMean):
    """What most votes say; a tag that only half of them see is not there."""

    name = "vote"
    title = "majority vote"
    source = (
        "mask_panns_mixup; multiscale_crnn; feature_analysis_ensemble; deepsaga_evolution (higher "
        "ranks have more votes)"
    )
    Settings = Ballot

    def predict(self, members: Members) -> np.ndarray:
        return shares(members.scores, self.exclusive, self.w, self.settings.ties)


@dataclass(frozen=True)
class Quorum:
    """``k``: votes that a tag needs."""

    k: int = 2

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k is at least 1")


class KOfN(FixedMean):
    """A tag is there where at least ``k`` members say so (``k`` members at most are asked for)."""

    name = "k_of_n"
    title = "k-of-n vote"
    source = "multiscale_crnn (2 of 3)"
    labels = ("tags", "events")
    Settings = Quorum

    def predict(self, members: Members) -> np.ndarray:
        count = votes(members.scores, exclusive=False).sum(axis=1)
        n = members.scores.shape[1]
        needed = min(self.settings.k, n)
        above = 0.5 + 0.5 * (count - needed + 1) / (n - needed + 1)
        return np.where(count >= needed, above, 0.5 * count / needed)


class ChosenVote(Learner):
    """The majority vote of the members that vote best together.

    Those that are better than 0.5 by the run's metric (the paper: accuracy) begin; then the removal
    of a member, or its swap for one outside, that raises the vote's metric most is taken until none
    does.
    """

    name = "vote_chosen"
    title = "majority vote of chosen members"
    source = "feature_analysis_ensemble (removals and swaps)"
    pointwise = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.chosen: tuple[int, ...] = ()
        self.count = 0

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.exclusive, self.count = targets.exclusive, members.scores.shape[1]
        alone = [self._worth((m,), members, targets) for m in range(self.count)]
        good = tuple(m for m, worth in enumerate(alone) if worth > 0.5)
        chosen = good or (int(np.argmax(alone)),)
        best = self._worth(chosen, members, targets)
        while True:
            moves = {move: self._worth(move, members, targets) for move in self._moves(chosen)}
            better = max(moves, key=lambda move: moves[move], default=chosen)
            if not moves or moves[better] <= best:
                break
            chosen, best = better, moves[better]
        self.chosen = chosen

    def _moves(self, chosen: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Every removal, then every swap."""
        rest = [[m for m in chosen if m != gone] for gone in chosen]
        outside = [m for m in range(self.count) if m not in chosen]
        removals = [tuple(left) for left in rest if left]
        return removals + [tuple(sorted([*left, new])) for left in rest for new in outside]

    def _worth(self, chosen: tuple[int, ...], members: Members, targets: Targets) -> float:
        return targets.worth(shares(members.scores[:, list(chosen)], self.exclusive))

    def predict(self, members: Members) -> np.ndarray:
        return shares(members.scores[:, list(self.chosen)], self.exclusive)

    def weights(self) -> dict[str, Any]:
        """Equal among the chosen."""
        each = 1 / len(self.chosen)
        return {"members": [each if m in self.chosen else 0.0 for m in range(self.count)]}

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive, "chosen": list(self.chosen), "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.count = state["exclusive"], state["count"]
        self.chosen = tuple(state["chosen"])


LEARNERS: tuple[type[Learner], ...] = (MajorityVote, KOfN, ChosenVote)
