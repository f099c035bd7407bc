"""Snapshot ensembles: one training, judged by several of its epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.stacking.base import Learner, Members, Targets
from orchestrator.stacking.votes import shares


@dataclass(frozen=True)
class Snapshots:
    """``count`` epochs of the training.

    ``choice``: ``even`` spreads them over its last two thirds (of 30 epochs: 10, 15, 20, 25, 30);
    ``best`` takes those with the best metric on the fitted rows.
    """

    count: int = 5
    choice: Literal["even", "best"] = "even"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count is at least 1")


class SnapshotEnsemble(Learner):
    """Epochs of the training that comes furthest; the other members are left out."""

    takes = ("epoch_scores",)

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.place, self.epochs = 0, tuple[int, ...]()

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        assert members.epochs is not None
        self.exclusive = targets.kind == "class"
        worth = [
            {epoch: targets.worth(scores) for epoch, scores in one.items()}
            for one in members.epochs
        ]
        self.place = int(np.argmax([max(by_epoch.values()) for by_epoch in worth]))
        by_epoch = worth[self.place]
        count = min(self.settings.count, len(by_epoch))
        if self.settings.choice == "best":
            chosen = sorted(by_epoch, key=lambda epoch: (-by_epoch[epoch], epoch))[:count]
        else:
            last = max(by_epoch)
            shares_of_last = np.linspace(1 / 3, 1, count) if count > 1 else np.ones(1)
            chosen = [max(1, round(share * last)) for share in shares_of_last]
        self.epochs = tuple(sorted(set(chosen)))

    def snapshots(self) -> dict[int, tuple[int, ...]]:
        return {self.place: self.epochs}

    def _scores(self, members: Members) -> np.ndarray:
        """Scores of the chosen epochs [N, E, K]; of one that is not there the nearest earlier."""
        assert members.epochs is not None
        there = members.epochs[self.place]
        found = [max((e for e in there if e <= epoch), default=min(there)) for epoch in self.epochs]
        return np.stack([there[epoch] for epoch in found], axis=1)

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive, "place": self.place, "epochs": list(self.epochs)}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.place = state["exclusive"], state["place"]
        self.epochs = tuple(state["epochs"])


class SnapshotMean(SnapshotEnsemble):
    """The mean of the epochs' scores."""

    name = "snapshot_mean"
    title = "mean of one training's snapshots"
    source = "bird_crnn (snapshot5)"
    Settings = Snapshots

    def predict(self, members: Members) -> np.ndarray:
        mean: np.ndarray = self._scores(members).mean(axis=1)
        return mean


class SnapshotVote(SnapshotEnsemble):
    """The majority vote of the epochs' decisions."""

    name = "snapshot_vote"
    title = "majority vote of one training's snapshots"
    source = "mask_panns_mixup (epochs 10, 15, 20, 25, 30)"
    Settings = Snapshots

    def predict(self, members: Members) -> np.ndarray:
        return shares(self._scores(members), self.exclusive)


LEARNERS: tuple[type[Learner], ...] = (SnapshotMean, SnapshotVote)
