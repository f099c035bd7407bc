"""Adversarial domain adaptation: a network learns features of target clips, which have no labels,
that a discriminator takes for the source network's features of source clips.

Source: Tzeng et al. 2017 (ADDA), with the label term of adversarial_domain_adaptation, section 2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.context import Context
from systems.listening import Model
from systems.outputs import Outputs
from systems.training.losses import LossTerm, Step, total
from systems.training.mixing import Batch
from systems.training.procedure import Moment

PENALTY = 10.0  # of the Wasserstein critic's gradient (Gulrajani et al. 2017)


@dataclass(frozen=True)
class Adversary:
    """Settings of the game.

    The network minimises the adversarial loss of target clips plus ``label_weight`` times its own
    loss terms on source clips; each is a mean over its own part of the batch. The discriminator
    takes a step of Adam at ``learning_rate`` on every ``every``-th batch, before the network does.
    ``loss``: ``non_saturating`` (cross-entropy), ``least_squares``, or ``wasserstein`` with a
    gradient penalty.
    """

    label_weight: float = 10.0
    every: int = 10
    learning_rate: float = 1e-4
    loss: Literal["non_saturating", "least_squares", "wasserstein"] = "non_saturating"

    def __post_init__(self) -> None:
        if self.label_weight < 0 or self.every < 1 or self.learning_rate <= 0:
            raise ValueError(
                "label_weight is at least 0, every at least 1, learning_rate lies above 0"
            )

    def discriminating(self, source: Tensor, target: Tensor) -> Tensor:
        """What the discriminator minimises, of its logits [n] of source and of target features,
        but for the gradient penalty."""
        if self.loss == "least_squares":
            return (source - 1).square().mean() + target.square().mean()
        if self.loss == "wasserstein":
            return target.mean() - source.mean()
        return nn.functional.softplus(-source).mean() + nn.functional.softplus(target).mean()

    def fooling(self, target: Tensor) -> Tensor:
        """What the network minimises: its target features are to pass for source features."""
        if self.loss == "least_squares":
            return (target - 1).square().mean()
        return -target.mean() if self.loss == "wasserstein" else (
            nn.functional.softplus(-target).mean()
        )  # fmt: skip


@dataclass(frozen=True)
class Adversarial:
    """The procedure: ``source`` names the required fitted network whose features are the model, and
    as which the trained one began; ``discriminator``: the shape of an example's features (a map or
    a vector) -> a module that gives a logit [n, 1] of "source".

    The network has two parts, ``features`` and ``classifier``, and says the ``shape`` of what is
    between them.
    """

    settings: Adversary
    source: str
    discriminator: Callable[[tuple[int, ...]], nn.Module]

    def begin(self, model: Model, terms: Sequence[LossTerm], context: Context) -> Game:
        return Game(self, model, terms, context)


class Game:
    """The two players: the model's network, whose optimiser is the training's, and the
    discriminator with its own."""

    def __init__(
        self, about: Adversarial, model: Model, terms: Sequence[LossTerm], context: Context
    ) -> None:
        self.settings, self.terms, self.context = about.settings, terms, context
        network: Any = model.network
        self.network: Any = network
        fitted = copy.deepcopy(context.required(about.source).model.network.features)
        self.source: nn.Module = fitted.to(context.device).requires_grad_(False).eval()
        self.discriminator = about.discriminator(network.shape).to(context.device)
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=self.settings.learning_rate
        )

    def start_training(self) -> None:
        self.discriminator.train()

    def loss(self, batch: Batch, unlabelled: Any, now: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's step, where it is due, and then the network's loss.

        Source and target clips go through the network, and their features through the
        discriminator, in one pass each: batch norm sees both domains.
        """
        x, count = batch.features, len(batch.targets)
        assert isinstance(x, Tensor), "the game is over the features of one front end"
        with self.context.mixed_precision():
            features = self.network.features(torch.cat([x, unlabelled])).float()
            with torch.no_grad():
                source = self.source(x).float()
        target = features[count:]
        if now.batch % self.settings.every == 0:
            self._discriminate(source, target.detach())
        self.discriminator.requires_grad_(False)
        judged = self._judge(source, target)
        outputs = Outputs(self.network.classifier(features[:count]))
        labels, named = total(
            self.terms,
            Step(self.network, batch.features, batch.targets, outputs, unlabelled, batch.weights),
        )
        fooling = self.settings.fooling(judged[1])
        with torch.no_grad():
            discriminating = self.settings.discriminating(*judged)
        told = {"adversarial": fooling, "discriminator": discriminating}
        return fooling + self.settings.label_weight * labels, {**named, **told}

    def _discriminate(self, source: Tensor, target: Tensor) -> None:
        """A step of the discriminator alone."""
        self.discriminator.requires_grad_(True)
        loss = self.settings.discriminating(*self._judge(source, target))
        if self.settings.loss == "wasserstein":
            loss = loss + PENALTY * self._penalty(source, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def _judge(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n] of both, from one pass."""
        said = self.discriminator(torch.cat([source, target])).squeeze(1)
        return said[: len(source)], said[len(source) :]

    def _penalty(self, source: Tensor, target: Tensor) -> Tensor:
        """How far the gradient's norm is from 1 between source and target features."""
        count = min(len(source), len(target))
        share = torch.rand(count, *[1] * (source.dim() - 1), device=source.device)
        between = share * source[:count] + (1 - share) * target[:count]
        between.requires_grad_()
        (gradient,) = torch.autograd.grad(
            self.discriminator(between).sum(), between, create_graph=True
        )
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    def state_dict(self) -> dict[str, Any]:
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
