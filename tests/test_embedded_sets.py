"""The embedded sets of scenes, masked speech and breath: as promised, learnable, not trivial."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from systems import data
from systems.data import synthetic_breath
from systems.data.dataset import Clip, Dataset
from systems.data.splits import make_splits
from systems.errors import UserError
from systems.frontend.log_mel import LogMel, LogMelFrontEnd
from systems.metrics import clip_metric

SETS = ("synthetic_breath", "synthetic_scenes", "synthetic_speech")
STREETS = "synthetic_streets"  # which has no test part
FRONT_END = LogMelFrontEnd(LogMel(rate=16_000, window=1024, hop=640, bands=40))


def log_mel(dataset: Dataset, clip: Clip) -> np.ndarray:
    """[T, F] of a clip, 25 frames a second."""
    samples, _ = dataset.source.read(clip.clip_id)
    with torch.no_grad():
        features: np.ndarray = FRONT_END(torch.from_numpy(samples))[0, 0].numpy().T
    return features


def digest(name: str) -> str:
    dataset = data.load(name, None)
    found = hashlib.sha256(dataset.fingerprint().encode())
    for clip in (dataset.clips[0], dataset.clips[-1]):
        found.update(dataset.source.read(clip.clip_id)[0].tobytes())
    for labels in dataset.labels.values():
        for clip_id, value in labels.values.items():
            found.update(clip_id.encode() + np.asarray(value).tobytes())
    return found.hexdigest()


def test_they_are_the_same_in_another_process() -> None:
    command = [sys.executable, __file__]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert other == [digest(name) for name in (*SETS, STREETS)]


@pytest.mark.parametrize("name", SETS)
def test_sound_parts_and_groups(name: str) -> None:
    dataset = data.load(name, None)
    copy = pickle.loads(pickle.dumps(dataset.source))
    for clip in dataset.clips[:: len(dataset.clips) // 4]:
        samples, rate = copy.read(clip.clip_id)
        assert rate == 16_000
        assert samples.shape == (1, round(clip.duration * rate))
        assert samples.dtype == np.float32
        assert 0.003 < np.abs(samples).max() < 1.0
    parts: dict[str, set[str]] = {}
    for clip in dataset.clips:
        parts.setdefault(clip.group, set()).add(clip.part)
    assert all(len(of_group) == 1 for of_group in parts.values())
    assert dataset.sealed_kind["test"] == dataset.label_kind("train")
    make_splits(dataset, seed=0)
    with pytest.raises(UserError, match="takes no folder"):
        data.load(name, "somewhere")


def classifier(x: np.ndarray, y: list[str]) -> object:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500)).fit(x, y)


def statistics(dataset: Dataset, clips: list[Clip]) -> np.ndarray:
    """[N, 3 F]: mean, deviation and roughness of each log-mel band."""
    found = [log_mel(dataset, clip) for clip in clips]
    return np.stack([np.concatenate([m.mean(0), m.std(0), np.diff(m, axis=0).std(0)])
                     for m in found])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part", "every", "low", "high"),
    [("synthetic_scenes", "test", 2, 0.35, 0.85), ("synthetic_speech", "devel", 2, 0.65, 0.97)],
)
def test_classes_can_be_learnt(name: str, part: str, every: int, low: float, high: float) -> None:
    """Of chance 1/6 and 1/2."""
    dataset = data.load(name, None)
    scored = dataset.labels[part] if part in dataset.labels else dataset.sealed[part]()
    labels = {**dataset.labels["train"].values, **scored.values}
    train, other = list(dataset.part("train")[::every]), list(dataset.part(part)[::every])
    made = classifier(statistics(dataset, train), [labels[c.clip_id] for c in train])
    score = made.score(statistics(dataset, other), [labels[c.clip_id] for c in other])  # type: ignore[attr-defined]
    assert low < score < high


def test_devices_heard_the_same_moments_and_most_training_clips_are_of_one() -> None:
    dataset = data.load("synthetic_scenes", None)
    assert Counter(c.columns["device"] for c in dataset.part("train")) == {
        "a": 240, "b": 30, "c": 30}  # fmt: skip
    assert Counter(c.columns["device"] for c in dataset.part("test")) == {
        "a": 48, "b": 48, "c": 48}  # fmt: skip
    assert len({c.group for c in dataset.clips}) == 6 * 12
    by_a, by_b, by_c = (log_mel(dataset, clip) for clip in dataset.part("test")[:3])
    other = log_mel(dataset, dataset.part("test")[3])

    def alike(one: np.ndarray, two: np.ndarray) -> float:
        centred = [(m - m.mean(0)).ravel() for m in (one, two)]
        return float(np.corrcoef(*centred)[0, 1])

    assert min(alike(by_a, by_b), alike(by_a, by_c)) > alike(by_a, other) + 0.2
    assert np.abs(by_b.mean(0) - by_a.mean(0)).max() > 0.5


def test_the_belt_rises_with_breath_and_falls_with_speech() -> None:
    for clip_id in ("train_00", "test_03"):
        signal = synthetic_breath.belt(clip_id)[:, 0]
        assert signal.shape == (1000,)
        assert np.abs(signal).max() < 1.5
        drawn, spoken = [], []
        for breath in synthetic_breath.breaths(clip_id)[:-1]:
            at = [round(second * 25) for second in breath[:3]]
            drawn.append(signal[at[1]] - signal[at[0]])
            spoken.append(signal[at[2]] - signal[at[1]])
        assert np.mean(drawn) > 0.2
        assert np.mean(spoken) < -0.2


def test_the_belt_can_be_learnt() -> None:
    """By ridge regression on smoothed log-mel, of which some look a second back."""
    from sklearn.linear_model import Ridge

    dataset = data.load("synthetic_breath", None)

    def rows(clip: Clip) -> np.ndarray:
        m = log_mel(dataset, clip)[: len(synthetic_breath.belt(clip.clip_id))]
        m = (m - m.mean(0)) / m.std(0)
        smooth = [np.stack([np.convolve(band, np.ones(w) / w, "same") for band in m.T], axis=1)
                  for w in (5, 25, 51)]  # fmt: skip
        return np.concatenate([*smooth, *(np.roll(one, 25, axis=0) for one in smooth)], axis=1)

    train, devel = dataset.part("train")[:5], dataset.part("devel")[:3]
    values = {**dataset.labels["train"].values, **dataset.labels["devel"].values}
    made = Ridge(1000.0).fit(
        np.concatenate([rows(c) for c in train]),
        np.concatenate([values[c.clip_id] for c in train])[:, 0],
    )
    said = made.predict(np.concatenate([rows(c) for c in devel]))[:, None]
    true = np.concatenate([values[c.clip_id] for c in devel])
    assert 0.4 < clip_metric("pcc", "series", (1000,) * 3)(true, said) < 0.9


if __name__ == "__main__":  # what the test of another process runs
    print(*[digest(name) for name in (*SETS, STREETS)])
