"""What the report draws of stage two: how alike members are, what more of them bring, how far the
scores may be believed, and where the thresholds lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.members.rows import OutOfFold
from orchestrator.members.seen import answer
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.families import load_learner
from systems.kinds import kind
from systems.metrics import clip_interval, metric
from systems.metrics.tagging import f1_of_counts
from systems.predictions import Predictions

BINS = 10
SHOWN = 4  # learners in the reliability diagram
THRESHOLDS = np.round(np.linspace(0, 1, 41), 3)


def diagnose(run: RunDir, rows: OutOfFold) -> None:
    """Write RUN/stack/diagnostics.json, of the rows that count."""
    counted = rows.targets.counted()
    rows = replace(rows, seen=rows.seen.rows(counted), targets=rows.targets.rows(counted))
    discrete, exclusive = rows.targets.says_tags, rows.targets.exclusive
    write_json(
        run.diagnostics,
        {
            "members": list(rows.seen.names),
            "correlation": correlation(rows),
            "gain": gain(rows),
            "reliability": _reliabilities(run, rows, counted) if discrete else [],
            "thresholds": _thresholds(run, rows) if discrete and not exclusive else None,
        },
    )


def correlation(rows: OutOfFold) -> list[list[float]]:
    """Pearson's correlation of the members' errors (score minus truth), all classes pooled: [M, M].

    Of errors, not of scores: those of good members are alike because the truth is.
    """
    errors = rows.scores - kind(rows.targets.kind).ideal(rows.targets.values)[:, None]
    flat = np.moveaxis(errors, 1, 0).reshape(errors.shape[1], -1)
    flat = flat[:, ~np.isnan(flat).any(axis=0)]  # items that a query does not search
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.atleast_2d(np.corrcoef(flat))
    return [[float(value) if np.isfinite(value) else 0.0 for value in row] for row in found]


def gain(rows: OutOfFold) -> list[dict[str, float]]:
    """The metric of the plain mean of the first 1 .. M members, in the order of their search."""
    return [
        {
            "members": count,
            **clip_interval(
                rows.targets.metric,
                rows.targets.values,
                rows.scores[:, :count].mean(axis=1),
                rows.targets.groups,
                rows.targets.kind,
                rows.targets.lengths,
            )._asdict(),
        }
        for count in range(1, rows.scores.shape[1] + 1)
    ]


def reliability(targets: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """In bins of the score: its mean, how often the class is there, and how many rows there are.

    ``error``: the expected calibration error, the mean distance of the two by rows.
    """
    truth, score = targets.ravel() > 0.5, np.clip(scores.ravel(), 0, 1)
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    some = np.maximum(rows, 1)
    mean = np.bincount(place, score, BINS) / some
    there = np.bincount(place, truth.astype(float), BINS) / some
    return {
        "score": mean.tolist(), "frequency": there.tolist(), "rows": rows.tolist(),
        "error": float((rows * np.abs(mean - there)).sum() / rows.sum()),
    }  # fmt: skip


def _reliabilities(run: RunDir, rows: OutOfFold, counted: np.ndarray) -> list[dict[str, Any]]:
    """Of the best member, and of the learners with the best metric."""
    plan = run.plan
    best = rows.scores[:, rows.best]
    found = [{"who": rows.seen.names[rows.best], **reliability(rows.targets.values, best)}]
    folders = [one for one in map(run.learner, plan.stage.learners) if one.scores.exists()]
    scores = [(read_json(folder.scores), folder) for folder in folders]
    own = [(s["out_of_fold"]["value"], s["title"], folder) for s, folder in scores
           if s["metric"] == rows.targets.metric]  # fmt: skip
    sign = -metric(rows.targets.metric).sign
    for _, title, folder in sorted(own, key=lambda row: sign * row[0])[:SHOWN]:
        fused = answer(Predictions.load(folder.out_of_fold), rows.targets.kind)
        found.append({"who": title, **reliability(rows.targets.values, fused[counted])})
    return found


def _thresholds(run: RunDir, rows: OutOfFold) -> dict[str, Any]:
    """F1 of the members' mean scores at each threshold, by class, and the thresholds chosen."""
    plan = run.plan
    mean, truth = rows.scores.mean(axis=1), rows.targets.values > 0.5
    curves = {}
    for k, name in enumerate(plan.classes):
        decided = mean[:, k, None] > THRESHOLDS
        hits = (decided & truth[:, k, None]).sum(axis=0)
        found = decided.sum(axis=0)
        counts = np.stack([hits, found - hits, truth[:, k].sum() - hits], axis=-1)
        curves[name] = f1_of_counts(counts).round(4).tolist()
    chosen = {}
    for name in plan.stage.learners:
        if run.learner(name).scores.exists():
            learner = load_learner(run.stack(name))
            bounds = learner.state().get("thresholds")
            if bounds is not None and learner.judged_by is None and name != "rank_mean":
                chosen[name] = bounds
    return {"at": THRESHOLDS.tolist(), "f1": curves, "chosen": chosen}
