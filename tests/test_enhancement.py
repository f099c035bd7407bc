"""IMCRA and the LSA gain: closed forms, noise whose power is known, and sound in noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from systems.data.enhancement import Enhanced, Imcra, Tracker, gains, istft, lsa_gain, stft

RATE = 16_000
R = np.random.default_rng(0)
NOISE = 0.05 * R.normal(size=4 * RATE)


@pytest.mark.parametrize("hop", [64, 128, 100])
@pytest.mark.parametrize("length", [300, 5000])
def test_a_gain_of_one_leaves_the_sound_as_it_is(hop: int, length: int) -> None:
    sound = R.normal(size=length)
    spectra = stft(sound, 256, hop)
    np.testing.assert_allclose(istft(spectra, 256, hop, length), sound, atol=1e-5)


@pytest.mark.parametrize(("xi", "gamma"), [(0.1, 1.0), (1.0, 3.0), (10.0, 0.5), (100.0, 50.0)])
def test_the_gain_is_the_integral(xi: float, gamma: float) -> None:
    v = gamma * xi / (1 + xi)
    integral, _ = quad(lambda t: np.exp(-t) / t, v, np.inf)
    expected = xi / (1 + xi) * np.exp(0.5 * integral)
    assert lsa_gain(np.array(xi), np.array(gamma)) == pytest.approx(expected, rel=1e-6)


def tracked(power: np.ndarray, settings: Imcra) -> np.ndarray:
    """The noise [L, K] that is followed through power spectra [L, K]."""
    tracker, found = Tracker(settings, power[:15]), []
    for frame in power:
        gamma = np.minimum(frame / tracker.noise, 1e5)
        tracker.hear(frame, gamma, np.maximum(0.08 * np.maximum(gamma - 1, 0), 10**-2.5))
        found.append(tracker.noise)
    return np.array(found)


def test_stationary_noise_is_followed_without_bias() -> None:
    power = np.square(np.abs(stft(NOISE, 512, 128)))
    noise = tracked(power, Imcra())
    true = np.square(0.05) * np.square(np.hanning(513)[:-1]).sum()  # of white noise in a bin
    error = 10 * np.log10(noise[150:-10, 5:-5].mean(axis=0) / true)
    assert abs(error.mean()) < 0.5  # dB
    unbiased = tracked(power, Imcra(beta=1.0))
    assert 10 * np.log10(unbiased[150:-10, 5:-5].mean() / true) == pytest.approx(
        10 * np.log10(1 / 1.47), abs=0.5
    )


def test_noise_that_grows_louder_is_caught_up_with_and_sound_is_not() -> None:
    louder = np.concatenate([NOISE, 3 * NOISE])
    power = np.square(np.abs(stft(louder, 512, 128)))
    noise = tracked(power, Imcra())
    true = np.square(0.05) * np.square(np.hanning(513)[:-1]).sum()
    end = 10 * np.log10(noise[-60:-10, 5:-5].mean() / (9 * true))
    assert abs(end) < 1.5
    t = np.arange(len(NOISE)) / RATE
    burst = 0.5 * np.sin(2 * np.pi * 1000 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0.5)
    power = np.square(np.abs(stft(NOISE + burst, 512, 128)))
    at = tracked(power, Imcra())[150:-10, 32]  # 1 kHz
    assert 10 * np.log10(power[:, 32].max() / true) > 35
    assert np.median(10 * np.log10(at / true)) < 6


def test_tones_in_noise_come_out_cleaner() -> None:
    t = np.arange(len(NOISE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 1000 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0.5)
    noisy = (tone + NOISE).astype(np.float32)
    made = Enhanced()(noisy, RATE, "")
    assert made.shape == noisy.shape
    assert made.dtype == np.float32

    def snr(sound: np.ndarray) -> float:
        return float(10 * np.log10(np.square(tone).sum() / np.square(sound - tone).sum()))

    assert snr(made) > snr(noisy) + 6
    alone = Enhanced()(NOISE.astype(np.float32), RATE, "")
    assert 20 * np.log10(alone[RATE:].std() / NOISE.std()) < -10
    half = Enhanced(floor=-5.0)(NOISE.astype(np.float32), RATE, "")
    assert half.std() > alone.std()


def test_gains_lie_between_the_floor_and_one_also_in_silence() -> None:
    sound = np.concatenate([np.zeros(RATE), NOISE[:RATE], np.zeros(RATE)])
    found = gains(np.square(np.abs(stft(sound, 512, 128))), Enhanced())
    assert np.isfinite(found).all()
    assert found.min() >= 10 ** (-25 / 20) - 1e-9
    assert found.max() <= 1
    assert not Enhanced()(np.zeros(4000, np.float32), RATE, "").any()
    assert np.array_equal(Enhanced()(NOISE.astype(np.float32), RATE, "a"),
                          Enhanced()(NOISE.astype(np.float32), RATE, "b"))  # fmt: skip


@pytest.mark.parametrize("wrong", [{"window": 0.0}, {"overlap": 0.3}, {"floor": 3.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="window"):
        Enhanced(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gamma_1"):
        Imcra(gamma_1=1.0)
