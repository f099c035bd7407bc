"""Changes of a training batch before the network sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from systems.tracks import Features, any_of, each


@dataclass(frozen=True)
class Batch:
    """Features of B examples, their targets [B, ...] and weights [B], if any."""

    features: Features
    targets: Tensor
    weights: Tensor | None


class Augmentation(Protocol):
    """A change of a batch, a function of the generator alone."""

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch: ...


@dataclass(frozen=True)
class Mixed:
    """Which examples are mixed: each one's ``share`` ([B], or [1] of all), and its ``partner``
    [B]."""

    share: Tensor
    partner: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Values [B, ...] of the examples, mixed."""
        by = self.share.view(-1, *[1] * (x.dim() - 1))
        return by * x + (1 - by) * x[self.partner]


@dataclass(frozen=True)
class Mixing:
    """Mixup: ``x = l x1 + (1 - l) x2``, targets and weights alike, with ``l ~ Beta(alpha, alpha)``.

    The partner is a permutation of the batch; one ``l`` a batch, or one a pair (``per="sample"``);
    ``dominant``: the larger of ``l`` and ``1 - l``. Source: Zhang et al. 2018 (arXiv 1710.09412);
    weights: gcnn_gcrnn_stacking, section 4.3; dominant: MixMatch (arXiv 1905.02249).
    """

    alpha: float = 1.0
    per: Literal["batch", "sample"] = "batch"
    dominant: bool = False

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        mixed = self.drawn(len(batch.targets), generator, any_of(batch.features))
        weights = None if batch.weights is None else mixed(batch.weights)
        return Batch(each(mixed, batch.features), mixed(batch.targets), weights)

    def drawn(self, size: int, generator: np.random.Generator, like: Tensor) -> Mixed:
        """How a batch of so many examples is mixed, as a function of the generator."""
        share = generator.beta(self.alpha, self.alpha, size if self.per == "sample" else 1)
        if self.dominant:
            share = np.maximum(share, 1 - share)
        partner = torch.from_numpy(generator.permutation(size)).to(like.device)
        return Mixed(torch.as_tensor(share, dtype=like.dtype, device=like.device), partner)
