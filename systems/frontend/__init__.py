"""Front ends: waveforms [B, S] -> features [B, C, F, T], on the device."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class FrontEnd(Protocol):
    """Settings of a front end. ``rate`` in Hz; ``hop_seconds`` from frame to frame in s.

    ``frame_start``: s at which the first frame begins to stand for the sound. A frame stands for
    what lies nearest to the middle of what it saw: half a hop on either side.
    """

    @property
    def rate(self) -> int: ...

    @property
    def hop_seconds(self) -> float: ...

    @property
    def frame_start(self) -> float: ...

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape (C, F, T) of the features of so many samples."""
        ...

    def build(self) -> nn.Module:
        """Waveforms [B, S] -> features [B, C, F, T]."""
        ...
