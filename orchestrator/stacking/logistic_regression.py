"""Logistic regression, one per class, on the members' logits of that class."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression


class LogisticPerClass:
    """``sigmoid(b_k + sum_m w_km logit(p_mk))`` with an L2 penalty on w (C = 1).

    A class without positive (or negative) rows keeps the mean of its members.
    Source: the product's own; per class as in gcnn_gcrnn_stacking, Section 4.
    """

    name: ClassVar[str] = "logreg"
    title: ClassVar[str] = "logistic regression per class"
    takes: ClassVar[tuple[str, ...]] = ("clip_scores",)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.coefficients = np.zeros((0, 0))
        self.intercepts = np.zeros(0)

    def fit(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> None:
        members, classes = scores.shape[1:]
        self.coefficients = np.full((classes, members), 1.0 / members)
        self.intercepts = np.zeros(classes)
        features = _logits(scores)
        for k in range(classes):
            if 0 < targets[:, k].sum() < len(targets):
                fitted = LogisticRegression(C=self.strength).fit(features[:, :, k], targets[:, k])
                self.coefficients[k] = fitted.coef_[0]
                self.intercepts[k] = fitted.intercept_[0]

    def predict(self, scores: np.ndarray) -> np.ndarray:
        logits = np.einsum("nmk,km->nk", _logits(scores), self.coefficients) + self.intercepts
        probabilities: np.ndarray = expit(logits)
        return probabilities

    def weights(self) -> dict[str, Any]:
        """Mean weight of each member over the classes."""
        return {"members": self.coefficients.mean(axis=0).tolist()}

    def state(self) -> dict[str, Any]:
        return {
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.coefficients = np.array(state["coefficients"])
        self.intercepts = np.array(state["intercepts"])

    def parameters(self) -> dict[str, Any]:
        return {"C": self.strength, "penalty": "l2"}


def _logits(scores: np.ndarray) -> np.ndarray:
    values: np.ndarray = logit(np.clip(scores.astype(float), 1e-4, 1 - 1e-4))
    return values
