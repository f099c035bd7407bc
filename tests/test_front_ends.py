"""What is made of a log-mel, and the scale of features, beside librosa, torchaudio and numpy."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from systems.frontend.log_mel import LogMel, Mfcc, NearestFrames, Waveform
from systems.frontend.scale import Scale

SOUND = np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32)


@pytest.mark.parametrize("neighbours", [5, 4])
def test_nearest_frames_are_librosas(neighbours: int) -> None:
    mel = LogMel(rate=16_000, window=800, hop=400, bands=40, power=1)
    sound = SOUND * np.linspace(0.1, 1, 16_000, dtype=np.float32) ** 2
    features = NearestFrames(mel, neighbours).build()(torch.from_numpy(sound)).numpy()
    assert features.shape == (2, *NearestFrames(mel).shape(16_000))
    for clip, found in zip(sound, features, strict=True):
        energies = librosa.feature.melspectrogram(
            y=clip, sr=16_000, n_fft=800, hop_length=400, power=1, n_mels=40, pad_mode="constant"
        )
        expected = librosa.decompose.nn_filter(
            energies, aggregate=np.median, k=neighbours, metric="euclidean", mode="distance"
        )
        np.testing.assert_allclose(found[0], np.log(expected), rtol=0, atol=1e-4)


def test_a_single_frame_has_no_neighbour() -> None:
    mel = LogMel(rate=16_000, window=800, hop=400, bands=40, center=False)
    sound = torch.from_numpy(SOUND[:, :800])
    assert torch.equal(NearestFrames(mel).build()(sound), mel.build()(sound))


def test_mfcc_are_torchaudios_and_their_differences_librosas() -> None:
    mel = LogMel(
        rate=16_000, window=640, hop=320, bands=40, mel="htk", norm="none", log="ln_add", floor=1e-6
    )
    made = Mfcc(mel, count=20, deltas=2)
    features = made.build()(torch.from_numpy(SOUND)).numpy()[:, 0]
    assert (1, *features.shape[1:]) == made.shape(16_000)
    judge = torchaudio.transforms.MFCC(
        16_000, 20, log_mels=True, melkwargs={
            "n_fft": 640, "hop_length": 320, "n_mels": 40, "pad_mode": "constant",
        },
    )  # fmt: skip
    expected = judge(torch.from_numpy(SOUND)).numpy()
    np.testing.assert_allclose(features[:, :20], expected, rtol=0, atol=2e-3)
    for below, above in ((slice(0, 20), slice(20, 40)), (slice(20, 40), slice(40, 60))):
        slope = librosa.feature.delta(features[:, below], width=9, mode="nearest")
        np.testing.assert_allclose(features[:, above], slope, rtol=0, atol=1e-4)


def test_the_waveform_is_one_channel() -> None:
    features = Waveform(16_000).build()(torch.from_numpy(SOUND))
    assert features.shape == (2, *Waveform().shape(16_000))
    assert np.array_equal(features[:, 0].numpy(), SOUND)


def _features() -> torch.Tensor:
    """[B, C, F, T], each band of another mean and deviation; one band never changes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, 5, 30, generator=generator)
    x = x * torch.arange(1.0, 11.0).view(2, 5, 1) + torch.arange(10.0).view(2, 5, 1)
    x[:, 1, 2] = 3.0
    return x


def test_scale_by_band() -> None:
    x = _features()
    scale = Scale((2, 5, 30), "band")
    assert torch.equal(scale(x), x)  # nothing was fitted yet
    scale.add(x[:2])
    scale.add(x[2:])
    scale.finish()
    mean, deviation = x.numpy().mean((0, 3)), x.numpy().std((0, 3))
    deviation[1, 2] = 1.0
    expected = (x.numpy() - mean[..., None]) / deviation[..., None]
    np.testing.assert_allclose(scale(x).numpy(), expected, atol=1e-4)
    assert set(scale.state_dict()) == {"mean", "deviation"}


def test_scale_by_all() -> None:
    x = _features()
    scale = Scale((2, 5, 30), "all")
    scale.add(x[:1])
    scale.add(x[1:])
    scale.finish()
    expected = (x.numpy() - x.numpy().mean()) / x.numpy().std()
    np.testing.assert_allclose(scale(x).numpy(), expected, atol=1e-4)


def test_scale_by_batch() -> None:
    x = _features()
    scale = Scale((2, 5, 30), "batch")
    assert not scale.fitted
    variance = x.numpy().var() + 1e-5
    expected = (x.numpy() - x.numpy().mean()) / np.sqrt(variance)
    np.testing.assert_allclose(scale(x).numpy(), expected, atol=1e-4)
    for _ in range(200):  # its running statistics come near
        scale(x)
    np.testing.assert_allclose(scale.eval()(x).numpy(), expected, atol=1e-2)
    assert torch.equal(Scale((2, 5, 30), "none")(x), x)
