"""Fixed means of the members' scores: nothing, or hardly anything, is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from orchestrator.stacking.base import Learner, Members, Targets
from orchestrator.stacking.bounds import bent, best_thresholds
from orchestrator.stacking.pooling import SMALLEST, checked, given_weights, mean_of, normalised


@dataclass(frozen=True)
class Weights:
    """``weights``: of the members, in their order, as a paper gives them; none: equal ones."""

    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        checked(self.weights)


class FixedMean(Learner):
    """A mean that knows only whether the classes exclude each other, and given weights if any."""

    pointwise = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.w = np.zeros(0)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.exclusive = targets.kind == "class"
        given = getattr(self.settings, "weights", ())
        self.w = given_weights(given, members.scores.shape[1])

    def weights(self) -> dict[str, Any] | None:
        """The given weights; of equal ones nothing."""
        return {"members": self.w.tolist()} if getattr(self.settings, "weights", ()) else None

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive, "w": self.w.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.w = state["exclusive"], np.array(state["w"])


class ArithmeticMean(FixedMean):
    """``sum_m w_m p_m``, by default ``w_m = 1/M``; of a regression or a ranking of the values."""

    name = "mean"
    title = "arithmetic mean"
    standard = True
    source = (
        "gcnn_gcrnn_stacking; bird_dcnn_finetune; but_asc_fusion; bird_domain_tuning (weighted)"
    )
    labels = ("tags", "class", "events", "values", "relevance")
    Settings = Weights

    def predict(self, members: Members) -> np.ndarray:
        return mean_of(members.scores.swapaxes(0, 1), "arithmetic", self.exclusive, self.w)


class GeometricMean(FixedMean):
    """``prod_m p_m^(w_m)``, by default ``w_m = 1/M``; over exclusive classes renormalised.

    Of tags, each class against its absence: the sigmoid of the mean log odds, so that 0.5 decides.
    Given weights count as shares, which changes no order of classes.
    """

    name = "geometric"
    title = "geometric mean"
    standard = True
    source = (
        "vggish_finetune_attention; background_norm_pseudo_label; densenet_label_noise, Eq. 8 "
        "(weighted)"
    )
    Settings = Weights

    def predict(self, members: Members) -> np.ndarray:
        return mean_of(members.scores.swapaxes(0, 1), "geometric", self.exclusive, self.w)


@dataclass(frozen=True)
class Power(Weights):
    """``r``: 1 is the arithmetic mean, larger ones listen to the surest member."""

    r: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.05 <= self.r <= 50:
            raise ValueError("r lies in 0.05 .. 50")


class PowerMean(FixedMean):
    """``(sum_m w_m p_m^r)^(1/r)``, over classes that exclude each other renormalised.

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
        r = self.settings.r
        mean: np.ndarray = np.einsum("nmk,m->nk", p**r, self.w) ** (1 / r)
        return mean


@dataclass(frozen=True)
class Ranks(Weights):
    """``axis``: ranks of a clip among clips, class by class, or of a class within its clip."""

    axis: Literal["clips", "classes"] = "clips"


class RankMean(Learner):
    """``sum_m w_m rank_m``, ranks in [0, 1], ties by their mean rank.

    Among ``clips``, a rank is the share of the scores that its member gave the fitted rows which
    lie below (of equal ones half), class by class: so one clip can be fused alone. Among
    ``classes`` it is that of the class within the clip. The paper does not say which it takes.
    Tags have no natural bound on a rank: each class's is the one with the largest F1 on the fitted
    rows.
    """

    name = "rank_mean"
    title = "rank averaging"
    source = "convnet_1d_2d"
    labels = ("tags", "class", "events", "relevance")
    Settings = Ranks

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.w = np.zeros(0)
        self.sorted = np.zeros((0, 0, 0))
        self.thresholds: np.ndarray | None = None

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.w = given_weights(self.settings.weights, members.scores.shape[1])
        self.sorted = np.sort(members.scores, axis=0)
        self.thresholds = None
        if targets.kind in ("tags", "events"):
            self.thresholds = best_thresholds(self._ranks(members.scores), targets.values)

    def predict(self, members: Members) -> np.ndarray:
        ranks = self._ranks(members.scores)
        return ranks if self.thresholds is None else bent(ranks, self.thresholds)

    def _ranks(self, scores: np.ndarray) -> np.ndarray:
        if self.settings.axis == "classes":
            within = (rankdata(scores, axis=2) - 0.5) / scores.shape[2]
            mean: np.ndarray = np.einsum("nmk,m->nk", within, self.w)
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
            "sorted": self.sorted.tolist(),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.w, self.sorted = np.array(state["w"]), np.array(state["sorted"])
        found = state["thresholds"]
        self.thresholds = None if found is None else np.array(found)


LEARNERS: tuple[type[Learner], ...] = (ArithmeticMean, GeometricMean, PowerMean, RankMean)
