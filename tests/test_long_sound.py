"""Sound that is longer than a system takes: its windows, joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stacked
from scored import noise

from orchestrator.models import sound
from orchestrator.models.inference import Models, Predictor
from orchestrator.models.sound import join, windows
from orchestrator.plan.stage import Manner
from orchestrator.stacking.families import learner
from systems.context import Context
from systems.data.dataset import Event
from systems.data.store import load_mono
from systems.postprocessing.decoding import Decoding, decode


@pytest.fixture(scope="module")
def best(bundles: dict[str, Path]) -> Predictor:
    return Predictor.load(bundles["best"])


def test_a_long_file_is_the_mean_of_its_windows_at_any_rate(
    best: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(35, 44_100, 2).T, 44_100)
    samples, rate = soundfile.read(path, dtype="float32")
    member = best.members[0].first
    mono = load_mono(samples.T, rate, 16_000)
    step = 12  # frames: half of 16000 samples in hops of 664
    starts = range(0, len(mono) - 16_000 + step * 664, step * 664)
    cuts = [mono[start : start + 16_000] for start in starts]
    clips, frames = member.score(cuts, Context())
    total, weight = np.zeros((900, 10)), np.zeros((900, 1))
    for place, scores in enumerate(frames):
        for t, row in enumerate(scores):
            w = min(t + 0.5, len(scores) - t - 0.5)
            total[place * step + t] += w * row
            weight[place * step + t] += w
    whole = (total / np.maximum(weight, 1e-9))[: int(np.ceil(35 * 16_000 / 664))]
    middle = {"thresholds": np.median(whole, axis=0).tolist(), "medians": [9] * 10}
    decided = replace(best, members=(Models((member.with_decision(middle),), {}),))

    monkeypatch.setattr(sound, "BLOCK", 50_001)
    found = decided.predict_files([path])[0]
    assert found.duration == 35.0
    assert np.abs(np.array(list(found.tags.values())) - clips.max(axis=0)).max() < 1e-5
    decoding = Decoding(tuple(middle["thresholds"]), (9,) * 10)
    expected = decode(whole.astype(np.float32), decoding, best.classes, 664 / 16_000, 35.0)
    assert [event[:3] for event in found.events] == [tuple(event) for event in expected]
    assert len(found.events) > 10
    assert decided.predict_waveform(samples.T, rate, str(path)) == found


@dataclass(frozen=True)
class Loudness:
    """A system that hears one class: a frame's score is its mean amplitude. One second, 10 ms."""

    rate: int = 8000
    samples: int = 8000
    frame_hop: float = 0.01

    def score(self, waveforms: Any, context: Any) -> tuple[np.ndarray, np.ndarray]:
        assert max(map(len, waveforms)) <= self.samples
        rows = [np.pad(w, (0, self.samples - len(w))) for w in waveforms]
        frames = np.abs(np.stack(rows)).reshape(len(rows), -1, 80).mean(axis=2)[..., None]
        return frames.max(axis=1), frames

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


def test_windows_overlap_by_half_and_reach_the_end() -> None:
    sound = np.arange(25, dtype=np.float32)
    for size in (1, 3, 7, 25):
        blocks = [sound[start : start + size] for start in range(0, 25, size)]
        cut = list(windows(blocks, 10, 5))
        assert [w[0] for w in cut] == [0, 5, 10, 15]
        assert [len(w) for w in cut] == [10, 10, 10, 10]
    assert [len(w) for w in windows([sound[:10]], 10, 5)] == [10]
    assert [len(w) for w in windows([sound[:11]], 10, 5)] == [10, 6]


def test_joined_windows_are_weighted_by_a_triangle() -> None:
    joined = join([np.zeros((4, 1)), np.ones((4, 1))], 2)
    assert joined[:, 0] == pytest.approx([0, 0, 0.25, 0.75, 1, 1])
