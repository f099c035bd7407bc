"""SpecAugment without warping (Park et al. 2019, arXiv 1904.08779): what is not heard of examples.

By hand, since torchaudio's masks fill with one number for all, drawn from torch's generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from systems.tracks import each
from systems.training.mixing import Batch


@dataclass(frozen=True)
class BlockMasking:
    """One block of frames and one of bands in each example, shares ``time`` and ``frequency`` of
    them wide, become the example's minimum (mask_panns_mixup, drop rates)."""

    time: float = 0.0
    frequency: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.time < 1 and 0 <= self.frequency < 1):
            raise ValueError("time and frequency are shares in [0, 1)")

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        def masked(x: Tensor) -> Tensor:
            size, _, bands, frames = x.shape
            of_bands = np.full(size, round(self.frequency * bands))
            of_frames = np.full(size, round(self.time * frames))
            rows = blocks(of_bands, bands, generator)[:, :, None]
            hidden = rows | blocks(of_frames, frames, generator)[:, None]
            return torch.where(on(x, hidden), x.amin((1, 2, 3), keepdim=True), x)

        return Batch(each(masked, batch.features), batch.targets, batch.weights)


@dataclass(frozen=True)
class Drops:
    """In each example ``band_drops`` blocks of at most ``bands`` bands and ``frame_drops`` of at
    most ``frames`` frames, of uniform widths, become the band's mean over the batch: what PANNs'
    zeros after the first batch norm stand for (panns_fixmatch, Table 1)."""

    bands: int = 8
    band_drops: int = 1
    frames: int = 32
    frame_drops: int = 1

    def __post_init__(self) -> None:
        if min(self.bands, self.band_drops, self.frames, self.frame_drops) < 0:
            raise ValueError("widths and numbers of drops are at least 0")

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        features = each(lambda x: self.masked(x, generator), batch.features)
        return Batch(features, batch.targets, batch.weights)

    def masked(self, x: Tensor, generator: np.random.Generator) -> Tensor:
        """Features [B, C, F, T] with the drops."""
        size, _, bands, frames = x.shape
        hidden = np.zeros((size, bands, frames), bool)
        for _ in range(self.band_drops):
            widths = generator.integers(min(self.bands, bands) + 1, size=size)
            hidden |= blocks(widths, bands, generator)[:, :, None]
        for _ in range(self.frame_drops):
            widths = generator.integers(min(self.frames, frames) + 1, size=size)
            hidden |= blocks(widths, frames, generator)[:, None]
        return torch.where(on(x, hidden), x.mean((0, 3), keepdim=True), x)


@dataclass(frozen=True)
class Rolls:
    """Each example goes round by at most these shares of its bands (``frequency``) and frames
    (``time``), up or down, evenly drawn; what leaves at one end comes in at the other."""

    frequency: float = 0.05
    time: float = 0.9

    def __post_init__(self) -> None:
        if not (0 <= self.frequency <= 1 and 0 <= self.time <= 1):
            raise ValueError("shares lie in [0, 1]")

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        features = each(lambda x: self.rolled(x, generator), batch.features)
        return Batch(features, batch.targets, batch.weights)

    def rolled(self, x: Tensor, generator: np.random.Generator) -> Tensor:
        """Features [B, C, F, T], gone round."""
        most = int(self.frequency * x.shape[2]), int(self.time * x.shape[3])
        steps = [generator.integers(-n, n + 1, size=len(x)).tolist() for n in most]
        pairs = zip(x, *steps, strict=True)
        return torch.stack([one.roll((up, on), dims=(1, 2)) for one, up, on in pairs])


def blocks(widths: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """A block of each width [B] at a uniform place: [B, length]."""
    starts = generator.integers(length - widths + 1)[:, None]
    places = np.arange(length)
    found: np.ndarray = (places >= starts) & (places < starts + widths[:, None])
    return found


def on(x: Tensor, hidden: np.ndarray) -> Tensor:
    """What is hidden [B, F, T] of features [B, C, F, T], on their device."""
    return torch.from_numpy(hidden).to(x.device)[:, None]
