"""Loss terms: each sees the whole step and gives one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from systems.training.vat import Vat, vat_loss


@dataclass(frozen=True)
class Step:
    """One training step as a loss term sees it.

    ``features`` [B, C, F, T] of the labelled clips, their ``targets`` [B, K], the network's
    ``outputs`` on them (clip posterior first), and the features of the unlabelled clips, if any.
    """

    network: nn.Module
    features: Tensor
    targets: Tensor
    outputs: tuple[Tensor, ...]
    unlabelled: Tensor | None


class LossTerm(Protocol):
    """A term of the loss, by name."""

    name: str

    def __call__(self, step: Step) -> Tensor: ...


class ClipBce:
    """Binary cross-entropy of the clip posterior: summed over classes, mean over clips."""

    name = "clip_bce"

    def __call__(self, step: Step) -> Tensor:
        clip = step.outputs[0].clamp(1e-6, 1 - 1e-6)
        loss = nn.functional.binary_cross_entropy(clip, step.targets, reduction="sum")
        return loss / len(step.targets)


class VatTerm:
    """``weight`` times the VAT loss over the labelled and unlabelled clips of the batch."""

    name = "vat"

    def __init__(self, settings: Vat) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> Tensor:
        x = step.features
        if step.unlabelled is not None:
            x = torch.cat([x, step.unlabelled])
        return self.settings.weight * vat_loss(step.network, x, self.settings)


def total(terms: Sequence[LossTerm], step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all terms, and each term by name."""
    values = {term.name: term(step) for term in terms}
    return torch.stack(list(values.values())).sum(), values
