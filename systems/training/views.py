"""Two views of each unlabelled example: one to be named by, one that is to be named alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from systems.tracks import any_of, each
from systems.training.mixing import Augmentation, Batch, Mixed, Mixing


@dataclass(frozen=True)
class Views:
    """Features of both views, and how the strong ones were mixed, if they were."""

    weak: Any
    strong: Any
    mixed: Mixed | None


@dataclass(frozen=True)
class Seen:
    """Logits [U, K] of both views, and how the strong ones were mixed."""

    weak: Tensor
    strong: Tensor
    mixed: Mixed | None = None


@dataclass(frozen=True)
class TwoViews:
    """A ``weak`` and a ``strong`` change of the same examples; strong views may be mixed."""

    weak: Augmentation
    strong: Augmentation
    mixing: Mixing | None = None

    def of(self, features: Any, generator: np.random.Generator) -> Views:
        """The views of features [U, C, F, T], as a function of the generator."""
        size = len(any_of(features))
        plain = Batch(features, torch.zeros(size, 1), None)
        weak = self.weak(plain, generator).features
        strong = self.strong(plain, generator).features
        if self.mixing is None:
            return Views(weak, strong, None)
        mixed = self.mixing.drawn(size, generator, any_of(strong))
        return Views(weak, each(mixed, strong), mixed)
