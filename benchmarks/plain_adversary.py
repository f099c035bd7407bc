"""A plain PyTorch loop of adversarial domain adaptation over tensors: what ours is set beside."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.splits import TrainingData
from systems.network_system import NetworkSystem
from systems.training.adversarial import Adversarial
from systems.training.batches import Streams


class PlainAdversary:
    """Features of source and target clips, both networks, the discriminator, two optimisers."""

    def __init__(
        self, system: NetworkSystem, data: TrainingData, sounds: Any, context: Context
    ) -> None:
        about, streams = system.recipe.procedure, system.recipe.unlabelled
        assert isinstance(about, Adversarial)
        assert isinstance(streams, Streams)
        model = context.required(about.source).model
        hearing = system.hearing(sounds, system.length, data.label_hop)
        target = data.unlabelled["unlabelled"]
        self.features = []
        for ids in (data.labelled.clip_ids, target.clip_ids):
            examples = hearing.examples(model, ids, context)
            cut, _ = examples.batch(range(len(examples)))
            self.features.append(model.features(cut, context.device).clone())
        assert data.labelled.targets is not None
        self.targets = torch.as_tensor(data.labelled.targets)
        values = np.array([str(one[streams.column]) for one in target.columns])
        self.domains = [torch.from_numpy(np.flatnonzero(values == v)) for v in streams.values]
        self.training, self.settings, self.done = system.training, about.settings, 0
        self.source = copy.deepcopy(model.network.features).eval()
        self.network = copy.deepcopy(model.network)
        self.discriminator = about.discriminator(self.network.shape)
        rates = self.training.learning_rate, self.settings.learning_rate
        self.optimisers = (
            torch.optim.Adam(self.network.features.parameters(), lr=rates[0]),
            torch.optim.Adam(self.discriminator.parameters(), lr=rates[1]),
        )

    def epoch(self, steps: int) -> float:
        """So many steps; their mean loss."""
        size, share = self.training.labelled, self.training.unlabelled // len(self.domains)
        source = drawn(torch.arange(len(self.targets)), size, steps)
        targets = [drawn(rows, share, steps) for rows in self.domains]
        summed = 0.0
        for rows, *others in zip(source, *targets, strict=True):
            self.done += 1
            x, y = self.features[0][rows], self.targets[rows]
            told = plain_step(
                self.network, self.source, self.discriminator, self.optimisers,
                (x, y, self.features[1][torch.cat(others)]),
                self.settings.label_weight, self.done % self.settings.every == 0,
            )  # fmt: skip
            summed += told["loss"]
        return summed / steps


def drawn(rows: Tensor, size: int, steps: int) -> tuple[Tensor, ...]:
    """``steps`` batches of shuffled passes."""
    passes = 1 + steps * size // len(rows)
    order = torch.cat([rows[torch.randperm(len(rows))] for _ in range(passes)])
    return order[: steps * size].split(size)


def plain_step(
    network: Any, source: nn.Module, discriminator: nn.Module,
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    batch: tuple[Tensor, Tensor, Tensor], label_weight: float, judges: bool,
) -> Mapping[str, float]:  # fmt: skip
    """A step of the network on source clips, their labels and target clips; where the discriminator
    ``judges``, first one of its own. The adversarial loss is cross-entropy."""
    x, y, other = batch
    network.train()
    network.classifier.eval()
    discriminator.train()
    cross = nn.functional.binary_cross_entropy_with_logits
    adapted = network.features(torch.cat([x, other]))
    of_source, of_target = adapted[: len(x)], adapted[len(x) :]
    with torch.no_grad():
        real = source(x)
    if judges:
        said = discriminator(torch.cat([real, of_target.detach()]))[:, 0]
        loss = cross(said[: len(x)], torch.ones(len(x))) + cross(
            said[len(x) :], torch.zeros(len(other))
        )
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
    said = discriminator(torch.cat([real, of_target]))[:, 0]
    fooling = cross(said[len(x) :], torch.ones(len(other)))
    labels = nn.functional.cross_entropy(network.classifier(of_source), y)
    loss = fooling + label_weight * labels
    optimisers[0].zero_grad()
    loss.backward()
    optimisers[0].step()
    return {"loss": loss.item(), "adversarial": fooling.item(), "cross_entropy": labels.item()}
