"""A few clips of the test part to look at and to listen to, chosen by how well they were done."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from systems.data.dataset import Event, Labels
from systems.data.store import WaveformStore
from systems.frontend.log_mel import LogMel, LogMelFrontEnd
from systems.metrics.tagging import f1_of_counts
from systems.predictions import Predictions

EACH = 2  # clips for each reason


def choose_examples(
    predictions: Predictions,
    targets: np.ndarray,
    labels: Labels,
    tags: np.ndarray,
    events: np.ndarray | None,
    store: WaveformStore,
    folder: Path,
) -> list[dict[str, Any]]:
    """The worst clips by tags and by events, some in the middle, and the best.

    Args:
        predictions: of the model that is shown, N clips and K classes.
        targets: true tags [N, K].
        labels: the true labels, events or tags.
        tags, events: per-clip counts [N, K, 3]; ``events`` is ``None`` where labels or model have
            none.
        store: the clips' sound.
        folder: gets each example's sound as ``NN.flac``; what was in it goes.

    Returns:
        ``test.examples`` of docs/results.md.
    """
    tag_f1 = _clip_f1(tags)
    event_f1 = None if events is None else _clip_f1(events)
    front_end = LogMelFrontEnd(LogMel(rate=store.rate, hop=store.rate // 50))
    shutil.rmtree(folder, ignore_errors=True)
    found = []
    for place, (row, why) in enumerate(_chosen(tag_f1, event_f1), start=1):
        clip_id = predictions.clip_ids[row]
        sound = folder / f"{place:02d}.flac"
        _write_sound(sound, store[clip_id], store.rate)
        found.append(
            {
                "clip": clip_id,
                "why": why,
                "sound": f"{folder.name}/{sound.name}",
                "clip_f1": _number(tag_f1[row]),
                "event_f1": None if event_f1 is None else _number(event_f1[row]),
                "log_mel": _picture(front_end, store, clip_id),
                "true": _times(labels.values[clip_id]) if labels.kind == "events" else None,
                "predicted": _times(predictions.events[row]) if predictions.events else None,
                **_tags(predictions, targets, row),
            }
        )
    return found


def _chosen(tag_f1: np.ndarray, event_f1: np.ndarray | None) -> Iterator[tuple[int, str]]:
    """Rows and why, each row once. A clip with nothing in it and nothing found is a good one."""
    by_tags = np.nan_to_num(tag_f1, nan=1.0)
    by_events = by_tags if event_f1 is None else np.nan_to_num(event_f1, nan=1.0)
    order = [int(row) for row in np.lexsort((by_events, by_tags))]
    from_middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    middle = [order[place] for place in from_middle]
    reasons: list[tuple[str, Iterable[int]]] = [("one of the worst clips by their tags", order)]
    if event_f1 is not None:  # of equals those with good tags: else they are the same clips again
        worst = [int(row) for row in np.lexsort((-by_tags, by_events))]
        reasons.append(("one of the worst clips by their events", worst))
    reasons.append(("in the middle of all clips by their tags", middle))
    reasons.append(("one of the best clips", order[::-1]))
    taken: set[int] = set()
    for why, rows in reasons:
        for row in [row for row in rows if row not in taken][:EACH]:
            taken.add(row)
            yield row, why


def _clip_f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each clip [N] over all classes; nan where nothing is true and nothing predicted."""
    whole = counts.sum(axis=1)
    return np.where(whole.sum(axis=-1) == 0, np.nan, f1_of_counts(whole))


def _tags(predictions: Predictions, targets: np.ndarray, row: int) -> dict[str, Any]:
    assert predictions.clip_scores is not None
    scores, true = predictions.clip_scores[row], targets[row] > 0.5
    classes = predictions.classes
    return {
        "true_tags": [classes[k] for k in np.flatnonzero(true)],
        "predicted_tags": [classes[k] for k in np.flatnonzero(scores > 0.5)],
        "tags": {classes[k]: float(scores[k]) for k in np.flatnonzero(true | (scores > 0.5))},
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _times(events: Sequence[Event]) -> list[list[Any]]:
    return [[round(e.onset, 3), round(e.offset, 3), e.label] for e in events]


def _write_sound(path: Path, waveform: np.ndarray, rate: int) -> None:
    """A mono 16-bit FLAC, written aside and renamed; made softer only where it would clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    temporary = path.with_name(path.name + ".new")
    soundfile.write(temporary, waveform / peak, rate, format="FLAC", subtype="PCM_16")
    os.replace(temporary, path)


def _picture(front_end: LogMelFrontEnd, store: WaveformStore, clip_id: str) -> Mapping[str, Any]:
    with torch.no_grad():
        features = front_end(torch.from_numpy(np.array(store[clip_id]))[None])[0, 0].numpy()
    low, high = np.percentile(features, [5, 99.8])
    scaled = np.clip((features - low) / max(high - low, 1e-6), 0, 1)
    data = base64.b64encode((255 * scaled).astype(np.uint8).tobytes()).decode()
    return {"data": data, "shape": list(features.shape), "seconds": store.duration(clip_id)}
