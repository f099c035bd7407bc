"""What a meta-learner is, and how it is scored: cross-fitted over groups of out-of-fold rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np

from orchestrator.members import OutOfFold
from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, write_json
from systems.data.dataset import Dataset
from systems.data.splits import cross_fitting_folds
from systems.errors import UserError
from systems.metrics.intervals import OfCounts, bootstrap, paired_bootstrap
from systems.metrics.tagging import macro_f1_of_counts, tag_counts
from systems.predictions import Predictions


class Learner(Protocol):
    """A meta-learner over members.

    ``predict`` gives clip scores [N, K], whose decision threshold is 0.5, from the members' clip
    scores [N, M, K]. ``takes``: what it is fitted on. Its state is JSON.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    takes: ClassVar[tuple[str, ...]]

    def predict(self, scores: np.ndarray) -> np.ndarray: ...

    def weights(self) -> dict[str, Any] | None:
        """What the learner thinks of each member, where that has a meaning."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...

    def parameters(self) -> dict[str, Any]: ...


class ClipLearner(Learner, Protocol):
    """A learner that is fitted on the members' clip scores [N, M, K] and targets [N, K]."""

    def fit(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> None: ...


def learner(name: str) -> Learner:
    """A fresh meta-learner by name."""
    from orchestrator.stacking.event_thresholds import GeneticEventThresholds
    from orchestrator.stacking.genetic_thresholds import GeneticThresholds
    from orchestrator.stacking.logistic_regression import LogisticPerClass

    kinds: dict[str, type[Any]] = {
        kind.name: kind for kind in (LogisticPerClass, GeneticThresholds, GeneticEventThresholds)
    }
    if name not in kinds:
        raise UserError(f"unknown meta-learner '{name}'. Known: {', '.join(kinds)}.")
    fresh: Learner = kinds[name]()
    return fresh


def cross_fitted(name: str, rows: OutOfFold, seed: int) -> np.ndarray:
    """Scores [N, K] of rows by a learner that was fitted on the other groups' rows."""
    fold_of = cross_fitting_folds(rows.targets, rows.groups, seed)
    out = np.empty_like(rows.targets)
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        fitted = cast(ClipLearner, learner(name))
        fitted.fit(rows.scores[~inside], rows.targets[~inside], seed)
        out[inside] = fitted.predict(rows.scores[inside])
    return out


def fit_learner(name: str, run: RunDir, plan: Plan, dataset: Dataset, rows: OutOfFold) -> None:
    """Cross-fit, score, fit on all rows, and write learner, predictions and scores to the run.

    ``scores.json`` is written last: where it is, the learner is whole.
    """
    from orchestrator.stacking.event_thresholds import fit_event_thresholds

    if "frame_scores" in learner(name).takes:
        fit_event_thresholds(run, plan, dataset, rows)
    else:
        fit_clip_learner(name, run, plan, rows)


def fit_clip_learner(name: str, run: RunDir, plan: Plan, rows: OutOfFold) -> None:
    """A learner of clip scores."""
    began = time.monotonic()
    scores = cross_fitted(name, rows, plan.seed)
    final = cast(ClipLearner, learner(name))
    final.fit(rows.scores, rows.targets, plan.seed)
    # The reference is the member that the search put first, not the one that these rows favour.
    counts = tag_counts(rows.targets, scores > 0.5)
    reference = tag_counts(rows.targets, rows.scores[:, 0] > 0.5)
    predictions = Predictions.of(rows.clip_ids, plan.classes, clip_scores=scores)
    judged = Judged("clip_macro_f1", macro_f1_of_counts, counts, reference)
    keep_learner(run, plan, rows, final, predictions, judged, began)


@dataclass(frozen=True)
class Judged:
    """What a learner is judged by: a metric of the counts [N, K, 3] of its cross-fitted rows, and
    those of the best member's."""

    metric: str
    of_counts: OfCounts
    counts: np.ndarray
    reference: np.ndarray


def keep_learner(
    run: RunDir,
    plan: Plan,
    rows: OutOfFold,
    final: Learner,
    predictions: Predictions,
    judged: Judged,
    began: float,
) -> None:
    """Write a fitted learner, its cross-fitted predictions and, last, its scores."""
    folder = run.stack(final.name)
    predictions.with_data(fingerprint=plan.fingerprint, splits=plan.splits["digest"]).save(
        folder / "out_of_fold.npz"
    )
    write_json(folder / "learner.json", {"name": final.name, "state": final.state()})
    versus_best = paired_bootstrap(judged.counts, judged.reference, judged.of_counts)
    write_json(
        folder / "scores.json",
        {
            "name": final.name,
            "title": final.title,
            "metric": judged.metric,
            "members": list(rows.members),
            "parameters": final.parameters(),
            "out_of_fold": bootstrap(judged.counts, judged.of_counts)._asdict(),
            "versus_best": versus_best._asdict(),
            "weights": final.weights(),
            "seconds": time.monotonic() - began,
        },
    )
