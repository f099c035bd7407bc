"""Log-mel spectrogram, computed on the device in the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchaudio.functional import spectrogram


@dataclass(frozen=True)
class LogMel:
    """Settings of a log-mel front end.

    ``rate`` in Hz; ``window`` (= FFT size) and ``hop`` in samples; ``bands`` mel bands of Slaney
    scale and area norm (librosa's default) from ``fmin`` to ``fmax`` Hz (0: half the rate);
    natural logarithm of the power, floored at ``floor``. ``center`` pads half a window of zeros at
    both ends.
    """

    rate: int = 16_000
    window: int = 1024
    hop: int = 512
    bands: int = 64
    fmin: float = 0.0
    fmax: float = 0.0
    window_shape: Literal["hann", "hamming"] = "hann"
    center: bool = True
    floor: float = 1e-10

    def __post_init__(self) -> None:
        if min(self.rate, self.window, self.hop, self.bands) < 1:
            raise ValueError("rate, window, hop and bands must be at least 1")

    @property
    def hop_seconds(self) -> float:
        """Distance of two frames in seconds."""
        return self.hop / self.rate

    def frames(self, samples: int) -> int:
        """Number of frames T of a waveform of ``samples`` samples."""
        padded = samples + 2 * (self.window // 2) if self.center else samples
        return 1 + (padded - self.window) // self.hop


class LogMelFrontEnd(nn.Module):
    """Waveforms [B, S] -> log-mel [B, 1, F, T], equal to librosa's to 1e-4 relative."""

    def __init__(self, config: LogMel) -> None:
        # Here, not above: they take seconds to import, and plans name front ends without using one.
        import librosa.filters
        import scipy.signal

        super().__init__()
        self.config = config
        shape = scipy.signal.get_window(config.window_shape, config.window, fftbins=True)
        mel = librosa.filters.mel(
            sr=config.rate, n_fft=config.window, n_mels=config.bands,
            fmin=config.fmin, fmax=config.fmax or config.rate / 2,
        )  # fmt: skip
        self.register_buffer("shape", torch.as_tensor(shape, dtype=torch.float32), persistent=False)
        self.register_buffer("mel", torch.as_tensor(mel, dtype=torch.float32), persistent=False)
        self.shape: Tensor
        self.mel: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        c = self.config
        spectrum = spectrogram(
            waveforms, 0, self.shape, c.window, c.hop, c.window, power=None, normalized=False,
            center=c.center, pad_mode="constant",
        )  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log((self.mel @ power).clamp_min(c.floor)).unsqueeze(1)


class Standardise(nn.Module):
    """Per-band standardisation of [B, C, F, T] with statistics of the training clips."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands, 1))
        self.register_buffer("deviation", torch.ones(bands, 1))
        self.mean: Tensor
        self.deviation: Tensor

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the statistics [F]; a band that never changes keeps its scale."""
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0)[:, None])

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation
