"""Multiclass calibration and fusion, as the FoCal toolbox does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner

SMALLEST = 1e-10  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class Calibration:
    """``log_scores``: fuse the logarithms of members that give probabilities; of a member with a
    negative score (cosines, say) the scores as such. Else all members' scores as such.

    ``balanced``: every class counts the same, however many rows it has. ``pull``: of an L2 penalty
    on the factors around 1 / M.
    """

    log_scores: bool = True
    balanced: bool = True
    pull: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.pull < np.inf:
            raise ValueError("pull is at least 0")


class MulticlassCalibration(Learner):
    """``softmax(sum_m a_m s_m + b)``: a factor for each member, a bias for each class.

    The mean cross-entropy is minimised by L-BFGS; it is convex. So few parameters (M + K) leave
    little to over-fit on few rows. (The paper names the toolbox; its model is this one.)
    """

    name = "multiclass_calibration"
    title = "multiclass calibration and fusion"
    standard = True
    source = "but_asc_fusion (FoCal Multiclass)"
    labels = ("class",)
    pointwise = True
    betters_one = "calibration"
    turns = True
    Settings = Calibration

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.factors = np.zeros(0)
        self.biases = np.zeros(0)
        self.logged = np.zeros(0, bool)  # [M] members that give probabilities

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from scipy.optimize import minimize

        linear = np.array([(scores < 0).any() for scores in members.scores.swapaxes(0, 1)])
        self.logged = ~linear if self.settings.log_scores else np.zeros(len(linear), bool)
        inputs, truth = self._inputs(members), targets.values
        m, k = inputs.shape[1:]
        row = targets.weights.astype(float)
        if self.settings.balanced:
            share = np.maximum((row[:, None] * truth).sum(axis=0), 1e-12)
            row = row / share[truth.argmax(axis=1)]
        row = row / row.sum()

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            values = np.einsum("nmk,m->nk", inputs, x[:m]) + x[m:]
            off = row[:, None] * (softmax(values, axis=1) - truth)
            gradient = [np.einsum("nk,nmk->m", off, inputs), off.sum(axis=0)]
            worth = -(row[:, None] * truth * log_softmax(values, axis=1)).sum()
            pulled = pull * (x - start)
            return float(worth + 0.5 * pulled @ (x - start)), np.concatenate(gradient) + pulled

        start = np.concatenate([np.full(m, 1 / m), np.zeros(k)])
        # A faint pull on the biases too: that of a class without rows would fall for ever.
        pull = np.concatenate([np.full(m, self.settings.pull), np.full(k, 1e-6)])
        found = minimize(loss, start, jac=True, method="L-BFGS-B",
                         options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-8})  # fmt: skip
        self.factors, self.biases = found.x[:m], found.x[m:]

    def _inputs(self, members: Members) -> np.ndarray:
        logs = np.log(np.clip(members.scores, SMALLEST, None))
        return np.where(self.logged[:, None], logs, members.scores)

    def predict(self, members: Members) -> np.ndarray:
        values = np.einsum("nmk,m->nk", self._inputs(members), self.factors) + self.biases
        probabilities: np.ndarray = softmax(values, axis=1)
        return probabilities

    def weights(self) -> dict[str, Any]:
        """The factor of each member."""
        return {"members": self.factors.tolist()}

    def state(self) -> dict[str, Any]:
        return {
            "factors": self.factors.tolist(), "biases": self.biases.tolist(),
            "logged": self.logged.tolist(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.factors, self.biases = np.array(state["factors"]), np.array(state["biases"])
        self.logged = np.array(state["logged"], bool)


LEARNERS: tuple[type[Learner], ...] = (MulticlassCalibration,)
