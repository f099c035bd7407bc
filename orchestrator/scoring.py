"""The one door to test labels. Each opening is in the ledger before a label is read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.counts import save_counts
from orchestrator.members import OutOfFold, decision_variants, is_transductive, variants_of
from orchestrator.plan import Plan
from orchestrator.report.examples import choose_examples
from orchestrator.rundir import RunDir, append_line, read_json, read_lines, write_json
from orchestrator.stacking.base import learner
from orchestrator.stacking.event_thresholds import Frames, GeneticEventThresholds
from systems.data.dataset import Dataset, Labels
from systems.data.store import WaveformStore
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
    run: RunDir, plan: Plan, dataset: Dataset, store: WaveformStore, rows: OutOfFold
) -> None:
    """Score refits, the paper's decision variants and the meta-learners, in one opening.

    Does nothing where scores.json is there.
    """
    if run.scores.exists():
        return
    seconds = {clip.clip_id: clip.duration for clip in dataset.clips}
    candidates = _candidates(run, plan, rows, seconds)
    labels, openings = open_test_labels(
        run, plan, dataset, [f"{c['who']}, {c['variant']}" for c in candidates]
    )
    clip_ids = tuple(c.clip_id for c in dataset.part(dataset.test_part))
    targets = labels.tag_matrix(clip_ids, plan.classes)
    scored, counts, shown = [], [], None
    for candidate in candidates:
        predictions = candidate.pop("predictions")
        tags = tag_counts(targets, predictions.clip_scores > 0.5)
        events = None
        if labels.kind == "events" and predictions.events is not None:
            estimated = dict(zip(clip_ids, predictions.events, strict=True))
            events = event_counts({i: labels.values[i] for i in clip_ids}, estimated, plan.classes)
        if shown is None:
            shown = choose_examples(
                predictions, targets, labels, tags, events, store, run.path / "examples"
            )
        scored.append({**candidate, **_metrics(tags, events, plan.classes)})
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


def _candidates(
    run: RunDir, plan: Plan, rows: OutOfFold, seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    variants = decision_variants(plan)
    first, refit = next(iter(variants)), plan.final_is_refit()
    found: list[dict[str, Any]] = []
    for place, number in enumerate(rows.members):
        for variant in variants_of(plan, variants, place):
            found.append(
                {
                    "who": f"trial {number}, refitted" if refit else f"training {number}",
                    "trial": number,
                    "learner": None,
                    "variant": variant,
                    "best": place == 0,
                    "transductive": is_transductive(plan, variants[variant]),
                    "refinement": read_json(run.trial(number).decision(variant)),
                    "predictions": Predictions.load(run.trial(number).test_predictions(variant)),
                }
            )
    members = [c["predictions"] for c in found if c["variant"] == first]
    stacked = np.stack([m.clip_scores for m in members], axis=1)
    for name in plan.stack:
        stored = read_json(run.stack(name) / "learner.json")
        fitted = learner(stored["name"])
        fitted.load(stored["state"])
        events = None
        if isinstance(fitted, GeneticEventThresholds):
            frames = Frames.of(members, [seconds[i] for i in members[0].clip_ids])
            events = frames.events(fitted.thresholds, plan.classes)
        predictions = Predictions.of(
            members[0].clip_ids, plan.classes, clip_scores=fitted.predict(stacked), events=events
        )
        predictions.with_data(**members[0].data).save(run.stack(name) / "test.npz")
        found.append(
            {
                "who": fitted.title,
                "trial": None,
                "learner": fitted.name,
                "variant": None,
                "best": False,
                "transductive": False,
                "refinement": None,
                "predictions": predictions,
            }
        )
    return found


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
