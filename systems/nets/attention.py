"""Attention pooling over time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

AttentionOver = Literal["classes", "time", "sigmoid"]


class AttentionPooling(nn.Module):
    """Frames [B, T, D] -> clip probabilities [B, K], frame probabilities and attention [B, T, K].

    ``y_c = sum_t z_cla_c(t) z_att_c(t) / sum_t z_att_c(t)``; the attention is a softmax over the
    classes of a frame, a softmax over time, or a sigmoid. ``exclusive``: whether a frame's
    probabilities are a softmax over classes, which exclude each other; else sigmoids.
    """

    def __init__(
        self, width: int, classes: int, over: AttentionOver, exclusive: bool = False
    ) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.classification = nn.Linear(width, classes)
        self.attention = nn.Linear(width, classes)
        self.over = over

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.classification(x)
        z_cla = logits.softmax(-1) if self.exclusive else torch.sigmoid(logits)
        z_att = self._attend(self.attention(x), mask)
        if mask is not None:
            z_att = z_att * mask
        clip = (z_cla * z_att).sum(1) / z_att.sum(1).clamp_min(1e-7)
        return clip, z_cla, z_att

    def _attend(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        if self.over == "classes":
            return torch.softmax(logits, dim=-1)
        if self.over == "sigmoid":
            return torch.sigmoid(logits)
        if mask is not None:
            logits = logits.masked_fill(mask == 0, float("-inf"))
        return torch.softmax(logits, dim=1)
