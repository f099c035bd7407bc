"""Files longer than a training clip, and what lies over the ends of windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import stacked
from scored import noise

from orchestrator.models import sound
from orchestrator.models.inference import Models, Predictor
from orchestrator.plan.stage import Manner
from orchestrator.stacking.families import learner
from systems.context import Context
from systems.data.dataset import Event
from systems.data.prepare import Waveforms
from systems.data.store import load_mono
from systems.postprocessing.decoding import Decoding, decode


@pytest.fixture(scope="module")
def best(bundles: dict[str, Path]) -> Predictor:
    return Predictor.load(bundles["best"])


def test_a_long_file_is_what_the_clip_is_at_any_rate(
    best: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(35, 44_100, 2).T, 44_100)
    samples, rate = soundfile.read(path, dtype="float32")
    member = best.members[0].first
    mono = load_mono(samples.T, rate, 16_000)
    clips = Waveforms(16_000, {"short": mono[:9000], "long": mono})
    scores = member.predict(("long",), {"audio": clips}, Context()).frame_scores[0]
    middle = {"thresholds": np.median(scores, axis=0).tolist(), "medians": [9] * 10}
    decided = member.with_decision(middle)
    clip = decided.predict(("short", "long"), {"audio": clips}, Context()).rows([1])

    monkeypatch.setattr(sound, "BLOCK", 50_001)
    predictor = replace(best, members=(Models((decided,), {}),))
    found = predictor.predict_files([path])[0]
    assert found.duration == 35.0
    assert np.abs(np.array(list(found.tags.values())) - clip.clip_scores[0]).max() < 1e-5
    assert [event[:3] for event in found.events] == [tuple(event) for event in clip.events[0]]
    assert len(found.events) > 10
    assert predictor.predict_waveform(samples.T, rate, str(path)) == found


@dataclass(frozen=True)
class Loudness:
    """A system that hears one class: a frame's score is its mean amplitude, every 10 ms."""

    rate: int = 8000
    frame_hop: float = 0.01
    frame_start: float = 0.0
    channels = "mono"
    tracks: ClassVar[dict[str, Any]] = {}

    def score(self, waveforms: Any, context: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = [np.pad(w, (0, -len(w) % 80)) for w in waveforms]
        frames = [np.abs(row).reshape(-1, 80).mean(axis=1)[:, None] for row in rows]
        return np.stack([one.max(axis=0) for one in frames]), frames

    def timed(self, frames: np.ndarray, duration: float) -> tuple[np.ndarray, tuple[Event, ...]]:
        kept = frames[: int(np.ceil(duration / self.frame_hop))]
        return kept, decode(kept, Decoding.plain(1), ["loud"], self.frame_hop, duration)


def loud() -> Predictor:
    about = {"classes": ["loud"], "label_kind": "tags", "mean_of_folds": "arithmetic",
             "members": [{"trial": 0}]}  # fmt: skip
    return Predictor(about, (Models((Loudness(),), {}),), None, Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.01, 1.5, 7.77])
def test_events_over_cuts_stay_whole_and_nothing_is_lost(seconds: float) -> None:
    sound = np.full((1, round(seconds * 8000)), 0.2, np.float32)
    sound[:, 800:-400] = 0.9
    sound[:, -480:-400] = 0.6  # its last frame
    frames = (sound.size - 1200) / 80
    found = loud().predict_waveform(sound, 8000)
    (event,) = found.events
    assert event[:2] == (pytest.approx(0.1), pytest.approx(seconds - 0.05))
    assert event.score == pytest.approx(0.9 - 0.3 / frames)
    assert found.tags["loud"] == pytest.approx(0.9)
    assert found.present() == ("loud",)


def test_snapshots_of_the_only_folds_training_are_heard() -> None:
    """One official fold: the fold's one model predicts, not a refit."""
    members, targets = stacked.epochs(0)
    assert members.epochs is not None
    one = {epoch: scores[:, :1] for epoch, scores in members.epochs[0].items()}
    seen = replace(members, scores=members.scores[:, :, :1], epochs=(one,), classes=("loud",),
                   fold=np.zeros(len(targets.values), int))  # fmt: skip
    manner = Manner(by_fold=True, folds_predict=True)
    made = learner("snapshot_mean", None, manner)
    made.fit(seen, replace(targets, values=targets.values[:, :1]), 0)
    chosen = made.snapshots()[0, 0]
    models = Models((Loudness(),), {(0, epoch): Loudness() for epoch in chosen}, of_folds=True)  # type: ignore[arg-type, dict-item]
    predictor = Predictor(loud().about, (models,), made, Context())
    found = predictor.predict_waveform(np.full((1, 8000), 0.6, np.float32), 8000)
    assert found.tags["loud"] == pytest.approx(0.6)
