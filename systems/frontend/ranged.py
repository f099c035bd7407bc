"""Features between two values, as shares of what lies between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from systems.context import Context
from systems.data.splits import TrainingData
from systems.frontend.over import OverAnother
from systems.system import Sounds


@dataclass(frozen=True)
class Ranged(OverAnother):
    """``(x - low) / (high - low)`` of the features of ``of``; ``clamped`` to [0, 1]."""

    of: Any
    low: float = 0.0
    high: float = 1.0
    clamped: bool = True

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError("low lies below high")

    @property
    def column(self) -> str:
        """The column of the clips that what it ranges asks for."""
        return getattr(self.of, "column", "")

    @property
    def target(self) -> str:
        """The value of it that some clip must have."""
        return getattr(self.of, "target", "")

    def taught(self, data: TrainingData, sounds: Sounds, context: Context) -> Ranged:
        if not hasattr(self.of, "taught"):
            return self
        return replace(self, of=self.of.taught(data, sounds, context))

    def restored(self, about: Mapping[str, Any]) -> Ranged:
        return replace(self, of=self.of.restored(about)) if about else self

    def build(self) -> RangedFrontEnd:
        return RangedFrontEnd(self)


class RangedFrontEnd(nn.Module):
    """Waveforms [B, S] -> features in a range."""

    def __init__(self, config: Ranged) -> None:
        super().__init__()
        self.config = config
        self.of = config.of.build()
        self.about = getattr(self.of, "about", {})

    def forward(self, waveforms: Tensor, value: str = "") -> Tensor:
        features = self.of(waveforms, value) if value else self.of(waveforms)
        c = self.config
        shares: Tensor = (features - c.low) / (c.high - c.low)
        return shares.clamp(0, 1) if c.clamped else shares
