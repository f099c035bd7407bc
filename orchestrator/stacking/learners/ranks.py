"""Means of ranks: nothing of a score counts but its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.bounds import bent, best_thresholds
from orchestrator.stacking.learners.means import Weights
from systems.errors import CannotFit
from systems.kinds import kind
from systems.postprocessing.pooling import checked, given_weights


def ranks_of_classes(scores: np.ndarray) -> np.ndarray:
    """Where each class lies within its clip [..., K], in (0, 1); ties share their mean rank."""
    within: np.ndarray = (rankdata(scores, axis=-1) - 0.5) / scores.shape[-1]
    return within


@dataclass(frozen=True)
class Ranks(Weights):
    """``axis``: ranks of a clip among clips, class by class, or of a class within its clip."""

    axis: Literal["clips", "classes"] = "clips"


class RankMean(Learner):
    """``sum_m w_m rank_m``, ranks in [0, 1], ties by their mean rank.

    Among ``clips``, a rank is the share of the scores that its member gave the fitted rows which
    lie below (of equal ones half), class by class: so one clip can be fused alone. Among
    ``classes`` it is that of the class within the clip, as always of items that a query ranks. The
    paper does not say which it takes.
    Tags have no natural bound on a rank: each class's is the one with the largest F1 on the fitted
    rows.
    """

    name = "rank_mean"
    title = "rank averaging"
    source = "convnet_1d_2d"
    labels = ("tags", "class", "events", "relevance", "direction")
    betters_one = "ranks"
    Settings = Ranks

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.w = np.zeros(0)
        self.within = self.settings.axis == "classes"
        self.sorted = np.zeros((0, 0, 0))
        self.thresholds: np.ndarray | None = None

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.w = given_weights(self.settings.weights, members.scores.shape[1])
        self.within = self.settings.axis == "classes" or kind(targets.kind).ranks
        self.sorted = np.sort(members.scores, axis=0)
        self.thresholds = None
        if targets.says_tags and not targets.exclusive:
            self.thresholds = best_thresholds(self._ranks(members.scores), targets.values)

    def predict(self, members: Members) -> np.ndarray:
        ranks = self._ranks(members.scores)
        return ranks if self.thresholds is None else bent(ranks, self.thresholds)

    def _ranks(self, scores: np.ndarray) -> np.ndarray:
        if self.within:
            mean: np.ndarray = np.einsum("nmk,m->nk", ranks_of_classes(scores), self.w)
            return mean
        rows = len(self.sorted)
        out = np.zeros((len(scores), scores.shape[2]))
        for m in range(scores.shape[1]):
            for k in range(scores.shape[2]):
                known, asked = self.sorted[:, m, k], scores[:, m, k]
                below = np.searchsorted(known, asked, "left")
                rank = (below + np.searchsorted(known, asked, "right")) / (2 * rows)
                out[:, k] += self.w[m] * rank
        return out

    def weights(self) -> dict[str, Any] | None:
        """The given weights; of equal ones nothing."""
        return {"members": self.w.tolist()} if self.settings.weights else None

    def state(self) -> dict[str, Any]:
        return {
            "w": self.w.tolist(),
            "within": self.within,
            "sorted": self.sorted.tolist(),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.w, self.sorted = np.array(state["w"]), np.array(state["sorted"])
        self.within = state["within"]
        found = state["thresholds"]
        self.thresholds = None if found is None else np.array(found)


@dataclass(frozen=True)
class FoldModels:
    """``counts``: of each member, how many of its folds' models count; ``weights``: of all these, a
    member after another, the best fold first; none: equal ones."""

    counts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        checked(self.weights)
        if any(count < 1 for count in self.counts):
            raise ValueError("counts are at least 1")
        if self.weights and len(self.weights) != sum(self.counts):
            raise ValueError("there is a weight for each fold's model that counts")


class BestFoldsRanks(Learner):
    """The weighted mean of class ranks over the models of each member's best folds.

    A fold's worth is the metric of the rows that it held out. Where no folds predict, a member's
    rank counts with the sum of its folds' weights.
    """

    name = "rank_best_folds"
    title = "rank averaging of the best folds' models"
    source = "convnet_1d_2d (submission 2: 5 and 3 folds, weights 3, 3, 2, 2, 2 and 1, 1, 1)"
    labels = ("class",)
    general = False
    uses_folds = True
    Settings = FoldModels

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.w = np.zeros((0, 0))  # [M, F] of each fold's model

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        # Cross-fitting may leave folds out: they count then as the worst.
        folds = targets.fold_count or int(targets.folds.max()) + 1
        count = members.scores.shape[1]
        counts = self.settings.counts or (folds,) * count
        if len(counts) != count or max(counts) > folds:
            raise CannotFit(f"counts {counts} do not fit {count} members of {folds} folds.")
        weights = iter(self.settings.weights or (1.0,) * sum(counts))
        self.w = np.zeros((count, folds))
        for m in range(count):
            worth = [self._worth(members, targets, m, fold) for fold in range(folds)]
            for fold in sorted(range(folds), key=lambda f: -worth[f])[: counts[m]]:
                self.w[m, fold] = next(weights)
        self.w /= self.w.sum()

    @staticmethod
    def _worth(members: Members, targets: Targets, m: int, fold: int) -> float:
        inside = targets.folds == fold
        if not inside.any():
            return -np.inf
        return targets.rows(inside).worth(members.scores[inside, m])

    def predict(self, members: Members) -> np.ndarray:
        if members.of_folds is None:
            by_member = ranks_of_classes(members.scores)
            fused: np.ndarray = np.einsum("nmk,m->nk", by_member, self.w.sum(axis=1))
            return fused
        each = [
            np.einsum("nmk,m->nk", ranks_of_classes(one.scores), w)
            for w, one in zip(self.w.T, members.of_folds, strict=True)
        ]
        total: np.ndarray = np.sum(each, axis=0)
        return total

    def weights(self) -> dict[str, Any]:
        """Each member's share over its folds."""
        return {"members": self.w.sum(axis=1).tolist()}

    def state(self) -> dict[str, Any]:
        return {"w": self.w.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.w = np.array(state["w"])


LEARNERS: tuple[type[Learner], ...] = (RankMean, BestFoldsRanks)
