"""Loss terms: each sees the whole step and gives one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from systems.outputs import Outputs
from systems.tracks import Features
from systems.training.vat import Vat, vat_loss
from systems.training.views import Seen

NOTHING = -100  # a target of a symbol that is none


@dataclass(frozen=True)
class Step:
    """One training step as a loss term sees it.

    ``features`` of the labelled examples, their ``targets`` ([B, K]; of series [B, T, D]) and
    ``weights`` [B], the network's ``outputs`` on them, and the features of the unlabelled examples,
    if any; ``views``: what the network says of their views, where the recipe has some.
    """

    network: nn.Module
    features: Features
    targets: Tensor
    outputs: Outputs
    unlabelled: Features | None
    weights: Tensor | None = None
    views: Seen | None = None


class LossTerm(Protocol):
    """A term of the loss, by name. ``supervised``: whether outputs and targets alone give it, so
    that it can be told of the validation part too."""

    name: str
    supervised: bool

    def __call__(self, step: Step) -> Tensor: ...


class ClipBce:
    """Binary cross-entropy of the clip posterior: summed over classes, mean over clips."""

    name = "clip_bce"
    supervised = True

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.clip is not None
        clip = step.outputs.clip.clamp(1e-6, 1 - 1e-6)
        loss = nn.functional.binary_cross_entropy(clip, step.targets, reduction="sum")
        return loss / len(step.targets)


class CrossEntropy:
    """Cross-entropy of the clip's logits with one-hot or soft targets; the mean over the batch of
    each example's weight times its loss. ``smoothing``: the share of the targets that is spread
    over all classes."""

    name = "cross_entropy"
    supervised = True

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.clip is not None
        loss = nn.functional.cross_entropy(
            step.outputs.clip, step.targets, reduction="none", label_smoothing=self.smoothing
        )
        return (loss if step.weights is None else loss * step.weights).mean()


class OneMinusPcc:
    """One minus Pearson's correlation of each excerpt's series, mean over excerpts and outputs."""

    name = "one_minus_pcc"
    supervised = True

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.frames is not None
        p = step.outputs.frames - step.outputs.frames.mean(1, keepdim=True)
        y = step.targets - step.targets.mean(1, keepdim=True)
        norms = p.norm(dim=1) * y.norm(dim=1)
        return (1 - (p * y).sum(1) / (norms + 1e-8)).mean()


class NextSymbol:
    """Cross-entropy of each symbol that follows, the word's end too; mean over symbols."""

    name = "next_symbol"
    supervised = True

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.frames is not None
        logits, targets = step.outputs.frames.flatten(0, 1), step.targets.flatten()
        return nn.functional.cross_entropy(logits, targets, ignore_index=NOTHING)


class LatentDistance:
    """L1 from a word's latent vector to its sound's: the sum over its numbers, mean over words."""

    name = "latent_distance"
    supervised = True

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.clip is not None
        return (step.outputs.clip - step.targets).abs().sum(1).mean()


class LogitBce:
    """Binary cross-entropy of logits [B, K] with targets in [0, 1], mean over all of them: of
    classes, or of a query and an item that answers it or not [B, 1].

    ``negative`` and ``positive``: what the loss of a class that is not there, and of one that is,
    counts.
    """

    name = "bce"
    supervised = True

    def __init__(self, negative: float = 1.0, positive: float = 1.0) -> None:
        self.weights = (negative, positive)

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.clip is not None
        bce = nn.functional.binary_cross_entropy_with_logits
        if self.weights == (1.0, 1.0):
            return bce(step.outputs.clip, step.targets)
        negative, positive = self.weights
        weights = negative + (positive - negative) * step.targets
        return bce(step.outputs.clip, step.targets, weights)


class KernelPenalty:
    """``weight`` times the sum of the squares of one parameter of the network, by its name (Keras'
    ``l2``)."""

    name = "l2"
    supervised = False

    def __init__(self, parameter: str, weight: float = 0.01) -> None:
        self.parameter, self.weight = parameter, weight

    def __call__(self, step: Step) -> Tensor:
        network: Any = getattr(step.network, "module", step.network)  # of several workers
        penalty: Tensor = self.weight * network.get_parameter(self.parameter).square().sum()
        return penalty


class TripletBce:
    """Of a query and two items, one of which answers it: binary cross-entropy of
    ``sigmoid(gain * a - gain * b)`` with whether the first does, where ``a`` and ``b`` are the
    sigmoids of their logits [B, 2] (qbv_siamese_triplet, section 3)."""

    name = "triplet_bce"
    supervised = True

    def __init__(self, gain: float = 50.0) -> None:
        self.gain = gain

    def __call__(self, step: Step) -> Tensor:
        assert step.outputs.clip is not None
        a, b = step.outputs.clip.sigmoid().unbind(1)
        bce = nn.functional.binary_cross_entropy_with_logits
        return bce(self.gain * (a - b), step.targets[:, 0])


class FixMatch:
    """``weight`` times the cross-entropy of the strong views' logits with the class that the weak
    views name at a probability of ``threshold`` or more; the mean over all unlabelled examples,
    those below it being zero. No gradient goes through the weak views.

    Of mixed strong views: the mixture of both classes' cross-entropies, where both are sure.
    Source: Sohn et al. 2020 (arXiv 2001.07685).
    """

    name = "fixmatch"
    supervised = False

    def __init__(self, threshold: float = 0.95, weight: float = 1.0) -> None:
        self.threshold, self.weight = threshold, weight

    def __call__(self, step: Step) -> Tensor:
        views = step.views
        assert views is not None, "FixMatch needs views"
        probability, named = views.weak.detach().softmax(1).max(1)
        sure = probability >= self.threshold

        def of(classes: Tensor) -> Tensor:
            return nn.functional.cross_entropy(views.strong, classes, reduction="none")

        loss = of(named)
        if views.mixed is not None:
            share, partner = views.mixed.share, views.mixed.partner
            loss = share * loss + (1 - share) * of(named[partner])
            sure = sure & sure[partner]
        return self.weight * (loss * sure).mean()


class VatTerm:
    """``weight`` times the VAT loss over the labelled and unlabelled clips of the batch."""

    name = "vat"
    supervised = False

    def __init__(self, settings: Vat) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> Tensor:
        x = step.features
        assert isinstance(x, Tensor), "VAT perturbs the features of one front end"
        if step.unlabelled is not None:
            assert isinstance(step.unlabelled, Tensor)
            x = torch.cat([x, step.unlabelled])
        return self.settings.weight * vat_loss(step.network, x, self.settings)


def total(terms: Sequence[LossTerm], step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all terms, and each term by name."""
    values = {term.name: term(step) for term in terms}
    return torch.stack(list(values.values())).sum(), values


def supervised(terms: Sequence[LossTerm], step: Step) -> Tensor:
    """The sum of the terms that outputs and targets give."""
    return torch.stack([term(step) for term in terms if term.supervised]).sum()
