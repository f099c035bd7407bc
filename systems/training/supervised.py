"""The loop of a network on labelled (and unlabelled) clips."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Event
from systems.data.splits import TrainingData
from systems.data.store import WaveformStore
from systems.errors import Diverged
from systems.frontend.log_mel import Standardise
from systems.kinds import kind
from systems.metrics import metric
from systems.predictions import Predictions
from systems.training.history import History
from systems.training.losses import LossTerm, Step, total

# (frame scores [T, K], seconds) -> those of the clip itself, and the events that they hold
Timed = Callable[[np.ndarray, float], tuple[np.ndarray, tuple[Event, ...]]]


@dataclass(frozen=True)
class Training:
    """How long and on what a network trains.

    An epoch is one pass over the labelled clips, or ``steps_per_epoch`` batches. Each batch holds
    ``labelled`` and ``unlabelled`` clips. The training ends after ``epochs``, or when the
    validation metric has not been better for ``patience`` epochs. Adam at ``learning_rate``.
    """

    epochs: int = 100
    labelled: int = 15
    unlabelled: int = 15
    learning_rate: float = 1e-3
    patience: int = 15
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.labelled < 2 or self.unlabelled < 0 or self.learning_rate <= 0:
            raise ValueError(
                "epochs must be at least 1, labelled at least 2, unlabelled at least 0, "
                "learning_rate above 0"
            )

    def steps(self, labelled: int) -> int:
        """Steps of an epoch over so many labelled clips."""
        return self.steps_per_epoch or math.ceil(labelled / self.labelled)


class Model(nn.Module):
    """Front end, standardisation and network: waveforms [B, S] -> posteriors.

    ``frames``: whether the network's second output is the frame posterior.
    """

    def __init__(
        self, front_end: nn.Module, standardise: Standardise, network: nn.Module,
        frames: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.frames = frames
        self.front_end = front_end
        self.standardise = standardise
        self.network = network

    def features(self, waveforms: Tensor) -> Tensor:
        """Standardised features [B, C, F, T]."""
        with torch.no_grad():
            features: Tensor = self.standardise(self.front_end(waveforms))
        return features

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor | None]:
        """Clip posteriors [B, K] and, where the network gives them, frame posteriors [B, T, K]."""
        outputs: tuple[Tensor, ...] = self.network(self.features(waveforms))
        return outputs[0], outputs[1] if self.frames else None


class Clips:
    """Waveforms of some clips as batches [B, S] on the device, padded or cut to one length."""

    def __init__(self, waveforms: WaveformStore, clip_ids: Sequence[str], samples: int) -> None:
        self.waveforms = waveforms
        self.clip_ids = clip_ids
        self.samples = samples

    def batch(
        self, rows: Sequence[int] | np.ndarray, generator: np.random.Generator | None = None
    ) -> Tensor:
        """Clips by index; longer ones are cut at random with a generator, at the start without."""
        out = np.zeros((len(rows), self.samples), np.float32)
        for target, row in zip(out, rows, strict=True):
            waveform = self.waveforms[self.clip_ids[row]]
            spare = len(waveform) - self.samples
            start = int(generator.integers(spare + 1)) if generator and spare > 0 else 0
            part = waveform[start : start + self.samples]
            target[: len(part)] = part
        return torch.from_numpy(out)


def fit(
    model: Model,
    terms: Sequence[LossTerm],
    data: TrainingData,
    waveforms: WaveformStore,
    training: Training,
    samples: int,
    context: Context,
    timed: Timed | None = None,
) -> History:
    """Train ``model`` in place; with a validation part it ends as its best epoch.

    Each epoch ends with a checkpoint, then a report of ``loss``, its terms, and, with a validation
    part, the data's metric; ``timed`` makes events of frame scores and a duration where the metric
    reads events. Goes on from the context's checkpoint where there is one.

    Raises:
        Diverged: the loss is not finite.
    """
    loop = Loop.start(model, terms, data, waveforms, training, samples, context)
    history, start, best = History(), 1, None
    last = min(training.epochs, context.last_step or training.epochs)
    state = context.restore()
    if state is not None and state["step"] > last:  # of a longer training: not this one's
        state = None
    if state is None:
        fit_standardisation(model, loop.labelled, context)
    else:
        model.load_state_dict(state["model"])
        loop.optimiser.load_state_dict(state["optimiser"])
        best, start = state["best"], state["step"] + 1
        history = History.restored(state["history"], state["step"], data, context)
        context.report(state["step"], history.metrics[-1])
    for epoch in range(start, last + 1):
        if data.validation is not None and epoch - history.best_step > training.patience:
            break
        began = time.monotonic()
        generator = context.seed_step(epoch)
        metrics = loop.steps(training.steps(len(loop.targets)), generator, epoch)
        if data.validation is not None:
            said = _validate(model, waveforms, data, samples, context, timed)
            metrics[data.metric] = history.judge(epoch, said, data)
            if history.best_step == epoch:
                best = copy.deepcopy(model.state_dict())
        metrics["seconds"] = time.monotonic() - began
        history.metrics.append(metrics)
        _publish(model, loop.optimiser, history, best, epoch, context)
        context.report(epoch, metrics)
    if best is not None:
        model.load_state_dict(best)
    return history


def _publish(
    model: Model, optimiser: torch.optim.Optimizer, history: History, best: Any, epoch: int,
    context: Context,
) -> None:  # fmt: skip
    """Write an epoch's checkpoint, whose size does not grow with the epochs."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history.keep(epoch, context),
        "best": best,
        "step": epoch,
    }
    context.save(state)
    history.kept(context)


def _validate(
    model: Model, waveforms: WaveformStore, data: TrainingData, samples: int, context: Context,
    timed: Timed | None,
) -> Predictions:  # fmt: skip
    """What the model says of the validation clips: the dense answer, and frames, if any.

    Of several workers all get the first one's answer, and events where the metric reads them, so
    that they judge alike, and only the first the frames, which it alone keeps.
    """
    assert data.validation is not None
    ids, frames = data.validation.clip_ids, list[np.ndarray]()

    def first() -> tuple[np.ndarray, tuple[tuple[Event, ...], ...] | None]:
        clip = []
        for scores, frame in network_outputs(model, waveforms, ids, samples, context):
            clip.append(scores.numpy())
            frames.extend(() if frame is None else frame.numpy())
        events = None
        if timed is not None and frames and metric(data.metric).predictions == "events":
            pairs = zip(ids, frames, strict=True)
            events = tuple(timed(one, waveforms.duration(clip_id))[1] for clip_id, one in pairs)
        return np.concatenate(clip), events

    scores, events = context.from_first(first)
    kinds: dict[str, Any] = {kind(data.kind).dense: scores, "frame_scores": tuple(frames) or None}
    return Predictions.of(ids, data.classes, events=events, **kinds)


@dataclass(frozen=True)
class Loop:
    """What the steps of one training work on. ``network`` is the model's, joined to its workers'.

    ``targets`` [N, K] are those of the labelled clips.
    """

    model: Model
    network: nn.Module
    terms: Sequence[LossTerm]
    labelled: Clips
    unlabelled: Clips
    targets: Tensor
    training: Training
    optimiser: torch.optim.Optimizer
    context: Context

    @classmethod
    def start(
        cls,
        model: Model,
        terms: Sequence[LossTerm],
        data: TrainingData,
        waveforms: WaveformStore,
        training: Training,
        samples: int,
        context: Context,
    ) -> Loop:
        """The loop before its first step."""
        assert data.labelled.targets is not None
        return cls(
            model,
            context.data_parallel(model.network),
            terms,
            Clips(waveforms, data.labelled.clip_ids, samples),
            Clips(waveforms, data.unlabelled["unlabelled"].clip_ids, samples),
            torch.as_tensor(data.labelled.targets),
            training,
            torch.optim.Adam(model.network.parameters(), lr=training.learning_rate),
            context,
        )

    def steps(self, count: int, generator: np.random.Generator, epoch: int) -> dict[str, float]:
        """So many steps of the optimiser; the mean loss and its terms.

        Raises:
            Diverged: the loss is not finite.
        """
        self.model.train()
        labelled_rows = index_batches(len(self.targets), self.training.labelled, count, generator)
        shares = self.training.unlabelled if len(self.unlabelled.clip_ids) else 0
        unlabelled_rows = index_batches(len(self.unlabelled.clip_ids), shares, count, generator)
        sums: dict[str, float] = {}
        for rows, other_rows in zip(labelled_rows, unlabelled_rows, strict=True):
            values = self._step(rows, other_rows, generator, epoch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / count
        return self.context.mean(sums)

    def _step(
        self, rows: np.ndarray, other_rows: np.ndarray, generator: np.random.Generator, epoch: int
    ) -> dict[str, float]:
        context, network = self.context, self.network
        mine, other_mine = context.share(rows), context.share(other_rows)
        features = self._features(self.labelled, mine, generator)
        others = None
        if len(other_mine):
            others = self._features(self.unlabelled, other_mine, generator)
        with context.mixed_precision():
            outputs = tuple(output.float() for output in network(features))
        if not torch.isfinite(outputs[0]).all():
            raise Diverged(f"the loss is not finite in epoch {epoch}: the network's output is not")
        target = self.targets[mine].to(context.device)
        loss, values = total(self.terms, Step(network, features, target, outputs, others))
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {loss.item()} in epoch {epoch}")
        self.optimiser.zero_grad(set_to_none=True)
        # Workers' gradients are averaged: one with fewer clips counts for less.
        (loss * (context.world * len(mine) / len(rows))).backward()
        self.optimiser.step()
        return {name: value.item() for name, value in {"loss": loss, **values}.items()}

    def _features(self, clips: Clips, rows: np.ndarray, generator: np.random.Generator) -> Tensor:
        return self.model.features(clips.batch(rows, generator).to(self.context.device))


def index_batches(
    count: int, size: int, steps: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """``steps`` batches of ``size`` indices below ``count``: shuffled passes, one after another.

    With size 0, or nothing to draw from, the batches are empty.
    """
    needed = steps * size if count else 0
    passes = [generator.permutation(count) for _ in range(math.ceil(needed / max(count, 1)))]
    order = np.concatenate([*passes, np.zeros(0, np.int64)])[:needed]
    yield from np.array_split(order, steps)


def fit_standardisation(model: Model, clips: Clips, context: Context) -> None:
    """Set the per-band mean and deviation of the features over the training clips."""
    count, first, second = 0, torch.tensor(0.0), torch.tensor(0.0)
    for rows in _in_order(len(clips.clip_ids)):
        with torch.no_grad():
            x = model.front_end(clips.batch(rows).to(context.device)).double()
        count += x.shape[0] * x.shape[1] * x.shape[3]
        first = first + x.sum((0, 1, 3)).cpu()
        second = second + x.square().sum((0, 1, 3)).cpu()
    mean = first / count
    variance = (second / count - mean.square()).clamp_min(0)
    model.standardise.fit(mean.float(), variance.sqrt().float())


def network_outputs(
    model: Model, waveforms: WaveformStore, clip_ids: Sequence[str], samples: int, context: Context
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Per batch, clip posteriors [B, K] and frame posteriors [B, T, K], if any, on the CPU.

    Clips are padded to ``samples``, or to the longest of their batch where that is longer.
    """
    model.eval()
    for rows in _in_order(len(clip_ids)):
        longest = max(len(waveforms[clip_ids[row]]) for row in rows)
        clips = Clips(waveforms, clip_ids, max(samples, longest))
        with torch.inference_mode():
            clip, frames = model(clips.batch(rows).to(context.device))
        yield clip.cpu().clone(), None if frames is None else frames.cpu().clone()


def _in_order(count: int, size: int = 30) -> Iterator[list[int]]:
    for start in range(0, count, size):
        yield list(range(start, min(count, start + size)))
