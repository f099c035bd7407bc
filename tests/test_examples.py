"""The clips that the report shows."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from reported import example as results

from orchestrator.report import plots
from orchestrator.scoring.examples import choose_examples
from systems.data.dataset import Event, Labels
from systems.data.store import WaveformStore
from systems.metrics.events import event_counts
from systems.metrics.tagging import tag_counts
from systems.predictions import Predictions

RATE = 8000


@pytest.fixture
def store(tmp_path: Path) -> WaveformStore:
    """Twelve clips of 1 s; clip 0 is louder than a file can hold, clip 1 is soft."""
    folder = tmp_path / "store"
    folder.mkdir()
    waves = 0.5 * np.random.default_rng(0).uniform(-1, 1, (12, RATE)).astype(np.float32)
    waves[0] *= 5
    waves[1] *= 0.01
    waves.tofile(folder / "waveforms.f32")
    index = {"clips": [[f"c{i}", i * RATE, (i + 1) * RATE] for i in range(12)]}
    (folder / "index.json").write_text(json.dumps(index))
    return WaveformStore(str(folder), RATE)


def scored_clips() -> tuple[Predictions, np.ndarray, Labels]:
    """Twelve clips of two classes: 0 has wrong tags; 2 and 3 the right tags at wrong times; 4 has
    nothing in it and nothing predicted; 5 to 10 a tag too many, 9 and 10 wrong times too; 1 and 11
    are right."""
    ids = tuple(f"c{i}" for i in range(12))
    targets = np.zeros((12, 2))
    targets[:, 0] = 1
    targets[4] = 0
    scores = np.where(targets > 0.5, 0.9, 0.1)
    scores[0] = (0.2, 0.8)
    scores[5:11, 1] = 0.7
    true = {c: (Event(0.1, 0.5, "a"),) if targets[i, 0] else () for i, c in enumerate(ids)}
    found = [list(true[c]) for c in ids]
    found[0] = [Event(0.1, 0.5, "b")]
    for clip in (2, 3, 9, 10):
        found[clip] = [Event(0.6, 0.9, "a")]
    predictions = Predictions.of(ids, ("a", "b"), clip_scores=scores, events=found)
    return predictions, targets, Labels("events", true)


def test_examples_are_the_worst_the_middle_and_the_best(
    store: WaveformStore, tmp_path: Path
) -> None:
    predictions, targets, labels = scored_clips()
    tags = tag_counts(targets, predictions.clip_scores > 0.5)  # type: ignore[operator]
    events = dict(zip(predictions.clip_ids, predictions.events, strict=True))  # type: ignore[arg-type]
    counts = event_counts(labels.values, events, ("a", "b"))
    folder = tmp_path / "run" / "examples"
    folder.mkdir(parents=True)
    (folder / "09.flac").write_bytes(b"of an earlier scoring")
    found = choose_examples(predictions, targets, labels, tags, counts, store, folder)
    clips = [example["clip"] for example in found]
    assert clips[:4] == ["c0", "c9", "c2", "c3"]
    assert set(clips[4:6]) < {f"c{i}" for i in range(5, 11)}
    assert len(set(clips)) == len(clips) == 8
    assert [example["why"].split(" by ")[-1] for example in found[:4]] == [
        "their tags", "their tags", "their events", "their events"]  # fmt: skip
    assert found[2] | {"log_mel": 0} == {
        "clip": clips[2], "why": "one of the worst clips by their events",
        "sound": "examples/03.flac", "clip_f1": 1.0, "event_f1": 0.0, "log_mel": 0,
        "true": [[0.1, 0.5, "a"]], "predicted": [[0.6, 0.9, "a"]], "true_tags": ["a"],
        "predicted_tags": ["a"], "tags": {"a": pytest.approx(0.9)},
    }  # fmt: skip
    assert sorted(p.name for p in folder.iterdir()) == [f"0{i}.flac" for i in range(1, 9)]
    for example in found:
        sound, rate = soundfile.read(folder.parent / example["sound"])
        wave = store[example["clip"]]
        assert rate == RATE
        assert np.abs(sound - wave / max(1.0, np.abs(wave).max())).max() < 1e-4


def test_examples_of_labels_without_events(store: WaveformStore, tmp_path: Path) -> None:
    whole, targets, _ = scored_clips()
    assert whole.clip_scores is not None
    predictions = Predictions.of(whole.clip_ids, ("a", "b"), clip_scores=whole.clip_scores)
    labels = Labels("tags", dict.fromkeys(whole.clip_ids, ("a",)))
    tags = tag_counts(targets, whole.clip_scores > 0.5)
    found = choose_examples(
        predictions, targets, labels, tags, None, store, tmp_path / "run" / "examples"
    )
    assert len(found) == 6
    assert found[0]["true"] is found[0]["predicted"] is found[0]["event_f1"] is None
    results = {"run": {"classes": ["a", "b"]}}
    alt = plots._example(found[0], results, tmp_path / "x.png").alt
    assert "True tags: a. Predicted tags: b." in alt


def test_spectrogram_is_read_row_by_row() -> None:
    first = results()["test"]["examples"][0]
    first["log_mel"] = {"data": base64.b64encode(bytes(range(6))).decode(), "shape": [2, 3]}
    assert plots.log_mel(first).tolist() == [[0, 1, 2], [3, 4, 5]]
