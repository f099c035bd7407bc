"""The loop of a network on labelled (and unlabelled) examples, whatever its batches are made of
and however the loss of a batch comes about."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Event
from systems.data.splits import TrainingData
from systems.errors import Diverged, UserError
from systems.kinds import kind
from systems.listening import Model
from systems.metrics import metric
from systems.predictions import Predictions
from systems.tracks import Examples
from systems.training.batches import (
    Batches,
    Passes,
    Shuffled,
    Source,
    Unlabelled,
    targets_of,
)
from systems.training.history import History
from systems.training.losses import LossTerm, Step, supervised
from systems.training.mixing import Augmentation
from systems.training.procedure import Moment, Procedure, Steps, Supervised
from systems.training.settings import FromBest, Training
from systems.training.views import TwoViews

KEPT = "checkpoint_kept"

# (frame scores [T, K], seconds) -> those of the clip itself, and the events that they hold
Timed = Callable[[np.ndarray, float], tuple[np.ndarray, tuple[Event, ...] | None]]


@dataclass(frozen=True)
class Recipe:
    """What a network is trained by: loss terms, the training's settings, changes of a batch, what
    batches are made of, views of the unlabelled examples, if any, and how the loss of a batch comes
    about (``None``: by the terms alone).

    ``scale_also``: roles over whose clips the scale is fitted too.
    """

    terms: Sequence[LossTerm]
    training: Training
    augment: Sequence[Augmentation] = ()
    batches: Batches = Shuffled()
    unlabelled: Unlabelled = Passes()
    views: TwoViews | None = None
    procedure: Procedure | None = None
    scale_also: Sequence[str] = ()


def fit(
    model: Model, recipe: Recipe, hearing: Any, data: TrainingData, context: Context,
    timed: Timed | None = None,
) -> tuple[History, list[dict[str, Tensor]]]:  # fmt: skip
    """Train ``model`` in place; what is kept of its epochs are states, the best (or only) first.

    Each epoch ends with a checkpoint, then a report of ``loss``, its terms, and, with a validation
    part, the data's metric; ``timed`` makes events of frame scores and a duration where the metric
    reads events. ``hearing``: a :class:`Hearing`, or what else gives the source of the recipe's
    batches, tracks, and what the model says of them. Goes on from the context's checkpoint where
    there is one.

    Raises:
        Diverged: the loss is not finite.
    """
    training = recipe.training
    loop = Loop.start(model, recipe, hearing, data, context)
    loop.timed = timed
    history, start = History(), 1
    kept: dict[int, dict[str, Tensor]] = {}
    last = min(training.epochs, context.last_step or training.epochs)
    state = context.restore()
    if state is not None and state["step"] > last:  # of a longer training: not this one's
        state = None
    if state is None:
        also = [hearing.examples(model, data.unlabelled[role].clip_ids, context)
                for role in recipe.scale_also]  # fmt: skip
        model.fit_scale(loop.labelled.heard, context, *also)
    else:
        model.load_state_dict(state["model"])
        loop.optimiser.load_state_dict(state["optimiser"])
        loop.procedure.load_state_dict(state["procedure"])
        if loop.scheduler is not None:
            loop.scheduler.load_state_dict(state["scheduler"])
        start = state["step"] + 1
        history = History.restored(state["history"], state["step"], data, context)
        kept = {epoch: _restored(epoch, context) for epoch in history.kept}
        context.report(state["step"], history.metrics[-1])
    for epoch in range(start, last + 1):
        if _ends(loop, history, epoch):
            break
        began = time.monotonic()
        generator = context.seed_step(epoch)
        loop.set_rate(epoch)
        loop.labelled.draw(generator)
        count = training.steps(len(loop.labelled), len(loop.unlabelled or ()))
        metrics = loop.steps(count, generator, epoch)
        if data.validation is not None:
            metrics |= _validate(loop, history, epoch, data)
        loop.schedule(metrics, data)
        metrics["seconds"] = time.monotonic() - began
        history.metrics.append(metrics)
        _keep(loop, history, kept, epoch, data)
        if loop.goes_back(epoch, history):
            model.load_state_dict(kept[history.best_step])
        _publish(loop, history, epoch)
        context.report(epoch, metrics)
    if history.kept:
        return history, [kept[epoch] for epoch in history.kept]
    return history, [_learnt(model)]


def _ends(loop: Loop, history: History, epoch: int) -> bool:
    """Whether nothing has become better for the patience of the training, or of its schedule."""
    patience = loop.recipe.training.patience
    if loop.data.validation is None:
        return False
    if isinstance(loop.scheduler, FromBest) and loop.scheduler.is_over(epoch, history.best_step):
        return True
    return patience is not None and epoch - _last_gain(loop, history) > patience


def _last_gain(loop: Loop, history: History) -> int:
    """The last epoch that was better than all before it, by more than the training's least gain
    above the last one that was so."""
    training, found, best = loop.recipe.training, 0, -math.inf
    if not training.least_gain:
        return history.best_step
    for epoch, metrics in enumerate(history.metrics, start=1):
        worth = _worth(loop, metrics)
        if worth - training.least_gain > best:
            found, best = epoch, worth
    return found


def _worth(loop: Loop, metrics: dict[str, float]) -> float:
    """What an epoch is chosen by, so that more is better."""
    if loop.recipe.training.keep.on == "loss":
        return -metrics["validation_loss"]
    name = loop.data.metric
    return metric(name).sign * metrics[name]


def _validate(loop: Loop, history: History, epoch: int, data: TrainingData) -> dict[str, float]:
    """The data's metric on the validation part, and the loss there where it decides anything.

    Of several workers all get the first one's answer, and events where the metric reads them, so
    that they judge alike, and only the first the frames, which it alone keeps.
    """
    assert data.validation is not None
    ids, frames = data.validation.clip_ids, list[np.ndarray]()
    losses: list[tuple[float, int]] = []
    ragged = kind(data.kind).ragged
    reads_events = metric(data.metric).reads(data.kind) == "events"

    def tap(features: Any, outputs: Any, rows: Sequence[int], starts: np.ndarray) -> None:
        targets = loop.validation_targets(rows, starts, outputs)
        step = Step(loop.model.network, features, targets, outputs, None)
        losses.append((float(supervised(loop.recipe.terms, step)), len(rows)))

    def first() -> tuple[Any, Any, float]:
        watch = tap if loop.recipe.training.watches_loss else None
        answers = []
        for heard in loop.hearing.listen(loop.model, loop.validation, loop.context, watch):
            answers.append(heard.answer(data.kind).numpy())
            if heard.frames is not None and not ragged:
                frames.append(heard.frames.numpy())
        events = None
        if reads_events and frames and loop.timed is not None:
            seconds = loop.validation.seconds
            events = tuple(loop.timed(f, s)[1] for f, s in zip(frames, seconds, strict=True))
        loss = sum(v * n for v, n in losses) / max(sum(n for _, n in losses), 1)
        return tuple(answers) if ragged else np.concatenate(answers), events, loss

    answer, events, loss = loop.context.from_first(first)
    kinds: dict[str, Any] = {kind(data.kind).dense: answer, "frame_scores": tuple(frames) or None}
    said = Predictions.of(ids, data.classes, events=events, **kinds)
    found = {data.metric: history.judge(epoch, said, data)}
    return {**found, "validation_loss": loss} if loop.recipe.training.watches_loss else found


def _keep(
    loop: Loop, history: History, kept: dict[int, dict[str, Tensor]], epoch: int,
    data: TrainingData,
) -> None:  # fmt: skip
    """Keep the model of this epoch where it is one of the best (or, unjudged, of the last)."""
    keep = loop.recipe.training.keep
    if data.validation is None or keep.what == "last":
        worth = float(epoch)
        if keep.count == 1:
            return
    else:
        worth = _worth(loop, history.metrics[-1])
    if not history.choose(epoch, worth, keep.count):
        return
    kept[epoch] = copy.deepcopy(_learnt(loop.model))
    for other in set(kept) - set(history.kept):
        del kept[other]
    loop.context.save({"model": kept[epoch]}, f"{KEPT}_{epoch}.pt")


def _learnt(model: Any) -> dict[str, Tensor]:
    """What a training changes of a model: checkpoints are no larger than that."""
    state: dict[str, Tensor] = model.learnt() if isinstance(model, Model) else model.state_dict()
    return state


def _restored(epoch: int, context: Context) -> dict[str, Tensor]:
    state = context.restore(f"{KEPT}_{epoch}.pt")
    assert state is not None
    model: dict[str, Tensor] = state["model"]
    return model


def _publish(loop: Loop, history: History, epoch: int) -> None:
    """Write an epoch's checkpoint, whose size does not grow with the epochs."""
    context = loop.context
    state = {
        "model": _learnt(loop.model),
        "optimiser": loop.optimiser.state_dict(),
        "procedure": loop.procedure.state_dict(),
        "scheduler": None if loop.scheduler is None else loop.scheduler.state_dict(),
        "history": history.keep(epoch, context),
        "step": epoch,
    }
    context.save(state)
    history.forget(context)
    context.forget(f"{KEPT}_*.pt", *(f"{KEPT}_{epoch}.pt" for epoch in history.kept))


@dataclass
class Loop:
    """What the steps of a training work on."""

    model: Model
    procedure: Steps
    recipe: Recipe
    hearing: Any
    data: TrainingData
    labelled: Source
    unlabelled: Examples | None
    validation: Any
    optimiser: torch.optim.Optimizer
    scheduler: Any
    context: Context
    timed: Timed | None = None

    @classmethod
    def start(
        cls, model: Model, recipe: Recipe, hearing: Any, data: TrainingData, context: Context
    ) -> Loop:
        """The loop before its first step.

        Raises:
            UserError: views are asked for, and there are no unlabelled clips.
        """
        if recipe.views is not None and not len(data.unlabelled.get("unlabelled", ())):
            raise UserError(
                "the training is of unlabelled clips too, and there are none: give some, or hide "
                "the labels of some."
            )
        optimiser = recipe.training.optimiser_of(model.groups())
        epochs, mode = recipe.training.epochs, metric(data.metric).mode
        judged = data.validation
        labelled = recipe.batches.source(model, hearing, data, context)
        unlabelled = None
        if recipe.training.unlabelled:
            ids = data.unlabelled["unlabelled"].clip_ids
            unlabelled = hearing.examples(model, ids, context)
        updates = recipe.training.updates(len(labelled), len(unlabelled or ()))
        if recipe.procedure is None:
            network = context.data_parallel(model.network)
            procedure: Steps = Supervised(network, recipe.terms, context, recipe.views)
        else:
            procedure = recipe.procedure.begin(model, recipe.terms, context)
        return cls(
            model,
            procedure,
            recipe,
            hearing,
            data,
            labelled,
            unlabelled,
            None if judged is None else hearing.track(model, judged.clip_ids, context),
            optimiser,
            recipe.training.schedule.build(optimiser, epochs, updates, mode),
            context,
        )

    def steps(self, count: int, generator: np.random.Generator, epoch: int) -> dict[str, float]:
        """So many batches; the mean loss and its terms.

        Raises:
            Diverged: the loss is not finite.
        """
        self.model.start_training()
        self.procedure.start_training()
        training = self.recipe.training
        labelled_rows = self.labelled.rows(training.labelled, count, generator)
        unlabelled_rows = self.recipe.unlabelled.rows(
            self.unlabelled, self.data.unlabelled, training.unlabelled, count, generator
        )
        sums: dict[str, float] = {}
        batches = zip(labelled_rows, unlabelled_rows, strict=True)
        for place, (rows, other_rows) in enumerate(batches):
            first = place - place % training.accumulate
            together = min(training.accumulate, count - first)
            if place == first:
                self.optimiser.zero_grad(set_to_none=True)
            now = Moment(epoch, (epoch - 1) * count + place + 1, generator)
            values = self._gradients(rows, other_rows, now, together)
            if place == first + together - 1:
                self._update()
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / count
        return self.context.mean(sums)

    def _gradients(
        self, rows: np.ndarray, other_rows: np.ndarray, now: Moment, together: int
    ) -> dict[str, float]:
        """Add a batch's gradients, of which so many are averaged; its loss and terms."""
        context, generator = self.context, now.generator
        mine, other_mine = context.share(rows), context.share(other_rows)
        batch = self.labelled.batch(mine, generator)
        others = None
        if self.unlabelled is not None and len(other_mine):
            cut, _ = self.unlabelled.batch(other_mine, generator)
            others = self.model.features(cut, context.device)
        for change in self.recipe.augment:
            batch = change(batch, generator)
        loss, values = self.procedure.loss(batch, others, now)
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {loss.item()} in epoch {now.epoch}")
        # Workers' gradients are averaged: one with fewer clips counts for less.
        (loss * (context.world * len(mine) / len(rows) / together)).backward()
        return {name: value.item() for name, value in {"loss": loss, **values}.items()}

    def _update(self) -> None:
        """Step along the gradients."""
        if self.recipe.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.trained(), self.recipe.training.clip_norm)
        self.optimiser.step()
        if self.recipe.training.schedule.by_step:
            self.scheduler.step()

    def validation_targets(self, rows: Sequence[int], starts: np.ndarray, outputs: Any) -> Tensor:
        """Targets of excerpts of the validation part, as long as what the network says of them."""
        length = 0 if outputs.frames is None else outputs.frames.shape[1] * self.hearing.grid
        grid, judged = self.hearing.grid, self.data.validation
        assert judged is not None
        return targets_of(judged, np.asarray(rows), starts, length, grid).to(self.context.device)

    def set_rate(self, epoch: int) -> None:
        """In a refit after plateaus: the learning rate that the folds had in this epoch."""
        rates = self.context.rates
        follows = self.recipe.training.schedule.needs_validation
        if self.data.validation is None and rates and follows:
            for group in self.optimiser.param_groups:
                group["lr"] = rates[min(epoch, len(rates)) - 1] * group["lr_scale"]

    def goes_back(self, epoch: int, history: History) -> bool:
        """Whether the next epoch goes on from the best one, at a lower rate."""
        if not isinstance(self.scheduler, FromBest) or self.data.validation is None:
            return False
        return self.scheduler.step(epoch, history.best_step)

    def schedule(self, metrics: dict[str, float], data: TrainingData) -> None:
        """Note the epoch's learning rate, and set the next one's."""
        if self.scheduler is None:
            return
        first = self.optimiser.param_groups[0]
        metrics["learning_rate"] = first["lr"] / first["lr_scale"]
        schedule = self.recipe.training.schedule
        if isinstance(self.scheduler, FromBest):
            return  # once it is known which epochs are kept
        if schedule.by_step:
            return
        if schedule.kind != "plateau":
            self.scheduler.step()
        elif data.validation is not None:
            watched = data.metric if schedule.on == "metric" else "validation_loss"
            self.scheduler.step(metrics[watched])
