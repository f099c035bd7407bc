"""Gated convolution (GLU) blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedConv(nn.Module):
    """``(W*X + b) * sigmoid(V*X + c)`` with batch norm on both maps: [B, C, F, T] -> [B, N, F, T].

    W and V are one convolution of 2N filters whose output is split in halves.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 2 * channels, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        linear, gate = self.norm(self.conv(x)).chunk(2, dim=1)
        return linear * torch.sigmoid(gate)


def pool_bands(x: Tensor, size: int) -> Tensor:
    """Maxima of ``size`` neighbouring bands: [B, C, F, T] -> [B, C, ceil(F / size), T].

    The ceiling keeps what a number of bands that no power of the pool divides leaves over.
    """
    if x.requires_grad:
        return nn.functional.max_pool2d(x, (size, 1), ceil_mode=True)
    # The same maxima in a tenth of the time on a CPU, which does not vectorise that one. Its
    # gradient would differ: it is shared among equal bands.
    missing = -x.shape[2] % size
    if missing:
        x = nn.functional.pad(x, (0, 0, 0, missing), value=-torch.inf)
    return x.unflatten(2, (-1, size)).amax(3)


class GatedBlock(nn.Module):
    """``convolutions`` gated convolutions, max pooling over frequency alone, dropout.

    ``mask`` [B, 1, 1, T] keeps padded frames at zero after every convolution, so that a padded clip
    gives what it gives alone.
    """

    def __init__(
        self, channels_in: int, channels: int, convolutions: int, pool: int, dropout: float
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            GatedConv(channels_in if i == 0 else channels, channels) for i in range(convolutions)
        )
        self.pool = pool
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for convolution in self.convolutions:
            x = convolution(x)
            if mask is not None:
                x = x * mask
        return self.dropout(pool_bands(x, self.pool))
