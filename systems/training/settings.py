"""How a network is trained: length, batches, optimiser, schedule, when it stops, what is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Watched = Literal["metric", "loss"]


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the epochs, by ``torch.optim.lr_scheduler``.

    ``steps``: times ``factor`` after every ``every`` epochs. ``plateau``: times ``factor`` where
    what it watches (``on``, of the validation part) has not been better for more than ``patience``
    epochs, down to ``floor``; without a validation part a refit goes through the folds' median
    rates. ``cosine``: to zero over all epochs; ``cosine_restarts``: over ``every`` epochs, then
    anew from the first rate. ``one_cycle``: update by update, up to the rate in three tenths of
    them and down to nearly nothing in the others (``OneCycleLR``). ``from_best``: where the kept
    epoch has been the best for more than ``patience`` epochs, times ``factor`` and on from that
    epoch's weights, ``stages`` times in all; the training ends with the last (but_asc_fusion).
    ``triangular``, ``triangular2``, ``exp_range``: update by update, in ``every`` epochs up to
    ``peak`` and in as many down again (``CyclicLR``); each cycle rises half as high as the last one
    in ``triangular2``, and in ``exp_range`` by the ``factor`` less with each update.
    """

    kind: Literal[
        "constant", "steps", "plateau", "cosine", "cosine_restarts", "one_cycle", "from_best",
        "triangular", "triangular2", "exp_range",
    ] = "constant"  # fmt: skip
    factor: float = 1.0
    every: int = 1
    patience: int = 0
    on: Watched = "metric"
    stages: int = 3
    peak: float = 0.0
    floor: float = 0.0

    @property
    def by_step(self) -> bool:
        """Whether the rate changes after every update, not after an epoch."""
        return self.kind == "one_cycle" or self.is_cyclic

    @property
    def is_cyclic(self) -> bool:
        """Whether the rate goes up and down again, cycle by cycle."""
        return self.kind in ("triangular", "triangular2", "exp_range")

    @property
    def needs_validation(self) -> bool:
        """Whether the rate follows what the validation part says."""
        return self.kind in ("plateau", "from_best")

    def build(self, optimiser: torch.optim.Optimizer, epochs: int, updates: int, mode: str) -> Any:
        """The scheduler of so many epochs of so many updates; ``mode`` says which way the metric is
        better."""
        schedulers = torch.optim.lr_scheduler
        if self.kind == "steps":
            return schedulers.StepLR(optimiser, self.every, self.factor)
        if self.kind == "cosine":
            return schedulers.CosineAnnealingLR(optimiser, epochs)
        if self.kind == "cosine_restarts":
            return schedulers.CosineAnnealingWarmRestarts(optimiser, self.every)
        if self.kind == "one_cycle":
            peaks = [group["lr"] for group in optimiser.param_groups]
            return schedulers.OneCycleLR(optimiser, peaks, epochs * updates, cycle_momentum=False)
        if self.is_cyclic:
            cycle: Any = self.kind
            peaks = [self.peak * group["lr_scale"] for group in optimiser.param_groups]
            return schedulers.CyclicLR(
                optimiser, [group["lr"] for group in optimiser.param_groups], peaks,
                self.every * updates, mode=cycle, gamma=self.factor, cycle_momentum=False,
            )  # fmt: skip
        if self.kind == "plateau":
            better: Any = mode if self.on == "metric" else "min"
            return schedulers.ReduceLROnPlateau(
                optimiser, better, self.factor, self.patience, min_lr=self.floor
            )
        if self.kind == "from_best":
            return FromBest(optimiser, self.factor, self.patience, self.stages)
        return None


class FromBest:
    """Lowers the rate where the best epoch is too long ago, and says when to go back to it."""

    def __init__(
        self, optimiser: torch.optim.Optimizer, factor: float, patience: int, stages: int
    ) -> None:
        self.optimiser, self.factor, self.patience = optimiser, factor, patience
        self.left, self.began = stages - 1, 0

    def step(self, epoch: int, best: int) -> bool:
        """Whether the training goes back to its best epoch, for the next stage."""
        if epoch - max(best, self.began) <= self.patience or not self.left:
            return False
        self.left, self.began = self.left - 1, epoch
        for group in self.optimiser.param_groups:
            group["lr"] *= self.factor
        return True

    def is_over(self, epoch: int, best: int) -> bool:
        """Whether the last stage has been without a better epoch for too long."""
        return not self.left and epoch - max(best, self.began) > self.patience

    def state_dict(self) -> dict[str, int]:
        return {"left": self.left, "began": self.began}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.left, self.began = state["left"], state["began"]


@dataclass(frozen=True)
class Keep:
    """Which epochs predict: the ``best`` on the validation part, or the ``last``.

    With a ``count`` above 1 that many predict, and their scores are averaged; without a validation
    part these are the last ones.
    """

    what: Literal["best", "last"] = "best"
    on: Watched = "metric"
    count: int = 1


@dataclass(frozen=True)
class Training:
    """How long and on what a network trains.

    An epoch is one pass ``over`` the labelled or the unlabelled examples, or ``steps_per_epoch``
    batches. Each batch holds ``labelled`` and ``unlabelled`` examples. Gradients of ``accumulate``
    batches (of what is left at an epoch's end) are averaged before the optimiser steps. The
    training ends after ``epochs``, or when what is kept by (``keep.on``) has not been better, by
    more than ``least_gain``, for ``patience`` epochs; ``None``: never before.

    ``optimiser``: ``adam``, ``adamw``, ``nadam`` or ``sgd`` of torch, or any other name that
    ``timm.optim`` knows (``nesterov``; ``lookahead_radam``, which is called Ranger). Gradients are
    clipped to a norm of ``clip_norm``, if any.
    """

    epochs: int = 100
    labelled: int = 15
    unlabelled: int = 15
    learning_rate: float = 1e-3
    patience: int | None = 15
    steps_per_epoch: int | None = None
    optimiser: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    over: Literal["labelled", "unlabelled"] = "labelled"
    schedule: Schedule = Schedule()
    keep: Keep = Keep()
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        least = min(self.epochs, self.labelled, self.accumulate)
        if least < 1 or self.unlabelled < 0 or self.learning_rate <= 0:
            raise ValueError(
                "epochs, labelled and accumulate must be at least 1, unlabelled at least 0, "
                "learning_rate above 0"
            )
        if self.least_gain < 0:
            raise ValueError("least_gain must be at least 0")
        if self.schedule.is_cyclic and self.schedule.peak < self.learning_rate:
            raise ValueError("schedule.peak, set before the kind, is at least the learning_rate")
        if self.optimiser == "nesterov" and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.over == "unlabelled" and not self.unlabelled:
            raise ValueError("an epoch over unlabelled examples needs some in each batch")

    def steps(self, labelled: int, unlabelled: int = 0) -> int:
        """Batches of an epoch where there are so many examples."""
        if self.over == "unlabelled" and unlabelled:
            return self.steps_per_epoch or math.ceil(unlabelled / self.unlabelled)
        return self.steps_per_epoch or math.ceil(labelled / self.labelled)

    def updates(self, labelled: int, unlabelled: int) -> int:
        """Steps of the optimiser in such an epoch."""
        return math.ceil(self.steps(labelled, unlabelled) / self.accumulate)

    @property
    def watches_loss(self) -> bool:
        """Whether the loss of the validation part decides anything."""
        plateau = self.schedule.kind == "plateau" and self.schedule.on == "loss"
        return plateau or self.keep.on == "loss"

    def optimiser_of(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
    ) -> torch.optim.Optimizer:
        """The optimiser of some parameters, or of groups (``params``) that learn at ``lr_scale``
        times the rate.

        Raises:
            ValueError: neither torch nor timm has one of this name.
        """
        rate, decay = self.learning_rate, self.weight_decay
        groups: list[Any] = list(parameters)
        if not isinstance(next(iter(groups), None), dict):
            groups = [{"params": [p for p in groups if p.requires_grad], "lr_scale": 1.0}]
        trained = [{**group, "lr": rate * group["lr_scale"]} for group in groups]
        simple: dict[str, Any] = {
            "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam
        }  # fmt: skip
        if self.optimiser in simple:
            made: torch.optim.Optimizer = simple[self.optimiser](
                trained, lr=rate, weight_decay=decay
            )
            return made
        if self.optimiser == "sgd":
            return torch.optim.SGD(trained, lr=rate, momentum=self.momentum, weight_decay=decay)
        from timm.optim import create_optimizer_v2  # takes seconds to import

        return create_optimizer_v2(
            trained, opt=self.optimiser, lr=rate, weight_decay=decay, momentum=self.momentum
        )
