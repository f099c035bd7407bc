"""The one door to test labels. Each opening is in the ledger before a label is read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.counts import save_counts
from orchestrator.members import decision_variants, is_transductive, variants_of
from orchestrator.plan import Plan
from orchestrator.report.examples import choose_examples
from orchestrator.rundir import RunDir, TrialDir, append_line, read_json, read_lines, write_json
from orchestrator.stacking.base import Members, Targets
from orchestrator.stacking.crossfit import fused
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.rows import (
    Member,
    OutOfFold,
    clip_scores_of,
    clips_of,
    refuse_seen,
    view,
)
from systems.data.dataset import Clip, Dataset, Labels
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

FITTED = "fitted on the test part"


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


def test_rows(
    plan: Plan, dataset: Dataset, rows: OutOfFold, columns: Mapping[str, np.ndarray] | None
) -> Members:
    """What meta-learners see of the test part.

    Raises:
        UserError: a member was trained on a clip of it.
    """
    trained_on = {clip.clip_id for clip in dataset.role("labelled")}
    members = [(m, m.run.trial(m.number), next(iter(decision_variants(m.plan))))
               for m in rows.members]  # fmt: skip
    predictions = [Predictions.load(t.test_predictions(v, plan.final)) for _, t, v in members]
    for member, one in zip(rows.members, predictions, strict=True):
        refuse_seen(member.name, trained_on.intersection(one.clip_ids))
    scores = np.stack([clip_scores_of(one) for one in predictions], axis=1)
    clips = clips_of(dataset)
    seen = view(rows.members, predictions, scores, clips, columns)
    trials = [trial for _, trial, _ in members]
    of_folds = None
    if plan.folds_predict():
        of_folds = tuple(
            _of_fold(rows.members, trials, fold, clips, columns)
            for fold in range(len(plan.splits["folds"]))
        )
    return replace(seen, of_folds=of_folds, epochs=_epochs(trials, None))


def _of_fold(
    members: Sequence[Member], trials: Sequence[TrialDir], fold: int,
    clips: Mapping[str, Clip], columns: Mapping[str, np.ndarray] | None,
) -> Members:  # fmt: skip
    """What one fold's models say of the test part."""
    said = [Predictions.load(trial.fold_predictions(fold)) for trial in trials]
    scores = np.stack([clip_scores_of(one) for one in said], axis=1)
    seen = view(members, said, scores, clips, columns)
    return replace(seen, fold=np.full(len(scores), fold), epochs=_epochs(trials, fold))


def _epochs(
    trials: Sequence[TrialDir], fold: int | None
) -> tuple[dict[int, np.ndarray], ...] | None:
    """Per member the test part's scores after the epochs that were asked for."""
    epochs = tuple(
        {epoch: clip_scores_of(Predictions.load(path))
         for epoch, path in trial.snapshots_predicted(fold).items()}
        for trial in trials
    )  # fmt: skip
    return epochs if any(epochs) else None


def open_test_labels(
    run: RunDir, plan: Plan, dataset: Dataset, predictions: Sequence[str]
) -> tuple[Labels, int]:
    """Write the ledger entry, then open the labels; also how often this data has been opened."""
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "fingerprint": plan.fingerprint,
        "dataset": plan.dataset,
        "part": dataset.test_part,
        "run": plan.name,
        "run_id": plan.run_id,
        "protocol": plan.protocol,
        "predictions": list(predictions),
    }

    labels = dataset.open_sealed(dataset.test_part, lambda: append_line(run.ledger, entry))
    same = [line for line in read_lines(run.ledger) if line["fingerprint"] == plan.fingerprint]
    return labels, len(same)


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
