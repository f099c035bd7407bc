"""Spectrograms as the images that ImageNet's networks take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from systems.nets.backbone import ImageNetColours


@dataclass(frozen=True)
class SpectrogramImage:
    """A picture of three channels: decibels between 0 and 1, standardised as ImageNet's pictures.

    ``rate`` in Hz; ``window`` (Hann) and ``hop`` in samples; ``fft``: size of the FFT, the longest
    window's where that is longer; all are centred on the same frames. ``content``: spectrograms by
    ``windows`` of one, two and four times the length; one with its differences of first and second
    order (``deltas``); or one three times (``copies``).

    Rows go from low to high: the bins up to ``fmax`` Hz (0: half the rate), or as many in equal
    steps of the frequency's logarithm from ``fmin`` Hz (``log``). Each channel is clipped
    ``range_db`` below the clip's maximum, then spread from 0 to 1; what never changes is 0.
    """

    rate: int = 16_000
    window: int = 256
    hop: int = 64
    fft: int = 1024
    content: Literal["windows", "deltas", "copies"] = "windows"
    scale: Literal["linear", "log"] = "linear"
    fmin: float = 60.0
    fmax: float = 8000.0
    range_db: float = 80.0

    def __post_init__(self) -> None:
        if min(self.rate, self.window, self.hop, self.fft) < 1 or self.range_db <= 0:
            raise ValueError("rate, window, hop and fft are at least 1, range_db is above 0")
        if not 0 < self.fmin < (self.fmax or self.rate / 2) <= self.rate / 2:
            raise ValueError("0 < fmin < fmax, which is at most half the rate")

    @property
    def hop_seconds(self) -> float:
        return self.hop / self.rate

    @property
    def frame_start(self) -> float:
        """A centred frame stands for half a hop on either side."""
        return -self.hop_seconds / 2

    @property
    def windows(self) -> tuple[int, ...]:
        """Lengths of the windows, in samples."""
        times = (1, 2, 4) if self.content == "windows" else (1,)
        return tuple(n * self.window for n in times)

    @property
    def size(self) -> int:
        """The FFT's size."""
        return max(self.fft, *self.windows)

    @property
    def rows(self) -> int:
        """How many rows a picture has."""
        return int((self.fmax or self.rate / 2) * self.size / self.rate) + 1

    def shape(self, samples: int) -> tuple[int, int, int]:
        """(3, F, T)."""
        return 3, self.rows, 1 + samples // self.hop

    def hertz(self) -> np.ndarray:
        """The frequency of each row [F], Hz."""
        top = (self.rows - 1) * self.rate / self.size
        if self.scale == "linear":
            return np.linspace(0, top, self.rows)
        return np.geomspace(self.fmin, top, self.rows)

    def band_edges(self) -> np.ndarray:
        """Where rows begin and end [F + 1], Hz: halfway to their neighbours."""
        hertz = self.hertz()
        return np.concatenate([hertz[:1], (hertz[1:] + hertz[:-1]) / 2, hertz[-1:]])

    def build(self) -> nn.Module:
        return _SpectrogramImage(self)


class _SpectrogramImage(nn.Module):
    """Waveforms [B, S] -> pictures [B, 3, F, T]."""

    def __init__(self, config: SpectrogramImage) -> None:
        super().__init__()
        self.config = config
        for n, length in enumerate(config.windows):
            window = torch.hann_window(length)
            self.register_buffer(f"window{n}", window / window.sum(), persistent=False)
        self.colours = ImageNetColours()
        self.register_buffer("to_rows", torch.from_numpy(_to_rows(config)), persistent=False)
        self.to_rows: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        channels = torch.stack([self._decibels(waveforms, n) for n in range(self._count)], 1)
        channels = spread(channels, self.config.range_db)
        if self.config.content == "deltas":
            channels = spread(with_differences(channels))
        standardised: Tensor = self.colours(channels)
        return standardised

    @property
    def _count(self) -> int:
        return len(self.config.windows)

    def _decibels(self, waveforms: Tensor, n: int) -> Tensor:
        """The power [B, F, T] in decibels under one of the windows."""
        c = self.config
        window = self.get_buffer(f"window{n}")
        spectrum = torch.stft(
            waveforms, c.size, c.hop, len(window), window, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        power = power[:, : c.rows] if c.scale == "linear" else self.to_rows @ power
        return 10 * torch.log10(power.clamp_min(1e-14))


def spread(channels: Tensor, range_db: float = torch.inf) -> Tensor:
    """Each channel [B, C, F, T] from its least value, or what lies so far below its largest, at 0
    to its largest at 1; what never changes is 0."""
    top = channels.amax((2, 3), keepdim=True)
    clipped = torch.maximum(channels, top - range_db)
    low = clipped.amin((2, 3), keepdim=True)
    return (clipped - low) / (top - low).clamp_min(1e-6)


def with_differences(channel: Tensor) -> Tensor:
    """A channel [B, 1, F, T] with its differences over nine frames, and theirs: [B, 3, F, T]."""
    from torchaudio.functional import compute_deltas

    first = compute_deltas(channel, 9)
    return torch.cat([channel, first, compute_deltas(first, 9)], 1)


def _to_rows(c: SpectrogramImage) -> np.ndarray:
    """Weights [F, bins] of the bins in rows of a logarithmic scale: triangles around each row's
    frequency, as wide as the rows lie apart, and where bins lie further apart as these: linear
    interpolation. Neither librosa nor torchaudio has a filter bank of this scale."""
    if c.scale == "linear":
        return np.zeros((0, 0), np.float32)
    bins = np.linspace(0, c.rate / 2, c.size // 2 + 1)
    rows = c.hertz()
    width = np.maximum(np.gradient(rows), bins[1])[:, None]
    weights = np.maximum(0, 1 - np.abs(bins - rows[:, None]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
