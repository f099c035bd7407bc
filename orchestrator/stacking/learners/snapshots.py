"""Snapshot ensembles: trainings that are judged by several of their epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.members.seen import Members, Snapshots, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.votes import shares


@dataclass(frozen=True)
class Even:
    """``count`` epochs of a training.

    ``choice``: ``even`` spreads them over its last two thirds (of 30 epochs: 10, 15, 20, 25, 30);
    ``best`` takes those with the best metric on the fitted rows. ``of``: the training that comes
    furthest, or ``all`` members that have epochs, each with its own.
    """

    count: int = 5
    choice: Literal["even", "best"] = "even"
    of: Literal["best", "all"] = "best"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count is at least 1")


@dataclass(frozen=True)
class Best(Even):
    """The same with the best epochs by default."""

    choice: Literal["even", "best"] = "best"


def trained(epochs: Mapping[int, np.ndarray]) -> list[int]:
    """The epochs whose scores are not those of the one before: a training that stopped early is
    told with its last epoch's scores from then on."""
    order = sorted(epochs)
    return [
        epoch for before, epoch in zip([None, *order], order, strict=False)
        if before is None or not np.array_equal(epochs[before], epochs[epoch])
    ]  # fmt: skip


class SnapshotEnsemble(Learner):
    """Epochs of the training that comes furthest, or of all."""

    takes = ("epoch_scores",)
    betters_one = "several epochs"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.epochs: dict[int, tuple[int, ...]] = {}  # of members, by place

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        assert members.epochs is not None
        self.exclusive = targets.exclusive
        worth = {
            place: {epoch: targets.worth(one[epoch]) for epoch in trained(one)}
            for place, one in enumerate(members.epochs) if one is not None
        }  # fmt: skip
        chosen = list(worth)
        if self.settings.of == "best":
            chosen = [max(worth, key=lambda place: max(worth[place].values()))]
        self.epochs = {place: self._chosen(worth[place]) for place in chosen}

    def _chosen(self, by_epoch: dict[int, float]) -> tuple[int, ...]:
        """Epochs of one training, of which the metric after each is known."""
        count = min(self.settings.count, len(by_epoch))
        if self.settings.choice == "best":
            return tuple(sorted(sorted(by_epoch, key=lambda e: (-by_epoch[e], e))[:count]))
        last = max(by_epoch)
        shares_of_last = np.linspace(1 / 3, 1, count) if count > 1 else np.ones(1)
        return tuple(sorted({max(1, round(share * last)) for share in shares_of_last}))

    def snapshots(self) -> Snapshots:
        return {(place, None): epochs for place, epochs in self.epochs.items()}

    def _scores(self, members: Members) -> np.ndarray:
        """Scores of the chosen epochs [N, E, K]; of one that is not there the nearest earlier."""
        assert members.epochs is not None
        found = []
        for place, epochs in self.epochs.items():
            there = members.epochs[place]
            assert there is not None
            known = [max((e for e in there if e <= epoch), default=min(there)) for epoch in epochs]
            found += [there[epoch] for epoch in known]
        return np.stack(found, axis=1)

    def state(self) -> dict[str, Any]:
        by_place = {str(place): list(epochs) for place, epochs in self.epochs.items()}
        return {"exclusive": self.exclusive, "epochs": by_place}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive = state["exclusive"]
        self.epochs = {int(place): tuple(epochs) for place, epochs in state["epochs"].items()}


class SnapshotMean(SnapshotEnsemble):
    """The mean of the epochs' scores."""

    name = "snapshot_mean"
    title = "mean of snapshots"
    source = "bird_crnn (snapshot5: the five best epochs)"
    Settings = Best

    def predict(self, members: Members) -> np.ndarray:
        mean: np.ndarray = self._scores(members).mean(axis=1)
        return mean


class SnapshotVote(SnapshotEnsemble):
    """The majority vote of the epochs' decisions."""

    name = "snapshot_vote"
    title = "majority vote of snapshots"
    source = "mask_panns_mixup (epochs 10, 15, 20, 25, 30)"
    Settings = Even

    def predict(self, members: Members) -> np.ndarray:
        return shares(self._scores(members), self.exclusive)


LEARNERS: tuple[type[Learner], ...] = (SnapshotMean, SnapshotVote)
