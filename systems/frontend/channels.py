"""Channels of stereo sound as maps of one input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.data.store import Channels
from systems.frontend.over import OverAnother

MAPS = {"mono": 1, "stereo": 2, "lrms": 4}


@dataclass(frozen=True)
class ChannelMix(OverAnother):
    """A front end of one channel over each map that is made of the sound: [B, C, F, T].

    ``mix``: ``mono``; left and right (``stereo``); or left, right, L + R and L - R (``lrms``).
    ``centred``: each channel's mean is taken away first.
    """

    front_end: Any
    mix: Literal["mono", "stereo", "lrms"] = "mono"
    centred: bool = False

    @property
    def channels(self) -> Channels:
        return "mono" if self.mix == "mono" else "stereo"

    @property
    def stored(self) -> bool:
        return bool(getattr(self.front_end, "stored", False))

    @property
    def of(self) -> Any:
        return self.front_end

    def shape(self, samples: int) -> tuple[int, int, int]:
        _, bands, frames = self.front_end.shape(samples)
        return MAPS[self.mix], bands, frames

    def build(self) -> nn.Module:
        return _ChannelMix(self)


class _ChannelMix(nn.Module):
    def __init__(self, config: ChannelMix) -> None:
        super().__init__()
        self.config = config
        self.front_end = config.front_end.build()

    def forward(self, waveforms: Tensor) -> Tensor:
        if self.config.centred:
            waveforms = waveforms - waveforms.mean(-1, keepdim=True)
        if self.config.mix == "mono":
            features: Tensor = self.front_end(waveforms)
            return features
        if self.config.mix == "lrms":
            left, right = waveforms[:, 0], waveforms[:, 1]
            waveforms = torch.stack([left, right, left + right, left - right], 1)
        maps = self.front_end(waveforms.flatten(0, 1))  # [B * C, 1, F, T]
        return maps.unflatten(0, waveforms.shape[:2]).squeeze(2)
