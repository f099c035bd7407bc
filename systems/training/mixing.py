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
class Mixing:
    """Mixup: ``x = l x1 + (1 - l) x2``, targets and weights alike, with ``l ~ Beta(alpha, alpha)``.

    The partner is a permutation of the batch; one ``l`` a batch, or one a pair (``per="sample"``).
    Source: Zhang et al. 2018 (arXiv 1710.09412); weights: gcnn_gcrnn_stacking, section 4.3.
    """

    alpha: float = 1.0
    per: Literal["batch", "sample"] = "batch"

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        size = len(batch.targets)
        drawn = generator.beta(self.alpha, self.alpha, size if self.per == "sample" else 1)
        partner = torch.from_numpy(generator.permutation(size))
        like = any_of(batch.features)
        share = torch.as_tensor(drawn, dtype=like.dtype, device=like.device)

        def mixed(x: Tensor) -> Tensor:
            by = share.view(-1, *[1] * (x.dim() - 1))
            return by * x + (1 - by) * x[partner.to(x.device)]

        weights = None if batch.weights is None else mixed(batch.weights)
        return Batch(each(mixed, batch.features), mixed(batch.targets), weights)
