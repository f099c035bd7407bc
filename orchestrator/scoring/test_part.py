"""The one door to test labels. Each opening is in the ledger before a label is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.members.rows import OutOfFold
from orchestrator.members.seen import Members, Targets
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, is_transductive, variants_of
from orchestrator.runs.counts import save_counts
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.examples import choose_examples
from orchestrator.scoring.ledger import FITTED, open_test_labels
from orchestrator.scoring.test_rows import test_rows
from orchestrator.stacking.crossfit import fused
from orchestrator.stacking.families import load_learner
from systems.data.dataset import Dataset, Labels
from systems.data.store import WaveformStore
from systems.metrics import clip_interval
from systems.metrics.events import (
    class_er_of_counts,
    event_counts,
    event_er_of_counts,
    event_f1_of_counts,
)
from systems.metrics.intervals import bootstrap
from systems.metrics.tagging import f1_of_counts, macro_f1_of_counts, tag_counts
from systems.predictions import Predictions


def score_test_once(
    run: RunDir, plan: Plan, dataset: Dataset, store: WaveformStore, rows: OutOfFold,
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Score refits, the paper's decision variants and the meta-learners, in one opening.

    Does nothing where scores.json is there.
    """
    if run.scores.exists():
        return
    test = test_rows(plan, dataset, rows, columns)
    candidates = [*_refits(plan, rows, dataset), *_stacks(run, plan, test)]
    labels, openings = open_test_labels(
        run, plan, dataset, [_in_ledger(candidate, plan) for candidate in candidates]
    )
    clip_ids = test.clip_ids
    targets = labels.tag_matrix(clip_ids, plan.classes)
    if plan.fitted_on == "test":
        _fit_on_test(run, plan, test, labels, targets, candidates)
    scored, counts, shown = [], [], None
    for candidate in candidates:
        predictions = candidate.pop("predictions")
        tags = tag_counts(targets, decided(predictions.clip_scores, labels.kind))
        events = None
        if labels.kind == "events" and predictions.events is not None:
            estimated = dict(zip(clip_ids, predictions.events, strict=True))
            events = event_counts({i: labels.values[i] for i in clip_ids}, estimated, plan.classes)
        if shown is None:
            shown = choose_examples(
                predictions, targets, labels, tags, events, store, run.path / "examples"
            )
        metrics = _metrics(tags, events, plan.classes)
        if plan.metric not in metrics["metrics"]:
            own = clip_interval(plan.metric, targets, predictions.clip_scores)
            metrics["metrics"] = {plan.metric: own._asdict(), **metrics["metrics"]}
        scored.append({**candidate, **metrics})
        counts.append((tags, events))
    save_counts(run.test_counts, clip_ids, scored, counts)
    write_json(
        run.scores,
        {
            "part": dataset.test_part,
            "label_kind": labels.kind,
            "openings": openings,
            "clips": len(clip_ids),
            "rows": scored,
            "examples": shown,
        },
    )


def _in_ledger(candidate: Mapping[str, Any], plan: Plan) -> str:
    """What the ledger calls a scored model."""
    fitted = candidate["learner"] is not None and plan.fitted_on == "test"
    return ", ".join(filter(None, (candidate["who"], candidate["variant"], FITTED * fitted)))


def decided(scores: np.ndarray, kind: str) -> np.ndarray:
    """Which classes a model holds for present: [N, K]; of one class a clip the largest score."""
    if kind == "class":
        return np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    present: np.ndarray = scores > 0.5
    return present


def _refits(plan: Plan, rows: OutOfFold, dataset: Dataset) -> list[dict[str, Any]]:
    """Members' final models, each under its decision variants."""
    how = {"refit": "refitted", "fold_mean": "mean of folds",
           "fold_geometric": "geometric mean of folds"}[plan.final]  # fmt: skip
    found: list[dict[str, Any]] = []
    for place, member in enumerate(rows.members):
        trial, variants = member.run.trial(member.number), decision_variants(member.plan)
        who = f"training {member.number}" if plan.purpose == "train" else f"{member.name}, {how}"
        for variant in variants_of(plan, variants, place):
            found.append(
                {
                    "who": who,
                    "trial": member.key,
                    "learner": None,
                    "variant": variant,
                    "best": place == rows.best,
                    "transductive": is_transductive(member.plan, variants[variant]),
                    "refinement": read_json(trial.decision(variant, plan.final)),
                    "predictions": Predictions.load(trial.test_predictions(variant, plan.final)),
                }
            )
    return found


def _stacks(run: RunDir, plan: Plan, test: Members) -> list[dict[str, Any]]:
    """The fitted meta-learners and what they say of the test part."""
    found = []
    for name in plan.stack:
        if not (run.stack(name) / "scores.json").exists():
            continue  # it could not be fitted; the report says why
        fitted = load_learner(run.stack(name))
        predictions = fused(fitted, test).with_data(fingerprint=plan.fingerprint, splits="test")
        predictions.save(run.stack(name) / "test.npz")
        found.append(
            {
                "who": fitted.title,
                "trial": None,
                "learner": name,
                "variant": None,
                "best": False,
                "transductive": False,
                "refinement": None,
                "predictions": predictions,
            }
        )
    return found


def _fit_on_test(
    run: RunDir, plan: Plan, test: Members, labels: Labels, targets: np.ndarray,
    candidates: list[dict[str, Any]],
) -> None:  # fmt: skip
    """As a paper did that fitted its fusion on its test part: such a figure is no estimate.

    Only under ``--protocol paper``, which the ledger and the report say.
    """
    events = tuple(labels.values[i] for i in test.clip_ids) if labels.kind == "events" else None
    truth = Targets.of(targets, labels.kind, plan.metric, events=events)
    for candidate in candidates:
        if candidate["learner"] is not None:
            folder = run.stack(candidate["learner"])
            refitted = load_learner(folder)
            refitted.fit(test, truth, plan.seed)
            refitted.save(folder)  # what is scored is what predicts
            candidate["who"] += f", {FITTED}"
            candidate["predictions"] = fused(refitted, test).with_data(
                fingerprint=plan.fingerprint, splits="test"
            )
            candidate["predictions"].save(folder / "test.npz")


def _metrics(tags: np.ndarray, events: np.ndarray | None, classes: Sequence[str]) -> dict[str, Any]:
    metrics = {"clip_macro_f1": bootstrap(tags, macro_f1_of_counts)._asdict()}
    by_class = {"clip_f1": f1_of_counts(tags.sum(0))}
    if events is not None:
        metrics["event_f1"] = bootstrap(events, event_f1_of_counts)._asdict()
        metrics["event_er"] = bootstrap(events, event_er_of_counts)._asdict()
        by_class["event_f1"] = f1_of_counts(events.sum(0))
        by_class["event_er"] = class_er_of_counts(events)
    return {
        "metrics": metrics,
        "classes": {
            name: {metric: _finite(values[k]) for metric, values in by_class.items()}
            for k, name in enumerate(classes)
        },
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
