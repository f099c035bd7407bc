"""Standardisation of features with statistics of what is trained."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

By = Literal["band", "clips", "all", "batch", "clip", "none"]


class Scale(nn.Module):
    """Features [B, C, F, T] less their mean, over their deviation.

    ``by``: each ``band`` of each channel, or ``all`` values, with statistics of the training part;
    each band by the mean of what the ``clips`` have each for themselves (a mean and a deviation);
    all values of the ``batch``, with their running statistics in evaluation; all values of each
    example (``clip``), whatever is trained; or ``none``.
    """

    def __init__(self, shape: tuple[int, ...], by: By = "band") -> None:
        super().__init__()
        self.by = by
        self.fitted = by in ("band", "clips", "all")
        self.norm = nn.BatchNorm1d(1, affine=False) if by == "batch" else None
        size = (*shape[:-1], 1) if by in ("band", "clips") else (1,) * len(shape)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.mean: Tensor
        self.deviation: Tensor
        self._sums: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Take features into the statistics."""
        x = features.double()
        if self.by == "clips":
            means, deviations = x.mean(-1), x.std(-1, unbiased=False)
            count = torch.tensor(float(len(x)))
            moments = [count, means.sum(0).cpu(), deviations.sum(0).cpu()]
        else:
            over = tuple(i for i in range(x.dim()) if self.by == "all" or i in (0, x.dim() - 1))
            count = torch.tensor(float(x.numel() // max(1, self.mean.numel())))
            moments = [count, x.sum(over).cpu(), x.square().sum(over).cpu()]
        if self._sums:
            moments = [a + b for a, b in zip(self._sums, moments, strict=True)]
        self._sums = moments

    def finish(self) -> None:
        """Set the statistics; what never changes keeps its scale."""
        count, first, second = self._sums
        mean = first / count
        deviation = second / count
        if self.by != "clips":
            deviation = (deviation - mean.square()).clamp_min(0).sqrt()
        deviation = deviation.float()
        self.mean.copy_(mean.float().reshape(self.mean.shape))
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0).reshape(self.mean.shape))
        self._sums = []

    def forward(self, features: Tensor) -> Tensor:
        if self.norm is not None:
            scaled: Tensor = self.norm(features.reshape(-1, 1)).view_as(features)
            return scaled
        if self.by == "clip":
            over = tuple(range(1, features.dim()))
            mean = features.mean(over, keepdim=True)
            deviation = features.std(over, unbiased=False, keepdim=True)
            return (features - mean) / torch.where(deviation > 1e-6, deviation, 1.0)
        return features if self.by == "none" else (features - self.mean) / self.deviation
