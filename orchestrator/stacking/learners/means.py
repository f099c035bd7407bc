"""Fixed means of the members' scores: nothing, or hardly anything, is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.postprocessing.pooling import SMALLEST, checked, given_weights, mean_of, normalised


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
        self.exclusive = targets.exclusive
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
    labels = ("tags", "class", "events", "values", "series", "relevance", "direction")
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
    source = (
        "vggish_finetune_attention; background_norm_pseudo_label; densenet_label_noise, Eq. 8 "
        "(weighted)"
    )
    Settings = Weights

    def predict(self, members: Members) -> np.ndarray:
        return mean_of(members.scores.swapaxes(0, 1), "geometric", self.exclusive, self.w)


@dataclass(frozen=True)
class Power(Weights):
    """``r``: 1 is the arithmetic mean, larger ones listen to the surest member.

    (Of tags 2 decides as 1 does: ``a > b`` there means that the mean is above 0.5.)
    """

    r: float = 3.0

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


LEARNERS: tuple[type[Learner], ...] = (ArithmeticMean, GeometricMean, PowerMean)
