"""Support vector machines (scikit-learn) on the members' scores or embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit, log_expit, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.crossfit import fold_masks
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.embeddings import side_by_side
from systems.data.stratify import cross_fitting_folds
from systems.errors import UserError

# All that a saved machine is made of; anything else in a file is refused before it is loaded.
TRUSTED = ("sklearn.svm._classes.SVC", "sklearn.preprocessing._data.StandardScaler",
           "sklearn.pipeline.Pipeline", "numpy.dtype", "numpy.ndarray", "numpy.int32",
           "numpy.int64", "numpy.float64")  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """scikit-learn's own values of C and gamma, on standardised inputs."""

    C: float = 1.0
    kernel: Literal["rbf", "linear", "sigmoid"] = "rbf"

    def __post_init__(self) -> None:
        if not self.C > 0:
            raise ValueError("C is above 0")


class SupportVectors(Learner):
    """One machine a class against the others; scores are a sigmoid of its distance (Platt, 1999).

    The slope is fitted on distances of rows that a machine was not fitted on (three folds of whole
    groups): those it has seen lie too far out. There is no offset, so the bound stays the
    machine's own: at distance 0 the score of a tag is 0.5; scores of exclusive classes sum to 1.
    A class without rows (or without others) keeps its members' mean; of one class a clip it gets 0.
    """

    betters_one = "support vectors"
    turns = True
    Settings = Machine

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.known: list[int] = []  # classes that a machine knows
        self.slopes: list[float] = []
        self.machines: list[Any] = []

    def _x(self, members: Members) -> np.ndarray:
        raise NotImplementedError

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.exclusive, self.known = targets.exclusive, targets.learnable()
        x, truth, weights = self._x(members), targets.values > 0.5, targets.weights
        self.machines = [self._machine(x, truth[:, k], weights) for k in self.known]
        folds = cross_fitting_folds(truth.astype(float), targets.groups, seed, most=3)
        self.slopes = [self._slope(x, truth[:, k], weights, folds) for k in self.known]

    def _machine(self, x: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        # It draws nothing, yet without a seed it would take one from NumPy's global generator.
        svc = SVC(C=self.settings.C, kernel=self.settings.kernel, random_state=0)
        counts = weights > 0
        return make_pipeline(StandardScaler(), svc).fit(
            x[counts], truth[counts], svc__sample_weight=weights[counts]
        )

    def _slope(
        self, x: np.ndarray, truth: np.ndarray, weights: np.ndarray, folds: np.ndarray
    ) -> float:
        """The slope of ``sigmoid(slope d)`` with the least cross-entropy over unseen rows, or 1."""
        distance = np.full(len(x), np.nan)
        for inside in fold_masks(folds):
            seen = truth[~inside & (weights > 0)]
            if seen.any() and not seen.all():
                machine = self._machine(x[~inside], truth[~inside], weights[~inside])
                distance[inside] = machine.decision_function(x[inside])
        judged = ~np.isnan(distance)
        return _best_slope(np.where(truth, distance, -distance)[judged], weights[judged])

    def predict(self, members: Members) -> np.ndarray:
        x, fused = self._x(members), members.scores.mean(axis=1)
        if not self.known:
            return fused
        distances = np.stack([machine.decision_function(x) for machine in self.machines], axis=1)
        logits = np.array(self.slopes) * distances
        if not self.exclusive:
            fused[:, self.known] = expit(logits)
            return fused
        alone = np.zeros_like(fused)
        alone[:, self.known] = softmax(log_expit(logits), axis=1)
        return alone

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive, "known": self.known, "slopes": self.slopes}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.known = state["exclusive"], list(state["known"])
        self.slopes = list(state["slopes"])

    def save_parts(self, folder: Path) -> None:
        import skops.io

        skops.io.dump(self.machines, folder / "machines.skops")

    def load_parts(self, folder: Path) -> None:
        self.machines = load_trusted(folder / "machines.skops")


def load_trusted(path: Path) -> Any:
    """What a skops file holds.

    Raises:
        UserError: it holds anything but the parts of our machines, or is no such file.
    """
    import skops.io

    try:
        foreign = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        if not foreign:
            return skops.io.load(path, trusted=list(TRUSTED))
    except Exception as error:
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error
    raise UserError(f"{path} holds {', '.join(foreign)}, which no model of ours does: not loaded.")


def _best_slope(signed: np.ndarray, weights: np.ndarray) -> float:
    """The slope in 0.1 .. 10 with the least cross-entropy of distances to the right side."""
    from scipy.optimize import minimize_scalar

    if not weights.any():
        return 1.0
    found = minimize_scalar(
        lambda a: weights @ np.logaddexp(0, -a * signed) / weights.sum(),
        bounds=(0.1, 10), method="bounded",
    )  # fmt: skip
    return float(found.x)


class SvmOnScores(SupportVectors):
    """On all members' scores of all classes side by side: [N, M K]."""

    name = "svm"
    title = "support vector machine on scores"
    source = "the product's own, beside metalearning_xgboost's trees"

    def _x(self, members: Members) -> np.ndarray:
        return members.scores.reshape(len(members.scores), -1)


class SvmOnEmbeddings(SupportVectors):
    """On the members' clip embeddings side by side: [N, ΣE]."""

    name = "svm_embeddings"
    one_model = True
    title = "support vector machine on embeddings"
    source = "after multi_input_ensemble_asc, Section 2.4 (there on training embeddings)"
    takes = ("clip_scores", "clip_embeddings")

    def _x(self, members: Members) -> np.ndarray:
        return side_by_side(members)


LEARNERS: tuple[type[Learner], ...] = (SvmOnScores, SvmOnEmbeddings)
