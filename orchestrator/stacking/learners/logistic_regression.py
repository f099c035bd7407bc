"""Logistic regressions on the members' scores, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.data.stratify import cross_fitting_folds

SMALLEST = 1e-4  # of a probability whose log odds are taken


def logits(scores: np.ndarray) -> np.ndarray:
    """Log odds of probabilities, bounded."""
    values: np.ndarray = logit(np.clip(scores.astype(float), SMALLEST, 1 - SMALLEST))
    return values


@dataclass(frozen=True)
class Regularised:
    """``C``: the inverse of the penalty's strength, beside the sum of the rows' losses."""

    C: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.C < np.inf:
            raise ValueError("C is above 0")


class LogisticPerClass(Learner):
    """``sigmoid(b_k + sum_m w_km logit(p_mk))``, a regression per class with an L2 penalty on w.

    A class without positive (or negative) rows keeps the mean of its members' log odds.
    """

    name = "logreg"
    title = "logistic regression per class"
    standard = True
    source = "the product's own: a class's own scores alone"
    pointwise = True
    betters_one = "regression"
    turns = True
    Settings = Regularised

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.coefficients = np.zeros((0, 0))
        self.intercepts = np.zeros(0)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        count, classes = members.scores.shape[1:]
        self.coefficients = np.full((classes, count), 1.0 / count)
        self.intercepts = np.zeros(classes)
        for k in targets.learnable():
            present = targets.values[:, k] > 0.5
            # Few columns and many rows: Newton's steps reach the optimum in a handful.
            fitted = LogisticRegression(C=self.settings.C, solver="newton-cholesky", tol=1e-8).fit(
                logits(members.scores[:, :, k]), present, targets.weights
            )
            self.coefficients[k] = fitted.coef_[0]
            self.intercepts[k] = fitted.intercept_[0]

    def predict(self, members: Members) -> np.ndarray:
        summed = np.einsum("nmk,km->nk", logits(members.scores), self.coefficients)
        probabilities: np.ndarray = expit(summed + self.intercepts)
        return probabilities

    def weights(self) -> dict[str, Any]:
        """Mean weight of each member over the classes."""
        return {"members": self.coefficients.mean(axis=0).tolist()}

    def state(self) -> dict[str, Any]:
        return {
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.coefficients = np.array(state["coefficients"])
        self.intercepts = np.array(state["intercepts"])


@dataclass(frozen=True)
class Columns:
    """What is regressed on, and how.

    ``inputs``: probabilities or their log odds. ``penalty``: ``l2``, or ``l1`` that leaves columns
    out. ``balanced``: rows are weighted so that all classes count the same. ``components``: of a
    PCA before the regression; 0 for none.
    """

    C: float = 1.0
    penalty: Literal["l2", "l1"] = "l2"
    inputs: Literal["probabilities", "logits"] = "probabilities"
    balanced: bool = False
    components: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.C < np.inf or self.components < 0:
            raise ValueError("C is above 0, components at least 0")
        if self.penalty not in ("l2", "l1") or self.inputs not in ("probabilities", "logits"):
            raise ValueError("penalty is l2 or l1, inputs are probabilities or logits")


@dataclass(frozen=True)
class AllColumns(Columns):
    """Log odds of every class of every member."""

    inputs: Literal["probabilities", "logits"] = "logits"


@dataclass(frozen=True)
class Balanced(Columns):
    """Probabilities, classes weighted against their imbalance."""

    balanced: bool = True


@dataclass(frozen=True)
class AfterPca(Columns):
    """120 principal components, C = 4; the mean of ``folds`` fits, each without one fold of rows.

    ``folds`` 1 is one fit on all rows.
    """

    C: float = 4.0
    components: int = 120
    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds < 1:
            raise ValueError("folds is at least 1")


class ColumnRegression(Learner):
    """A regression on all members' scores of all classes side by side: [N, M K].

    Classes that exclude each other get one softmax regression, tags a regression each. A class
    without rows (or without others) keeps its members' mean; of one class a clip it gets 0.
    """

    pointwise = True
    betters_one = "regression"
    turns = True
    Settings = Columns

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.coefficients = np.zeros((0, 0))
        self.intercepts = np.zeros(0)
        self.fitted = np.zeros(0, bool)  # [K] classes that a regression knows

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        x, classes = self._columns(members), members.scores.shape[2]
        centre, rotation = self._pca(x)
        z = x if rotation is None else (x - centre) @ rotation.T
        self.exclusive = targets.exclusive
        inner, intercepts = np.zeros((classes, z.shape[1])), np.zeros(classes)
        self.fitted = np.zeros(classes, bool)
        counted = targets.weights > 0
        there = np.flatnonzero((targets.values[counted] > 0.5).any(axis=0))
        if self.exclusive and len(there) > 1:
            y = targets.values[counted][:, there].argmax(axis=1)
            inner[there], intercepts[there] = self._softmax(
                z[counted], y, targets.weights[counted], seed
            )
            self.fitted[there] = True
        elif not self.exclusive:
            for k in targets.learnable():
                y = targets.values[:, k] > 0.5
                inner[k], intercepts[k] = self._fit(z, y, targets.weights, seed)
                self.fitted[k] = True
        # The rotation is linear: regression and PCA are one map of the columns.
        self.coefficients = inner if rotation is None else inner @ rotation
        self.intercepts = intercepts - self.coefficients @ centre

    def _columns(self, members: Members) -> np.ndarray:
        scores = members.scores.reshape(len(members.scores), -1)
        return logits(scores) if self.settings.inputs == "logits" else scores.astype(float)

    def _pca(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The centre [F] and the directions [C, F]; ``None`` without a PCA."""
        from sklearn.decomposition import PCA

        if not self.settings.components:
            return np.zeros(x.shape[1]), None
        pca = PCA(min(self.settings.components, *x.shape), svd_solver="full").fit(x)
        return pca.mean_, pca.components_

    def _fit(self, z: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> Any:
        found = self._regression(seed).fit(z, y, weights)
        return found.coef_[0], found.intercept_[0]

    def _softmax(self, z: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> Any:
        found = self._regression(seed).fit(z, y, weights)
        if len(found.classes_) > 2:
            return found.coef_, found.intercept_
        # Of two classes scikit-learn gives one logit: half of it each way is the same softmax.
        half, bias = found.coef_[0] / 2, found.intercept_[0] / 2
        return np.stack([-half, half]), np.array([-bias, bias])

    def _regression(self, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        first = self.settings.penalty == "l1"
        return LogisticRegression(
            C=self.settings.C, l1_ratio=1.0 if first else 0.0, solver="saga" if first else "lbfgs",
            class_weight="balanced" if self.settings.balanced else None, max_iter=5000,
            tol=1e-4 if first else 1e-6, random_state=seed % 2**32,
        )  # fmt: skip

    def predict(self, members: Members) -> np.ndarray:
        values = self._columns(members) @ self.coefficients.T + self.intercepts
        mean = members.scores.mean(axis=1)
        if not self.fitted.any():
            return mean
        if self.exclusive:
            values[:, ~self.fitted] = -np.inf
            probabilities: np.ndarray = softmax(values, axis=1)
            return probabilities
        return np.where(self.fitted, expit(values), mean)

    def weights(self) -> dict[str, Any] | None:
        """Each member's share of the absolute coefficients."""
        classes = len(self.fitted)
        size = np.abs(self.coefficients).reshape(classes, -1, classes).sum(axis=(0, 2))
        return {"members": (size / size.sum()).tolist()} if size.sum() > 0 else None

    def state(self) -> dict[str, Any]:
        return {
            "exclusive": self.exclusive,
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
            "fitted": self.fitted.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive = state["exclusive"]
        self.coefficients = np.array(state["coefficients"])
        self.intercepts = np.array(state["intercepts"])
        self.fitted = np.array(state["fitted"], bool)


class LogisticAll(ColumnRegression):
    """One-vs-rest for each class, on every class of every member."""

    name = "logreg_all"
    title = "logistic regression per class on all columns"
    source = "the product's own, for tags; gcnn_gcrnn_stacking regresses classes, on probabilities"
    labels = ("tags", "events")
    Settings = AllColumns


class LogisticMultinomial(ColumnRegression):
    """One softmax regression on all columns, classes weighted against their imbalance."""

    name = "logreg_multinomial"
    title = "multinomial logistic regression"
    standard = True
    source = "gcnn_gcrnn_stacking (probabilities, weighted classes; C and kind are not stated)"
    labels = ("class",)
    Settings = Balanced


class LogisticPca(Learner):
    """Regressions after a PCA of all columns, one without each fold of the rows; their mean."""

    name = "logreg_pca"
    title = "logistic regression after PCA"
    source = "cnn_stacking_logreg (120 components, C = 4, mean of five folds' models)"
    pointwise = True
    betters_one = "regression"
    turns = True
    Settings = AfterPca

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.fits: list[ColumnRegression] = []

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        rows = np.ones(len(targets.values), bool)
        without = [rows]
        if self.settings.folds > 1 and len(rows) > 1:
            folds = self.settings.folds
            fold_of = cross_fitting_folds(targets.values, targets.groups, seed, most=folds)
            without = [fold_of != fold for fold in np.unique(fold_of)]
        self.fits = [ColumnRegression(self.settings) for _ in without]
        for one, kept in zip(self.fits, without, strict=True):
            one.fit(members.rows(kept), targets.rows(kept), seed)

    def predict(self, members: Members) -> np.ndarray:
        mean: np.ndarray = np.mean([one.predict(members) for one in self.fits], axis=0)
        return mean

    def weights(self) -> dict[str, Any] | None:
        """The mean over the fits of each member's share of the absolute coefficients."""
        each = [one.weights() for one in self.fits]
        known = [one["members"] for one in each if one is not None]
        return {"members": np.mean(known, axis=0).tolist()} if known else None

    def state(self) -> dict[str, Any]:
        return {"fits": [one.state() for one in self.fits]}

    def restore(self, state: dict[str, Any]) -> None:
        self.fits = [ColumnRegression(self.settings) for _ in state["fits"]]
        for one, fitted in zip(self.fits, state["fits"], strict=True):
            one.restore(fitted)


LEARNERS: tuple[type[Learner], ...] = (
    LogisticPerClass, LogisticAll, LogisticMultinomial, LogisticPca,
)  # fmt: skip
