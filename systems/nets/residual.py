"""Residual blocks over sequences [B, C, T]."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Convolutions of 1, ``kernel`` and 1, normalised, around a skip: [B, C, T] -> [B, N, T]."""

    def __init__(self, channels: int, inner: int, out: int, kernel: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, k in ((channels, inner, 1), (inner, inner, kernel), (inner, out, 1)):
            layers += [nn.Conv1d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.skip: nn.Module = nn.Identity()
        if channels != out:
            self.skip = nn.Sequential(nn.Conv1d(channels, out, 1, bias=False), nn.BatchNorm1d(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.skip(x))
