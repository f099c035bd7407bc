"""A front end over another one."""

from __future__ import annotations

from typing import Any


class OverAnother:
    """What a front end has of the one that it is over, ``of``."""

    of: Any

    @property
    def rate(self) -> int:
        return int(self.of.rate)

    @property
    def hop_seconds(self) -> float:
        return float(self.of.hop_seconds)

    @property
    def frame_start(self) -> float:
        return float(self.of.frame_start)

    def shape(self, samples: int) -> tuple[int, ...]:
        return tuple(self.of.shape(samples))
