"""Third-octave levels of short frames, as a sound level meter shows them; made once and stored.

Levels are in dB relative to an RMS of 1: a sine of amplitude 1 has -3.01 dB. A calibration makes
them dB SPL.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch import Tensor, nn

ORDER = 3  # of the Butterworth prototype of each band
WIDTH = 10 ** (1 / 20)  # from the centre of a band to its edges, as a factor
SILENCE = 1e-20  # power of what is silent: -200 dB


@dataclass(frozen=True)
class ThirdOctave:
    """Levels of IEC 61260's bands between the nominal ``low`` and ``high`` Hz (31 from 20 Hz to
    20 kHz), in frames of ``frame`` s that do not overlap.

    ``rate`` in Hz: a band that ends above half of it is left out (at 44.1 kHz that of 20 kHz).
    """

    rate: int = 48_000
    frame: float = 0.125
    low: float = 20.0
    high: float = 20_000.0

    stored = True

    def __post_init__(self) -> None:
        if self.rate < 1 or round(self.frame * self.rate) < 1:
            raise ValueError("rate is at least 1 Hz, and a frame at least a sample")
        if not 0 < self.low <= self.high or not len(self.centres):
            raise ValueError("no band lies between low and high and below half the rate")

    @property
    def samples(self) -> int:
        """Of a frame."""
        return round(self.frame * self.rate)

    @property
    def hop_seconds(self) -> float:
        return self.samples / self.rate

    @property
    def frame_start(self) -> float:
        return 0.0

    @property
    def centres(self) -> np.ndarray:
        """The exact centres of the bands in Hz [F], 1000 times powers of 10^(1/10)."""
        first, last = (round(10 * np.log10(f / 1000.0)) for f in (self.low, self.high))
        found: np.ndarray = 1000.0 * 10 ** (np.arange(first, last + 1) / 10)
        return found[found * WIDTH < self.rate / 2]

    def shape(self, samples: int) -> tuple[int, int, int]:
        """(1, F, T): of the frames that are whole; of what is shorter, one."""
        return 1, len(self.centres), max(1, samples // self.samples)

    def build(self) -> nn.Module:
        return _ThirdOctave(self)


class _ThirdOctave(nn.Module):
    """Waveforms [B, S] -> levels in dB [B, 1, F, T], in float64 on the CPU whatever the device."""

    def __init__(self, config: ThirdOctave) -> None:
        super().__init__()
        self.config = config

    def forward(self, waveforms: Tensor) -> Tensor:
        found = band_levels(self.config, waveforms.cpu().numpy().astype(np.float64))
        return torch.from_numpy(found.astype(np.float32))[:, None].to(waveforms.device)


@lru_cache(maxsize=8)
def filters(config: ThirdOctave) -> tuple[np.ndarray, ...]:
    """Second-order sections of each band's filter."""
    return tuple(
        butter(ORDER, (f / WIDTH, f * WIDTH), "bandpass", fs=config.rate, output="sos")
        for f in config.centres
    )


def band_levels(config: ThirdOctave, waveforms: np.ndarray) -> np.ndarray:
    """Levels in dB [B, F, T] of waveforms [B, S]."""
    frames, length = config.shape(waveforms.shape[-1])[2], config.samples
    padded = np.pad(waveforms, ((0, 0), (0, max(0, frames * length - waveforms.shape[-1]))))
    of_bands = []
    for sections in filters(config):
        band = sosfilt(sections, padded)[:, : frames * length]
        power = np.square(band).reshape(len(band), frames, length).mean(axis=-1)
        of_bands.append(decibels(power))
    return np.stack(of_bands, axis=1)


def decibels(power: np.ndarray) -> np.ndarray:
    """Levels in dB of powers; -200 dB of silence."""
    levels: np.ndarray = 10 * np.log10(np.maximum(power, SILENCE))
    return levels


def energy_sum(levels: np.ndarray, axis: int) -> np.ndarray:
    """The level of what has these levels in dB together."""
    return decibels((10 ** (np.asarray(levels, float) / 10)).sum(axis=axis))


def a_weights(centres: np.ndarray) -> np.ndarray:
    """The A weighting in dB at frequencies in Hz (IEC 61672)."""
    from librosa import A_weighting

    weights: np.ndarray = A_weighting(centres, min_db=None)
    return weights


def exceeded(levels: np.ndarray, percent: float) -> float:
    """L_N: the level in dB that levels [T] exceed ``percent`` % of the time."""
    return float(np.percentile(levels, 100.0 - percent))
