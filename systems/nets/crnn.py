"""The skeleton of weak event detection: convolutions, recurrence, pooling over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.nets.attention import AttentionPooling
from systems.nets.convs import ConvStack
from systems.nets.recurrent import Recurrent
from systems.outputs import Outputs


class Crnn(nn.Module):
    """Features [B, C, F, T] -> clip posterior [B, K] and frame posterior [B, T, K].

    ``convs`` pools frequency alone; ``recurrent`` reads its rows flattened, and ``pooling`` makes
    clip and frame posteriors of what it gives.
    """

    def __init__(self, convs: ConvStack, recurrent: Recurrent, pooling: AttentionPooling) -> None:
        super().__init__()
        self.convs = convs
        self.recurrent = recurrent
        self.pooling = pooling

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Outputs:
        """``lengths`` [B] in frames masks padded clips, which then give what they give alone."""
        mask = None
        if lengths is not None:
            there = torch.arange(x.shape[-1], device=x.device) < lengths[:, None]
            mask = there[:, None, None, :].to(x.dtype)
        sequence = self.convs(x, mask).flatten(1, 2).transpose(1, 2)  # [B, T, C * F]
        sequence = self.recurrent(sequence, lengths)
        clip, frames, _ = self.pooling(sequence, None if mask is None else mask[:, 0, 0, :, None])
        return Outputs(clip, frames)
