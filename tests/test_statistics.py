"""Statistics of a clip's MFCC: what the plain formulae say, and finite ones of any clip."""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import pytest
from scipy.stats import skew

from systems.frontend import statistics
from systems.frontend.statistics import COEFFICIENTS, mfcc_statistics, statistic_names


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    r = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 440 * time**2) + 0.1 * r.normal(size=len(time))).astype(np.float32)


def test_they_are_the_moments_of_librosas_mfcc() -> None:
    clip = sound(2.0, 44100)
    mfcc = librosa.feature.mfcc(y=clip, sr=44100, n_mfcc=64, n_mels=64, n_fft=4096,
                                win_length=3528, hop_length=441)  # fmt: skip
    judge = [mfcc.max(axis=1), mfcc.min(axis=1), mfcc.var(axis=1), skew(mfcc, axis=1)]
    found = mfcc_statistics(clip, 44100).reshape(4, COEFFICIENTS)
    for ours, theirs in zip(found, judge, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


def test_each_has_a_name() -> None:
    names = statistic_names()
    assert len(set(names)) == len(names) == len(mfcc_statistics(sound(0.5, 16000), 16000)) == 256
    found = dict(zip(names, mfcc_statistics(sound(0.5, 16000), 16000), strict=True))
    assert all(found[f"mfcc{c}_max"] >= found[f"mfcc{c}_min"] for c in range(COEFFICIENTS))
    assert all(found[f"mfcc{c}_variance"] >= 0 for c in range(COEFFICIENTS))


@pytest.mark.parametrize("samples", [0, 1, 100, 441, 3000])
@pytest.mark.parametrize("kind", ["silence", "constant", "noise"])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_short_and_silent_clips_have_finite_ones(samples: int, kind: str, rate: int) -> None:
    clip = {
        "silence": np.zeros(samples), "constant": np.full(samples, 0.3),
        "noise": np.random.default_rng(0).normal(size=samples),
    }[kind].astype(np.float32)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(mfcc_statistics(clip, rate)).all()


def test_silence_neither_varies_nor_leans() -> None:
    found = mfcc_statistics(np.zeros(16000, np.float32), 16000).reshape(4, COEFFICIENTS)
    assert (found[0] == found[1]).all()
    assert (found[2:] == 0).all()


def test_a_long_recording_is_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = sound(3.0, 16000)
    whole = mfcc_statistics(clip, 16000)
    for block in (1, 7, 100, 300, 301):
        monkeypatch.setattr(statistics, "BLOCK", block)
        np.testing.assert_allclose(mfcc_statistics(clip, 16000), whole, rtol=1e-6, atol=1e-6)
