"""Front ends: waveforms [B, S] -> features [B, C, F, T], on the device."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class FrontEnd(Protocol):
    """Settings of a front end. ``rate`` in Hz; ``hop_seconds`` from frame to frame in s."""

    @property
    def rate(self) -> int: ...

    @property
    def hop_seconds(self) -> float: ...

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape (C, F, T) of the features of so many samples."""
        ...

    def build(self) -> nn.Module:
        """Waveforms [B, S] -> features [B, C, F, T]."""
        ...
