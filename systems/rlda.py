"""Regularised linear discriminant analysis with a cosine back-end."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class RldaCosine(ClassifierMixin, BaseEstimator):
    """Projects x [N, D] to ``dimensions`` and scores a class by the cosine to its mean.

    With class means w_c and their mean w (but_asc_fusion, section 3.3): S_w = alpha I + the mean
    over classes of each one's covariance, S_b = beta I + the covariance of the class means; the
    directions are the largest eigenvectors of S_b v = lambda S_w v, scaled to V' S_w V = I. beta
    makes S_b of full rank, so that more than C - 1 can be kept. x is taken relative to w.
    """

    lowest = -1.0  # the score of a class that no training clip has

    def __init__(self, alpha: float = 1e-3, beta: float = 1e-2, dimensions: int = 100) -> None:
        self.alpha = alpha
        self.beta = beta
        self.dimensions = dimensions

    def fit(self, x: Any, y: Any) -> RldaCosine:
        """Fit projection and class vectors on x [N, D] of classes y [N]."""
        from scipy.linalg import eigh

        x, y = np.asarray(x, float), np.asarray(y)
        self.classes_ = np.unique(y)
        means = np.stack([x[y == c].mean(axis=0) for c in self.classes_])
        self.centre_ = means.mean(axis=0)
        eye = np.eye(x.shape[1])
        within = np.mean([np.cov(x[y == c].T, bias=True) for c in self.classes_], axis=0)
        between = (means - self.centre_).T @ (means - self.centre_) / len(means)
        _, vectors = eigh(self.beta * eye + between, self.alpha * eye + within)
        self.projection_ = vectors[:, ::-1][:, : self.dimensions]
        self.vectors_ = self._unit(means)
        return self

    def _unit(self, x: np.ndarray) -> np.ndarray:
        projected = (x - self.centre_) @ self.projection_
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        unit: np.ndarray = projected / np.maximum(length, 1e-12)
        return unit

    def predict_proba(self, x: Any) -> np.ndarray:
        """Cosines [N, C] in -1 to 1, under the name that scores have in scikit-learn."""
        cosines: np.ndarray = self._unit(np.asarray(x, float)) @ self.vectors_.T
        return cosines

    def predict(self, x: Any) -> np.ndarray:
        """The class of the largest cosine [N]."""
        found: np.ndarray = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return found
