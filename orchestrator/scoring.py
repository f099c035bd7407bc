"""The one door to test labels. Each opening is in the ledger before a label is read."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from orchestrator.members import OutOfFold, decision_variants, is_transductive
from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, read_json, write_json
from orchestrator.stacking.base import learner
from systems.data.dataset import Dataset, Event, Labels
from systems.data.store import WaveformStore
from systems.frontend.log_mel import LogMel, LogMelFrontEnd
from systems.metrics.events import (
    class_er_of_counts,
    event_counts,
    event_er_of_counts,
    event_f1_of_counts,
)
from systems.metrics.intervals import bootstrap
from systems.metrics.tagging import f1_of_counts, macro_f1_of_counts, tag_counts
from systems.predictions import Predictions

EXAMPLES = 3  # clips shown of the worst and of the best


def score_test_once(
    run: RunDir, plan: Plan, dataset: Dataset, store: WaveformStore, rows: OutOfFold
) -> None:
    """Score refits, the paper's decision variants and the meta-learners, in one opening.

    Does nothing where scores.json is there.
    """
    if run.scores.exists():
        return
    candidates = _candidates(run, plan, rows)
    labels, openings = open_test_labels(
        run, plan, dataset, [f"{c['who']}, {c['variant']}" for c in candidates]
    )
    clip_ids = tuple(c.clip_id for c in dataset.part(dataset.test_part))
    targets = labels.tag_matrix(clip_ids, plan.classes)
    scored, event_f1 = [], None
    for candidate in candidates:
        predictions = candidate.pop("predictions")
        tags = tag_counts(targets, predictions.clip_scores > 0.5)
        events = None
        if labels.kind == "events" and predictions.events is not None:
            estimated = dict(zip(clip_ids, predictions.events, strict=True))
            events = event_counts({i: labels.values[i] for i in clip_ids}, estimated, plan.classes)
        if event_f1 is None:
            event_f1 = np.zeros(len(clip_ids)) if events is None else _clip_f1(events)
            shown = _examples(predictions, targets, labels, tags, event_f1, store)
        scored.append({**candidate, **_metrics(tags, events, plan.classes)})
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
        "protocol": "honest",
        "predictions": list(predictions),
    }

    def record() -> None:
        with open(run.ledger, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    labels = dataset.open_sealed(dataset.test_part, record)
    lines = run.ledger.read_text(encoding="utf-8").splitlines()
    same = [line for line in map(json.loads, lines) if line["fingerprint"] == plan.fingerprint]
    return labels, len(same)


def _candidates(run: RunDir, plan: Plan, rows: OutOfFold) -> list[dict[str, Any]]:
    variants = decision_variants(plan)
    first = next(iter(variants))
    found: list[dict[str, Any]] = []
    for place, number in enumerate(rows.members):
        for variant in variants if place == 0 else [first]:
            found.append(
                {
                    "who": f"trial {number}, refitted",
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
    for folder in run.stacks():
        stored = read_json(folder / "learner.json")
        fitted = learner(stored["name"])
        fitted.load(stored["state"])
        scores = fitted.predict(stacked)
        predictions = Predictions.of(members[0].clip_ids, plan.classes, clip_scores=scores)
        predictions.with_data(**members[0].data).save(folder / "test.npz")
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


def _clip_f1(counts: np.ndarray) -> np.ndarray:
    return f1_of_counts(counts.sum(axis=1))


def _examples(
    predictions: Predictions,
    targets: np.ndarray,
    labels: Labels,
    tags: np.ndarray,
    event_f1: np.ndarray,
    store: WaveformStore,
) -> list[dict[str, Any]]:
    """The worst clips by tags, then by events, and the best ones: spectrogram, truth, decision."""
    order = np.lexsort((event_f1, _clip_f1(tags)))
    chosen = [(int(row), "worst clips") for row in order[:EXAMPLES]]
    chosen += [(int(row), "best clips") for row in order[::-1][:EXAMPLES]]
    front_end = LogMelFrontEnd(LogMel(rate=store.rate, hop=store.rate // 50))
    assert predictions.clip_scores is not None
    found = []
    for row, why in chosen:
        clip_id = predictions.clip_ids[row]
        present = np.flatnonzero((predictions.clip_scores[row] > 0.5) | (targets[row] > 0.5))
        found.append(
            {
                "clip": clip_id,
                "why": why,
                "log_mel": _picture(front_end, store, clip_id),
                "true": _times(labels.values[clip_id]) if labels.kind == "events" else [],
                "predicted": _times(predictions.events[row]) if predictions.events else [],
                "tags": {
                    predictions.classes[k]: float(predictions.clip_scores[row, k]) for k in present
                },
            }
        )
    return found


def _times(events: Sequence[Event]) -> list[list[Any]]:
    return [[round(e.onset, 3), round(e.offset, 3), e.label] for e in events]


def _picture(front_end: LogMelFrontEnd, store: WaveformStore, clip_id: str) -> Mapping[str, Any]:
    with torch.no_grad():
        features = front_end(torch.from_numpy(np.array(store[clip_id]))[None])[0, 0].numpy()
    low, high = np.percentile(features, [5, 99.8])
    scaled = np.clip((features - low) / max(high - low, 1e-6), 0, 1)
    data = base64.b64encode((255 * scaled).astype(np.uint8).tobytes()).decode()
    return {"data": data, "shape": list(features.shape), "seconds": store.duration(clip_id)}
