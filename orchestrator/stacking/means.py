"""Fixed means of the members' scores: nothing, or hardly anything, is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from orchestrator.stacking.base import Learner, Members, Targets
from orchestrator.stacking.bounds import bent, best_thresholds

SMALLEST = 1e-7  # of a probability whose logarithm is taken


class FixedMean(Learner):
    """A mean that knows only whether the classes exclude each other."""

    pointwise = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.exclusive = targets.kind == "class"

    def weights(self) -> dict[str, Any] | None:
        return None

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive = state["exclusive"]


class ArithmeticMean(FixedMean):
    """``mean_m p_m``; of a regression or a ranking the mean of the values."""

    name = "mean"
    title = "arithmetic mean"
    standard = True
    source = "gcnn_gcrnn_stacking; bird_dcnn_finetune; but_asc_fusion"
    labels = ("tags", "class", "events", "values", "relevance")

    def predict(self, members: Members) -> np.ndarray:
        mean: np.ndarray = members.scores.mean(axis=1)
        return mean


class GeometricMean(FixedMean):
    """``prod_m p_m^(1/M)``, over classes that exclude each other renormalised.

    Of tags, each class against its absence: the sigmoid of the mean log odds, so that 0.5 decides.
    """

    name = "geometric"
    title = "geometric mean"
    standard = True
    source = "vggish_finetune_attention; background_norm_pseudo_label"

    def predict(self, members: Members) -> np.ndarray:
        p = np.clip(members.scores, SMALLEST, 1 - SMALLEST)
        if self.exclusive:
            return normalised(np.exp(np.log(p).mean(axis=1)))
        odds: np.ndarray = expit(logit(p).mean(axis=1))
        return odds


@dataclass(frozen=True)
class Power:
    """``r``: 1 is the arithmetic mean, larger ones listen to the surest member."""

    r: float = 2.0

    def __post_init__(self) -> None:
        if not 0.05 <= self.r <= 50:
            raise ValueError("r lies in 0.05 .. 50")


class PowerMean(FixedMean):
    """``(mean_m p_m^r)^(1/r)``, over classes that exclude each other renormalised.

    Of tags, each class against its absence: ``a / (a + b)`` with a and b the power means of p and
    of 1 - p, so that 0.5 decides.
    """

    name = "power"
    title = "power mean"
    source = "Hölder; the family that holds the papers' means"
    Settings = Power

    def predict(self, members: Members) -> np.ndarray:
        p = np.clip(members.scores, SMALLEST, 1 - SMALLEST)
        there = self._mean(p)
        if self.exclusive:
            return normalised(there)
        return there / (there + self._mean(1 - p))

    def _mean(self, p: np.ndarray) -> np.ndarray:
        mean: np.ndarray = (p**self.settings.r).mean(axis=1) ** (1 / self.settings.r)
        return mean


class RankMean(Learner):
    """The mean of ranks: where a score lies among the scores that its member gave the fitted rows.

    A rank in [0, 1] is the share of those scores below it (of equal ones half). So that one clip
    can be fused alone, ranks are taken among the fitted rows, class by class. Tags have no natural
    bound on a rank: each class's is the one with the largest F1 on the fitted rows.
    """

    name = "rank_mean"
    title = "rank averaging"
    source = "convnet_1d_2d"
    labels = ("tags", "class", "events", "relevance")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.sorted = np.zeros((0, 0, 0))
        self.thresholds: np.ndarray | None = None

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.sorted = np.sort(members.scores, axis=0)
        self.thresholds = None
        if targets.kind in ("tags", "events"):
            self.thresholds = best_thresholds(self._ranks(members.scores), targets.values)

    def predict(self, members: Members) -> np.ndarray:
        ranks = self._ranks(members.scores)
        return ranks if self.thresholds is None else bent(ranks, self.thresholds)

    def _ranks(self, scores: np.ndarray) -> np.ndarray:
        rows = len(self.sorted)
        out = np.zeros((len(scores), scores.shape[2]))
        for m in range(scores.shape[1]):
            for k in range(scores.shape[2]):
                known, asked = self.sorted[:, m, k], scores[:, m, k]
                below = np.searchsorted(known, asked, "left")
                out[:, k] += (below + np.searchsorted(known, asked, "right")) / (2 * rows)
        return out / scores.shape[1]

    def state(self) -> dict[str, Any]:
        return {
            "sorted": self.sorted.tolist(),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.sorted = np.array(state["sorted"])
        found = state["thresholds"]
        self.thresholds = None if found is None else np.array(found)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Scores [N, K] that sum to 1 over the classes."""
    return scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)


LEARNERS: tuple[type[Learner], ...] = (ArithmeticMean, GeometricMean, PowerMean, RankMean)
