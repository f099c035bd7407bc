"""The log-mel front end is librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from systems.frontend.log_mel import LogMel, LogMelFrontEnd

SETTINGS = (
    LogMel(rate=16_000, window=1024, hop=664, bands=64, window_shape="hamming", center=False),
    LogMel(rate=16_000, window=1024, hop=512, bands=64, window_shape="hann", center=True),
    LogMel(rate=16_000, window=512, hop=320, bands=40, window_shape="hamming", center=True),
    LogMel(rate=22_050, window=2048, hop=441, bands=128, window_shape="hann", center=False),
    LogMel(rate=44_100, window=2048, hop=800, bands=96, window_shape="hamming", center=True),
    LogMel(rate=16_000, window=512, hop=400, bands=40, fmin=50.0, fmax=7000.0, center=False),
    LogMel(rate=8_000, window=255, hop=100, bands=20, center=True),
    LogMel(rate=16_000, window=512, hop=200, bands=128, floor=1e-6),  # some bands are empty
    LogMel(rate=16_000, window=400, hop=160, bands=64, fft=512, window_shape="hamming"),
    LogMel(rate=44_100, window=2048, hop=1024, bands=128, power=1, mel="htk", norm="none"),
    LogMel(rate=16_000, window=1024, hop=500, bands=64, log="ln_add", floor=1e-3, fmin=20.0),
    LogMel(rate=16_000, window=640, hop=320, bands=64, fft=1024, log="db_max", norm="none"),
    LogMel(rate=16_000, window=1024, hop=256, bands=40, log="db_max", range_db=6.0, power=1),
    LogMel(rate=16_000, window=1024, hop=500, bands=64, whole_hops=True, mel="htk"),
    LogMel(window=800, hop=32, fft=1024, bands=200, fmin=50.0, fmax=8000.0, log="db", pad="mirror"),
)


def _librosa(waveform: np.ndarray, c: LogMel) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=waveform, sr=c.rate, n_fft=c.fft or c.window, win_length=c.window, hop_length=c.hop,
        window=c.window_shape, center=c.center, power=c.power, n_mels=c.bands,
        pad_mode="reflect" if c.pad == "mirror" else "constant",
        fmin=c.fmin, fmax=c.fmax or c.rate / 2, htk=c.mel == "htk",
        norm="slaney" if c.norm == "area" else None,
    )  # fmt: skip
    if c.whole_hops:
        power = power[:, : len(waveform) // c.hop]
    if c.log == "db":
        return librosa.power_to_db(power, amin=c.floor, top_db=None)
    if c.log == "db_max":
        top = c.range_db or None
        return librosa.power_to_db(power, ref=np.max, amin=c.floor, top_db=top)
    return np.log(power + c.floor if c.log == "ln_add" else np.maximum(power, c.floor))


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("amplitude", [0.3, 1e-5], ids=["noise", "quiet"])
@pytest.mark.parametrize("config", SETTINGS, ids=lambda c: f"{c.rate}-{c.window}-{c.hop}-{c.bands}")
def test_equals_librosa(config: LogMel, amplitude: float) -> None:
    generator = np.random.default_rng(config.window)
    waveforms = amplitude * generator.standard_normal((2, 10_001)).astype(np.float32)
    features = LogMelFrontEnd(config)(torch.from_numpy(waveforms)).numpy()
    expected = np.stack([_librosa(waveform, config) for waveform in waveforms])[:, None]
    # A difference of logarithms is a ratio of powers; of decibels 10 / ln(10) times it.
    atol = 5e-4 if config.log.startswith("db") else 1e-4
    np.testing.assert_allclose(features, expected, rtol=0, atol=atol)
    assert features.shape[-1] == config.frames(waveforms.shape[1])


@pytest.mark.parametrize(("center", "whole_hops"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("window", "fft"), [(255, 0), (512, 0), (400, 512)])
def test_counts_its_frames(window: int, fft: int, center: bool, whole_hops: bool) -> None:
    config = LogMel(
        rate=8_000, window=window, hop=160, bands=10, center=center, fft=fft, whole_hops=whole_hops
    )
    front_end = LogMelFrontEnd(config)
    for samples in (512, 512 + 159, 512 + 160, 4000, 4001, 4159):
        assert front_end(torch.zeros(1, samples)).shape[-1] == config.frames(samples)


def test_ten_seconds_are_240_frames() -> None:
    paper = SETTINGS[0]
    assert paper.frames(160_000) == 240
    assert LogMel(window=1024, hop=664, center=True).frames(160_000) == 241
    assert paper.hop_seconds == pytest.approx(0.0415)


def test_silence_is_the_floor() -> None:
    features = LogMelFrontEnd(SETTINGS[0])(torch.zeros(1, 4000))
    assert torch.allclose(features, torch.tensor(1e-10).log())


def test_sound_of_whole_hops_gives_as_many_frames() -> None:
    config = LogMel(window=1024, hop=500, whole_hops=True)
    assert config.frames(160_000) == 320
    assert config.shape(500)[-1] == 1


@pytest.mark.parametrize("wrong", [{"fft": 512}, {"power": 3}, {"hop": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"window|power|hop"):
        LogMel(**wrong)
