"""How the loss of a batch comes about: by the network and its loss terms, or by a game with others.

Checkpoints, reports, interruption and workers are the loop's (:mod:`systems.training.supervised`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from systems.context import Context
from systems.errors import Diverged
from systems.training.losses import LossTerm, Step, total
from systems.training.mixing import Batch


class Steps(Protocol):
    """How the loss of a batch comes about.

    What has weights of its own beside the model's trains them within :meth:`loss`; their state goes
    into the checkpoints.
    """

    def start_training(self) -> None:
        """Into training mode; the model is."""
        ...

    def loss(
        self, batch: Batch, unlabelled: Any, epoch: int, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss that the model's optimiser lowers, and what else is told of it, by name.

        Args:
            batch: of labelled examples.
            unlabelled: features of others, or ``None``.
            epoch: from 1.
            step: of the whole training, from 1.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Procedure(Protocol):
    """Settings of such steps."""

    def begin(self, model: Any, terms: Sequence[LossTerm], context: Context) -> Steps: ...


@dataclass(frozen=True)
class Supervised:
    """One pass of the network, and the sum of the loss terms."""

    network: nn.Module
    terms: Sequence[LossTerm]
    context: Context

    def start_training(self) -> None:
        """The model is all that trains."""

    def loss(
        self, batch: Batch, unlabelled: Any, epoch: int, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with self.context.mixed_precision():
            outputs = self.network(batch.features).float()
        told = outputs.clip if outputs.clip is not None else outputs.frames
        if not torch.isfinite(told).all():
            raise Diverged(f"the loss is not finite in epoch {epoch}: the network's output is not")
        seen = Step(self.network, batch.features, batch.targets, outputs, unlabelled, batch.weights)
        return total(self.terms, seen)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing beside the model has weights."""
