"""What estimators of scikit-learn lack: selection by importance without its trees, capped k-NN."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier


class TopByImportance(TransformerMixin, BaseEstimator):
    """The attributes that gradient boosting gains most by; ``kept`` of them.

    scikit-learn's SelectFromModel keeps the whole ensemble of trees beside the choice; of this one
    the choice remains, ``columns_`` [kept] in order, and ``importances_`` of all.
    """

    def __init__(self, kept: int = 223, rounds: int = 200, depth: int = 3, seed: int = 0) -> None:
        self.kept = kept
        self.rounds = rounds
        self.depth = depth
        self.seed = seed

    def fit(self, x: Any, y: np.ndarray) -> TopByImportance:
        """Rank the columns of x [N, F]."""
        from xgboost import XGBClassifier

        x = np.asarray(x, np.float32)
        known, places = np.unique(y, return_inverse=True)  # boosting wants 0, 1, ...
        trees = XGBClassifier(
            n_estimators=self.rounds, max_depth=self.depth, learning_rate=0.1,
            colsample_bynode=min(1.0, x.shape[1] ** -0.5), importance_type="gain",
            tree_method="hist", random_state=self.seed, n_jobs=1,
        )  # fmt: skip
        gains = np.zeros(x.shape[1])
        if len(known) > 1:
            gains = np.nan_to_num(trees.fit(x, places).feature_importances_.astype(float))
        self.importances_ = gains
        best = np.argsort(-gains, kind="stable")[: self.kept]
        self.columns_ = np.sort(best)
        return self

    def transform(self, x: Any) -> np.ndarray:
        """Those columns [N, kept]."""
        chosen: np.ndarray = np.asarray(x)[:, self.columns_]
        return chosen


class Nearest(KNeighborsClassifier):
    """k nearest neighbours; of fewer clips than k all."""

    def fit(self, x: Any, y: np.ndarray) -> Nearest:
        self.set_params(n_neighbors=min(self.get_params()["n_neighbors"], len(x)))
        super().fit(x, y)
        return self
