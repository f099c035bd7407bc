"""Third-octave levels, weighting and percentiles, beside closed forms and the standards' tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import sosfreqz

from systems.frontend.third_octave import (
    ThirdOctave,
    a_weights,
    band_levels,
    energy_sum,
    exceeded,
    filters,
)

CONFIG = ThirdOctave()
# IEC 61260's nominal frequencies in Hz.
NOMINAL = (
    20, 25, 31.5, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250,
    1600, 2000, 2500, 3150, 4000, 5000, 6300, 8000, 10_000, 12_500, 16_000, 20_000,
)  # fmt: skip
# IEC 61672's table: A weighting in dB at nominal frequencies.
A_TABLE = {
    20: -50.5, 31.5: -39.4, 63: -26.2, 100: -19.1, 250: -8.6, 500: -3.2, 1000: 0.0, 2000: 1.2,
    4000: 1.0, 8000: -1.1, 10_000: -2.5, 16_000: -6.6, 20_000: -9.3,
}  # fmt: skip


def sine(hertz: float, seconds: float = 4.0, rate: int = 48_000) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_the_bands_are_those_of_the_standard() -> None:
    np.testing.assert_allclose(CONFIG.centres, NOMINAL, rtol=0.016)
    assert CONFIG.centres[17] == 1000.0
    # Above half of 44.1 kHz ends the band of 20 kHz, above half of 16 kHz those from 8 kHz on.
    assert len(ThirdOctave(rate=44_100).centres) == 30
    assert ThirdOctave(rate=16_000).centres[-1] < 6400


@pytest.mark.parametrize("place", [7, 17, 27])
def test_a_sine_has_its_level_in_its_band_alone(place: int) -> None:
    """Amplitude 1: 3.01 dB below an RMS of 1, so at a calibration of 100 dB 96.99 dB SPL."""
    levels = band_levels(CONFIG, sine(CONFIG.centres[place])[None])[0, :, 8:].mean(axis=1)
    assert levels[place] == pytest.approx(-3.01, abs=0.01)
    others = np.delete(levels, place)
    assert others.max() < levels[place] - 16.0  # at the centres of the bands beside it
    quiet = band_levels(CONFIG, 0.1 * sine(CONFIG.centres[place])[None])[0, :, 8:].mean(axis=1)
    assert quiet[place] == pytest.approx(levels[place] - 20.0, abs=0.01)


def test_filters_lie_within_class_1_of_iec_61260() -> None:
    """Its limits of third octaves at multiples of the centre: within 0.3 dB there, 2 to 5 dB at the
    edges, then at least 17.5 and 42 dB. (Close to half the rate the bilinear transform narrows.)"""
    for centre, sections in zip(CONFIG.centres, filters(CONFIG), strict=True):
        if centre > 10_000:
            continue
        factors = np.array([1.0, 1.12202, 1 / 1.12202, 1.29437, 1 / 1.29437, 1.88173, 1 / 1.88173])
        _, response = sosfreqz(sections, centre * factors, fs=CONFIG.rate)
        lost = -20 * np.log10(np.abs(response))
        assert abs(lost[0]) < 0.3
        assert np.all((lost[1:3] > 2.0) & (lost[1:3] < 5.0)), centre
        assert np.all(lost[3:5] > 17.5), centre
        assert np.all(lost[5:] > 42.0), centre


def test_white_noise_rises_by_one_decibel_a_band_and_adds_up() -> None:
    """Of a band its share of the power: its width over half the rate."""
    noise = np.random.default_rng(0).standard_normal((1, 48_000 * 20))
    levels = 10 * np.log10((10 ** (band_levels(CONFIG, noise)[0] / 10)).mean(axis=1))
    width = CONFIG.centres * (10 ** (1 / 20) - 10 ** (-1 / 20))
    np.testing.assert_allclose(levels[12:28], 10 * np.log10(width / 24_000)[12:28], atol=0.5)
    together = energy_sum(levels, axis=0)
    band = 10 * np.log10((10**4.35 - 10**1.25) / 24_000)  # 17.8 Hz to 22.4 kHz
    assert together == pytest.approx(band, abs=0.3)


def test_frames_do_not_overlap_and_what_is_silent_is_far_below() -> None:
    sound = np.concatenate([np.zeros(6000), sine(1000.0, 0.25), np.zeros(5000)])
    levels = CONFIG.build()(torch.from_numpy(sound)[None].float())
    assert levels.shape == (1, 1, 31, 3)  # the rest of 5000 samples is no frame
    assert levels.shape[1:] == CONFIG.shape(len(sound))
    assert levels[0, 0, :, 0].max() == -200.0
    assert levels[0, 0, 17, 2] == pytest.approx(-3.01, abs=0.05)
    assert CONFIG.shape(100) == (1, 31, 1)


def test_the_a_weighting_is_that_of_the_table() -> None:
    hertz = np.array(list(A_TABLE), float)
    exact = 1000.0 * 10 ** (np.round(10 * np.log10(hertz / 1000.0)) / 10)
    np.testing.assert_allclose(a_weights(exact), list(A_TABLE.values()), atol=0.06)


def test_a_level_that_is_exceeded() -> None:
    """L10 is exceeded a tenth of the time: the 90th percentile."""
    levels = np.random.default_rng(1).normal(60, 5, 480)
    for percent in (10, 50, 90):
        assert exceeded(levels, percent) == np.percentile(levels, 100 - percent)
        assert (levels > exceeded(levels, percent)).mean() == pytest.approx(percent / 100, abs=0.01)
    two = np.array([[60.0, 50.0], [60.0, -200.0]])
    np.testing.assert_allclose(energy_sum(two, axis=0), [63.01, 50.0], atol=0.01)
    with pytest.raises(ValueError, match="no band lies between"):
        ThirdOctave(low=9000.0, rate=16_000)
