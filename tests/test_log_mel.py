"""The log-mel front end is librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from systems.frontend.log_mel import LogMel, LogMelFrontEnd, Standardise

SETTINGS = (
    LogMel(rate=16_000, window=1024, hop=664, bands=64, window_shape="hamming", center=False),
    LogMel(rate=16_000, window=1024, hop=512, bands=64, window_shape="hann", center=True),
    LogMel(rate=16_000, window=512, hop=320, bands=40, window_shape="hamming", center=True),
    LogMel(rate=22_050, window=2048, hop=441, bands=128, window_shape="hann", center=False),
    LogMel(rate=44_100, window=2048, hop=800, bands=96, window_shape="hamming", center=True),
    LogMel(rate=16_000, window=512, hop=400, bands=40, fmin=50.0, fmax=7000.0, center=False),
    LogMel(rate=8_000, window=255, hop=100, bands=20, center=True),
    LogMel(rate=16_000, window=512, hop=200, bands=128, floor=1e-6),  # some bands are empty
)


def _librosa(waveform: np.ndarray, c: LogMel) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform, sr=c.rate, n_fft=c.window, hop_length=c.hop, window=c.window_shape,
        center=c.center, pad_mode="constant", power=2.0, n_mels=c.bands,
        fmin=c.fmin, fmax=c.fmax or c.rate / 2,
    )  # fmt: skip
    return np.log(np.maximum(power, c.floor))


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("amplitude", [0.3, 1e-5], ids=["noise", "quiet"])
@pytest.mark.parametrize("config", SETTINGS, ids=lambda c: f"{c.rate}-{c.window}-{c.hop}-{c.bands}")
def test_equals_librosa(config: LogMel, amplitude: float) -> None:
    generator = np.random.default_rng(config.window)
    waveforms = amplitude * generator.standard_normal((2, 10_001)).astype(np.float32)
    features = LogMelFrontEnd(config)(torch.from_numpy(waveforms)).numpy()
    expected = np.stack([_librosa(waveform, config) for waveform in waveforms])[:, None]
    # A difference of logarithms is a ratio of powers.
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)
    assert features.shape[-1] == config.frames(waveforms.shape[1])


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("window", [255, 512])
def test_counts_its_frames(window: int, center: bool) -> None:
    config = LogMel(rate=8_000, window=window, hop=160, bands=10, center=center)
    front_end = LogMelFrontEnd(config)
    for samples in (window, window + 159, window + 160, 4000, 4001, 4159):
        assert front_end(torch.zeros(1, samples)).shape[-1] == config.frames(samples)


def test_ten_seconds_are_240_frames() -> None:
    paper = SETTINGS[0]
    assert paper.frames(160_000) == 240
    assert LogMel(window=1024, hop=664, center=True).frames(160_000) == 241
    assert paper.hop_seconds == pytest.approx(0.0415)


def test_silence_is_the_floor() -> None:
    features = LogMelFrontEnd(SETTINGS[0])(torch.zeros(1, 4000))
    assert torch.allclose(features, torch.tensor(1e-10).log())


def test_standardise_per_band() -> None:
    x = torch.randn(4, 1, 5, 30) * torch.arange(1.0, 6.0)[:, None] + 7
    x[:, :, 2] = 3.0  # a band that never changes
    standardise = Standardise(5)
    assert torch.equal(standardise(x), x)
    standardise.fit(x.mean((0, 1, 3)), x.std((0, 1, 3), correction=0))
    z = standardise(x)
    torch.testing.assert_close(z.mean((0, 1, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    spread = z.std((0, 1, 3), correction=0)
    torch.testing.assert_close(spread, torch.tensor([1.0, 1, 0, 1, 1]), atol=1e-4, rtol=0)
    assert set(standardise.state_dict()) == {"mean", "deviation"}
