"""Gradient boosting on the members' probabilities and statistics of the clip, by XGBoost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.errors import CannotFit


@dataclass(frozen=True)
class Trees:
    """``statistics``: of the clip too. The depth is the paper's, the rest XGBoost's defaults then.

    (XGBoost's learning rate was 0.1 in 2018 and is 0.3 by now.)
    """

    max_depth: int = 3
    n_estimators: int = 100
    learning_rate: float = 0.1
    statistics: bool = True

    def __post_init__(self) -> None:
        if self.max_depth < 1 or self.n_estimators < 1 or self.learning_rate <= 0:
            raise ValueError("max_depth and n_estimators are at least 1, learning_rate above 0")


class Boosting(Learner):
    """Classes that exclude each other share one model (softmax); each tag has its own.

    A class without rows (or without others) keeps its members' mean; of one class a clip it gets 0.
    """

    name = "boosting"
    title = "gradient boosting on scores and clip statistics"
    source = "metalearning_xgboost, Section 4"
    uses = ("columns",)
    betters_one = "trees"
    turns = True
    Settings = Trees

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.exclusive = False
        self.columns = 0  # statistics that the fit had
        self.known: list[int] = []  # classes that a model knows
        self.models: list[Any] = []

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.exclusive = targets.exclusive
        there = members.columns if self.settings.statistics else None
        self.columns = 0 if there is None else there.shape[1]
        self.known = targets.learnable()
        counts = targets.weights > 0  # a row of no weight may be of a class of no weight
        x, weights = self._x(members)[counts], targets.weights[counts]
        truth = (targets.values[counts] > 0.5).astype(int)
        wanted = [truth[:, k] for k in self.known]
        if self.exclusive and self.known:
            wanted = [truth[:, self.known].argmax(axis=1)]
        self.models = [self._model(x, y, weights, seed) for y in wanted]

    def _model(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> Any:
        import xgboost

        s = self.settings
        # One thread: sums in another order would be another model.
        model = xgboost.XGBClassifier(
            max_depth=s.max_depth, n_estimators=s.n_estimators, learning_rate=s.learning_rate,
            n_jobs=1, random_state=seed % 2**31,
        )  # fmt: skip
        return model.fit(x, y, sample_weight=weights)

    def _x(self, members: Members) -> np.ndarray:
        scores = members.scores.reshape(len(members.scores), -1)
        if not self.columns:
            return scores
        if members.columns is None or members.columns.shape[1] != self.columns:
            raise CannotFit(f"the boosted trees need the {self.columns} clip statistics that they "
                            "were fitted with.")  # fmt: skip
        return np.hstack([scores, members.columns])

    def predict(self, members: Members) -> np.ndarray:
        x, fused = self._x(members), members.scores.mean(axis=1)
        if self.exclusive and self.models:
            fused = np.zeros_like(fused)
            fused[:, self.known] = self.models[0].predict_proba(x)
        elif self.models:
            for k, model in zip(self.known, self.models, strict=True):
                fused[:, k] = model.predict_proba(x)[:, 1]
        return fused

    def state(self) -> dict[str, Any]:
        return {"exclusive": self.exclusive, "columns": self.columns, "known": self.known}

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.columns = state["exclusive"], state["columns"]
        self.known = list(state["known"])

    def save_parts(self, folder: Path) -> None:
        for place, model in enumerate(self.models):
            model.save_model(folder / f"model{place}.json")

    def load_parts(self, folder: Path) -> None:
        import xgboost

        count = min(1, len(self.known)) if self.exclusive else len(self.known)
        self.models = []
        for place in range(count):
            model = xgboost.XGBClassifier()
            model.load_model(folder / f"model{place}.json")
            self.models.append(model)


LEARNERS: tuple[type[Learner], ...] = (Boosting,)
