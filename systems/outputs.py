"""What a network says about a batch of excerpts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor


@dataclass
class Outputs:
    """The outputs of a network for B excerpts; what it does not give is ``None``.

    ``clip`` [B, K] and ``frames`` [B, T, K] are what losses see: logits, or posteriors of a network
    that pools probabilities. ``embedding`` [B, E] and ``frame_embedding`` [B, T, E] lie before the
    last layers.
    """

    clip: Tensor | None = None
    frames: Tensor | None = None
    embedding: Tensor | None = None
    frame_embedding: Tensor | None = None

    def rows(self, where: slice) -> Outputs:
        """Those of some of the excerpts."""
        values = (getattr(self, field.name) for field in fields(self))
        return Outputs(*(None if value is None else value[where] for value in values))

    def float(self) -> Outputs:
        """In single precision, for losses."""
        values = (getattr(self, field.name) for field in fields(self))
        return Outputs(*(None if value is None else value.float() for value in values))
