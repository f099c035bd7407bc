"""A few clips of the test part to look at and to listen to, chosen by how well they were done."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from systems.data.dataset import Event
from systems.data.prepare import Sound
from systems.data.store import to_mono
from systems.files import whole
from systems.frontend.log_mel import LogMel, LogMelFrontEnd
from systems.kinds import Truth, kind
from systems.kinds.series import by_clip
from systems.metrics.metric import decided
from systems.metrics.tagging import f1_of_counts
from systems.predictions import Predictions

EACH = 2  # clips for each reason
WIDEST = 2000  # frames of a spectrogram that is shown


def choose_examples(
    predictions: Predictions,
    truth: Truth,
    counts: Mapping[str, np.ndarray],
    store: Sound,
    folder: Path,
) -> list[dict[str, Any]]:
    """The worst clips by what their kind of labels asks and by events, the middle, and the best.

    Args:
        predictions: of the model that is shown, N clips.
        truth: of the same clips.
        counts: of these predictions, by metric.
        store: the clips' sound.
        folder: gets each example's sound as ``NN.flac``; what was in it goes.

    Returns:
        ``test.examples`` of docs/results.md.
    """
    about = kind(truth.kind)
    scores = getattr(predictions, about.dense)
    closeness = about.closeness(truth, scores)
    true = by_clip(truth, truth.values) if about.ragged else truth.values
    clip_f1 = _clip_f1(decided(truth, scores)) if about.says_tags else None
    event_f1 = _clip_f1(counts["event_f1"]) if "event_f1" in counts else None
    shutil.rmtree(folder, ignore_errors=True)
    found = []
    for place, (row, why) in enumerate(_chosen(closeness, event_f1, about.words), start=1):
        clip_id = predictions.clip_ids[row]
        sound = folder / f"{place:02d}.flac"
        _write_sound(sound, store[clip_id], store.rate)
        found.append(
            {
                "clip": clip_id,
                "why": why,
                "sound": f"{folder.name}/{sound.name}",
                "clip_f1": None if clip_f1 is None else _number(clip_f1[row]),
                "event_f1": None if event_f1 is None else _number(event_f1[row]),
                "log_mel": _picture(store, clip_id),
                "true": None if truth.events is None else _times(truth.events[row]),
                "predicted": _times(predictions.events[row]) if predictions.events else None,
                **_said(truth, true[row], scores[row]),
            }
        )
        if about.told is not None and np.isfinite(closeness[row]):
            name, read = about.told
            found[-1][name] = round(read(float(closeness[row])), 3)
        if about.ragged:
            found[-1]["series"]["hop"] = predictions.frame_hop
            found[-1]["series"]["pcc"] = float(closeness[row])
    return found


def _chosen(
    closeness: np.ndarray, event_f1: np.ndarray | None, words: str
) -> Iterator[tuple[int, str]]:
    """Rows and why, each row once. A clip with nothing in it and nothing found is a good one."""
    by_clip = np.nan_to_num(closeness, nan=1.0)
    by_events = by_clip if event_f1 is None else np.nan_to_num(event_f1, nan=1.0)
    order = [int(row) for row in np.lexsort((by_events, by_clip))]
    from_middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    middle = [order[place] for place in from_middle]
    reasons: list[tuple[str, Iterable[int]]] = [(f"one of the worst clips by their {words}", order)]
    if event_f1 is not None:  # of equals those with good tags: else they are the same clips again
        worst = [int(row) for row in np.lexsort((-by_clip, by_events))]
        reasons.append(("one of the worst clips by their events", worst))
    reasons.append((f"in the middle of all clips by their {words}", middle))
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


def _said(truth: Truth, true: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """What is true of a clip [K] and what its scores [K] say: classes, or a regression's values, of
    a series [T, K] each output's at all steps."""
    classes, about = truth.classes, kind(truth.kind)
    none: dict[str, Any] = {"true_tags": [], "predicted_tags": []}
    if about.ragged:
        series = {"true": _rounded(classes, true), "predicted": _rounded(classes, scores)}
        return {**none, "tags": {}, "series": series}
    if about.decide is None:
        values = {name: float(value) for name, value in zip(classes, true, strict=True)}
        said = {name: float(value) for name, value in zip(classes, scores, strict=True)}
        return {**none, "tags": said, "true_values": values}
    ideal = about.ideal(true[None])[0]
    if about.ranks:  # among the items that the query searches
        scores = np.where(np.isnan(ideal), -np.inf, scores)
    there, found = ideal > 0.5, about.decide(scores[None])[0]
    return {
        "true_tags": [classes[k] for k in np.flatnonzero(there)],
        "predicted_tags": [classes[k] for k in np.flatnonzero(found)],
        "tags": {classes[k]: float(scores[k]) for k in np.flatnonzero(there | found)},
    }


def _rounded(outputs: Sequence[str], rows: np.ndarray) -> dict[str, list[float]]:
    """Each output's values at the steps [T, D], as many digits as a picture shows."""
    return {name: [float(f"{value:.4g}") for value in rows[:, d]]
            for d, name in enumerate(outputs)}  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _times(events: Sequence[Event]) -> list[list[Any]]:
    return [[round(e.onset, 3), round(e.offset, 3), e.label] for e in events]


def _write_sound(path: Path, waveform: np.ndarray, rate: int) -> None:
    """A 16-bit FLAC, written aside and renamed; made softer only where it would clip."""
    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    with whole(path) as temporary:
        soundfile.write(temporary, (waveform / peak).T, rate, format="FLAC", subtype="PCM_16")


def _picture(store: Sound, clip_id: str) -> Mapping[str, Any]:
    hop = max(store.rate // 50, round(store.duration(clip_id) * store.rate / WIDEST))
    front_end = LogMelFrontEnd(LogMel(rate=store.rate, hop=hop))
    with torch.no_grad():
        features = front_end(torch.from_numpy(np.array(to_mono(store[clip_id])))[None])[
            0, 0
        ].numpy()
    low, high = np.percentile(features, [5, 99.8])
    scaled = np.clip((features - low) / max(high - low, 1e-6), 0, 1)
    data = base64.b64encode((255 * scaled).astype(np.uint8).tobytes()).decode()
    return {"data": data, "shape": list(features.shape), "seconds": store.duration(clip_id)}
