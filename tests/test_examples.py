"""The clips that the report shows, chosen by how well they were answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from orchestrator.report import plots
from orchestrator.runs.counts import counted
from orchestrator.scoring.examples import choose_examples
from systems.data.dataset import Event, Labels
from systems.data.store import WaveformStore
from systems.kinds import Truth, kind
from systems.predictions import Predictions

RATE = 8000
CLIPS = tuple(f"c{i}" for i in range(12))


@pytest.fixture
def store(tmp_path: Path) -> WaveformStore:
    """Twelve clips of 1 s; clip 0 is louder than a file can hold, clip 1 is soft."""
    folder = tmp_path / "store"
    folder.mkdir()
    waves = 0.5 * np.random.default_rng(0).uniform(-1, 1, (12, RATE)).astype(np.float32)
    waves[0] *= 5
    waves[1] *= 0.01
    waves.tofile(folder / "waveforms.f32")
    places = [[f"c{i}", i * RATE, (i + 1) * RATE] for i in range(12)]
    index = {"clips": places, "digests": [f"{i:x}" for i in range(12)]}
    (folder / "index.json").write_text(json.dumps(index))
    return WaveformStore(str(folder), RATE)


def scored_clips() -> tuple[Predictions, Truth]:
    """Twelve clips of two classes: 0 has wrong tags; 2 and 3 the right tags at wrong times; 4 has
    nothing in it and nothing predicted; 5 to 10 a tag too many, 9 and 10 wrong times too; 1 and 11
    are right."""
    targets = np.zeros((12, 2))
    targets[:, 0] = 1
    targets[4] = 0
    scores = np.where(targets > 0.5, 0.9, 0.1)
    scores[0] = (0.2, 0.8)
    scores[5:11, 1] = 0.7
    true = {c: (Event(0.1, 0.5, "a"),) if targets[i, 0] else () for i, c in enumerate(CLIPS)}
    found = [list(true[c]) for c in CLIPS]
    found[0] = [Event(0.1, 0.5, "b")]
    for clip in (2, 3, 9, 10):
        found[clip] = [Event(0.6, 0.9, "a")]
    predictions = Predictions.of(CLIPS, ("a", "b"), clip_scores=scores, events=found)
    truth = kind("events").truth(Labels("events", true), CLIPS, ("a", "b"))
    np.testing.assert_array_equal(truth.values, targets)
    return predictions, truth


def test_examples_are_the_worst_the_middle_and_the_best(
    store: WaveformStore, tmp_path: Path
) -> None:
    predictions, truth = scored_clips()
    counts = counted(predictions, truth, "clip_macro_f1")
    folder = tmp_path / "run" / "examples"
    folder.mkdir(parents=True)
    (folder / "09.flac").write_bytes(b"of an earlier scoring")
    found = choose_examples(predictions, truth, counts, store, folder)
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
    whole, _ = scored_clips()
    assert whole.clip_scores is not None
    predictions = Predictions.of(CLIPS, ("a", "b"), clip_scores=whole.clip_scores)
    labels = Labels("tags", dict.fromkeys(CLIPS, ("a",)))
    truth = kind("tags").truth(labels, CLIPS, ("a", "b"))
    counts = counted(predictions, truth, "clip_macro_f1")
    found = choose_examples(predictions, truth, counts, store, tmp_path / "run" / "examples")
    assert len(found) == 6
    assert found[0]["true"] is found[0]["predicted"] is found[0]["event_f1"] is None
    results = {"run": {"classes": ["a", "b"]}}
    alt = plots._example(found[0], results, tmp_path / "x.png").alt
    assert "True tags: a. Predicted tags: b." in alt


def test_examples_of_a_class_are_by_its_score_and_name_the_largest(
    store: WaveformStore, tmp_path: Path
) -> None:
    classes = tuple(f"k{k}" for k in range(5))
    scores = np.full((12, 5), 0.15)  # no class is above 0.5
    scores[:, 0] = np.linspace(0.1, 0.45, 12)
    scores[:2, 3] = 0.4  # wrong: the largest is another class
    predictions = Predictions.of(CLIPS, classes, clip_scores=scores)
    truth = kind("class").truth(Labels("class", dict.fromkeys(CLIPS, "k0")), CLIPS, classes)
    found = choose_examples(predictions, truth, {}, store, tmp_path / "run" / "examples")
    assert [example["clip"] for example in found[:2]] == ["c0", "c1"]
    assert [example["clip"] for example in found[-2:]] == ["c11", "c10"]
    assert found[0]["why"].endswith("by their class")
    worst, best = found[0], found[-2]
    assert (worst["true_tags"], worst["predicted_tags"], worst["clip_f1"]) == (["k0"], ["k3"], 0)
    assert worst["tags"] == {"k0": pytest.approx(0.1), "k3": pytest.approx(0.4)}
    assert (best["true_tags"], best["predicted_tags"], best["clip_f1"]) == (["k0"], ["k0"], 1)


def test_examples_of_values_are_by_their_error(store: WaveformStore, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12)
    labels = Labels("values", dict(zip(CLIPS, values, strict=True)))
    said = values[:, None].copy()
    said[7] += 3
    said[2] -= 2
    predictions = Predictions.of(CLIPS, ("presence",), clip_values=said)
    truth = kind("values").truth(labels, CLIPS, ("presence",))
    found = choose_examples(predictions, truth, {}, store, tmp_path / "run" / "examples")
    assert [example["clip"] for example in found[:2]] == ["c7", "c2"]
    assert found[0]["true_values"] == {"presence": pytest.approx(values[7])}
    assert found[0]["tags"] == {"presence": pytest.approx(values[7] + 3)}
    assert found[0]["clip_f1"] is None
