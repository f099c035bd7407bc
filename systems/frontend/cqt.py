"""The constant-Q transform of librosa, which torchaudio has not; made once a clip and stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cqt:
    """Log magnitude in dB of ``bins`` from ``fmin`` Hz, ``per_octave`` to an octave.

    ``rate`` in Hz, ``hop`` in samples; S samples give S / hop frames, the last of librosa's centred
    ones being dropped.
    """

    rate: int = 48_000
    hop: int = 960
    bins: int = 80
    per_octave: int = 10
    fmin: float = 32.703

    stored = True

    def __post_init__(self) -> None:
        if min(self.rate, self.hop, self.bins, self.per_octave) < 1 or self.fmin <= 0:
            raise ValueError("rate, hop, bins and per_octave are at least 1, fmin is above 0 Hz")
        top = self.fmin * 2 ** ((self.bins - 1) / self.per_octave)
        if top >= self.rate / 2:
            raise ValueError(f"the top bin lies at {top:.0f} Hz, above half the rate {self.rate}")

    @property
    def hop_seconds(self) -> float:
        return self.hop / self.rate

    @property
    def frame_start(self) -> float:
        """A centred frame stands for half a hop on either side."""
        return -self.hop_seconds / 2

    def shape(self, samples: int) -> tuple[int, int, int]:
        """(1, F, T)."""
        return 1, self.bins, max(1, samples // self.hop)

    def build(self) -> nn.Module:
        return _Cqt(self)


class _Cqt(nn.Module):
    """Waveforms [B, S] -> [B, 1, F, T], on the CPU whatever the device."""

    def __init__(self, config: Cqt) -> None:
        super().__init__()
        self.config = config

    def forward(self, waveforms: Tensor) -> Tensor:
        import librosa

        c = self.config
        frames = c.shape(waveforms.shape[-1])[2]
        magnitude = np.abs(
            librosa.cqt(
                waveforms.cpu().numpy(), sr=c.rate, hop_length=c.hop, fmin=c.fmin, n_bins=c.bins,
                bins_per_octave=c.per_octave,
            )
        )[..., :frames]  # fmt: skip
        decibels = 20 * np.log10(np.maximum(magnitude, 1e-10))
        return torch.from_numpy(decibels.astype(np.float32))[:, None].to(waveforms.device)
