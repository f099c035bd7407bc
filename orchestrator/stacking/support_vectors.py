"""Support vector machines (scikit-learn) on the members' scores or embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from orchestrator.stacking.base import Learner, Members, Targets
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
    """One machine a class against the others; scores are Platt's sigmoid of its distance.

    The slope is fitted on the fitted rows and the bound stays the machine's own: at distance 0 the
    score of a tag is 0.5. A class without rows (or without others) keeps its members' mean.
    """

    Settings = Machine

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.known: list[int] = []
        self.slopes: list[float] = []
        self.machines: list[Any] = []

    def _x(self, members: Members) -> np.ndarray:
        raise NotImplementedError

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        x, truth = self._x(members), targets.values > 0.5
        self.known = [
            k for k in range(truth.shape[1]) if truth[:, k].any() and not truth[:, k].all()
        ]
        self.machines, self.slopes = [], []
        for k in self.known:
            machine = make_pipeline(
                StandardScaler(), SVC(C=self.settings.C, kernel=self.settings.kernel)
            ).fit(x, truth[:, k], svc__sample_weight=targets.weights)
            self.machines.append(machine)
            self.slopes.append(_slope(machine.decision_function(x), truth[:, k]))

    def predict(self, members: Members) -> np.ndarray:
        x, fused = self._x(members), members.scores.mean(axis=1)
        for k, machine, slope in zip(self.known, self.machines, self.slopes, strict=True):
            fused[:, k] = expit(slope * machine.decision_function(x))
        return fused

    def state(self) -> dict[str, Any]:
        return {"known": self.known, "slopes": self.slopes}

    def restore(self, state: dict[str, Any]) -> None:
        self.known, self.slopes = list(state["known"]), list(state["slopes"])

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


def _slope(distance: np.ndarray, truth: np.ndarray) -> float:
    """The slope of ``sigmoid(slope d)`` with the least cross-entropy, in 0.1 .. 10."""
    from scipy.optimize import minimize_scalar

    signed = np.where(truth, distance, -distance)
    found = minimize_scalar(
        lambda a: np.logaddexp(0, -a * signed).mean(), bounds=(0.1, 10), method="bounded"
    )
    return float(found.x)


class SvmOnScores(SupportVectors):
    """On all members' scores of all classes side by side: [N, M K]."""

    name = "svm"
    title = "support vector machine on scores"
    source = "mask_breathing_resnet, Section 3.2; multi_input_ensemble_asc, Section 2.4"

    def _x(self, members: Members) -> np.ndarray:
        return members.scores.reshape(len(members.scores), -1)


class SvmOnEmbeddings(SupportVectors):
    """On the members' clip embeddings side by side: [N, ΣE]."""

    name = "svm_embeddings"
    title = "support vector machine on embeddings"
    source = "multi_input_ensemble_asc, Section 2.4"
    takes = ("clip_scores", "clip_embeddings")

    def _x(self, members: Members) -> np.ndarray:
        assert members.embeddings is not None
        return np.hstack(members.embeddings)


LEARNERS: tuple[type[Learner], ...] = (SvmOnScores, SvmOnEmbeddings)
