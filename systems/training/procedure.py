"""How the loss of a batch comes about: by the network and its loss terms, or by a game with others.

Checkpoints, reports, interruption and workers are the loop's (:mod:`systems.training.supervised`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.errors import Diverged
from systems.outputs import Outputs
from systems.tracks import any_of, each
from systems.training.losses import LossTerm, Step, total
from systems.training.mixing import Batch
from systems.training.views import Seen, TwoViews


class Moment(NamedTuple):
    """Where a training is: epoch and batch, both from 1 and counted over all of it, and what draws
    the epoch's random numbers."""

    epoch: int
    batch: int
    generator: np.random.Generator


class Steps(Protocol):
    """How the loss of a batch comes about.

    What has weights of its own beside the model's trains them within :meth:`loss`; their state goes
    into the checkpoints.
    """

    def start_training(self) -> None:
        """Into training mode; the model is."""
        ...

    def loss(self, batch: Batch, unlabelled: Any, now: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss that the model's optimiser lowers, and what else is told of it, by name.

        Args:
            batch: of labelled examples.
            unlabelled: features of others, or ``None``.
            now: which batch it is.
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
    views: TwoViews | None = None

    def start_training(self) -> None:
        """The model is all that trains."""

    def loss(self, batch: Batch, unlabelled: Any, now: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        outputs, seen = self._outputs(batch.features, unlabelled, now.generator)
        told = outputs.clip if outputs.clip is not None else outputs.frames
        assert told is not None
        if not torch.isfinite(told).all():
            raise Diverged(
                f"the loss is not finite in epoch {now.epoch}: the network's output is not"
            )
        step = Step(
            self.network, batch.features, batch.targets, outputs, unlabelled, batch.weights, seen
        )
        return total(self.terms, step)

    def _outputs(
        self, features: Any, others: Any, generator: np.random.Generator
    ) -> tuple[Outputs, Seen | None]:
        """What the network says of the labelled examples, and of views of the others: all in one
        pass, so that batch norms hear both."""
        size, made = len(any_of(features)), None
        if self.views is not None and others is not None:
            made = self.views.of(others, generator)
            features = each(lambda *ones: torch.cat(ones), features, made.weak, made.strong)
        with self.context.mixed_precision():
            outputs = self.network(features).float()
        if made is None:
            return outputs, None
        assert outputs.clip is not None, "views are compared by what is said of a clip"
        weak, strong = outputs.clip[size:].chunk(2)
        return outputs.rows(slice(0, size)), Seen(weak, strong, made.mixed)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing beside the model has weights."""
