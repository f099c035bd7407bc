"""What one step of a training costs, measured on the device that would train."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from systems.context import Context
from systems.data.splits import TrainingData
from systems.listening import Model
from systems.training.settings import Training
from systems.training.supervised import Loop, Recipe


@dataclass(frozen=True)
class Probe:
    """Seconds of a training step and of one validation clip; bytes of the model's state; examples
    that training draws from a clip, and unlabelled ones beside it."""

    step: float
    validation_per_clip: float
    bytes: int
    frames_per_second: float
    training: Training
    examples_per_clip: float = 1.0
    unlabelled: float = 0.0

    def steps_per_epoch(self, labelled: int) -> int:
        """Batches of an epoch over so many labelled clips; unlabelled ones in proportion."""
        examples = (self.examples_per_clip, self.unlabelled)
        return self.training.steps(*(round(labelled * one) for one in examples))


def probe(
    model: Model, recipe: Recipe, hearing: Any, data: TrainingData, clips: int,
    frames_per_second: float, context: Context,
) -> Probe:  # fmt: skip
    """Time two steps after one that warms up, and the scoring of the same clips.

    ``clips``: how many labelled clips there are without derived ones.
    """
    loop = Loop.start(model, recipe, hearing, data, context)
    loop.labelled.draw(np.random.default_rng(0))

    def steps(count: int) -> float:
        began = time.monotonic()
        loop.steps(count, np.random.default_rng(0), epoch=0)
        _wait(context)
        return (time.monotonic() - began) / count

    steps(1)
    step = steps(2)
    began = time.monotonic()
    ids = data.labelled.clip_ids
    list(hearing.listen(model, hearing.track(model, ids, context), context))
    _wait(context)
    scoring = (time.monotonic() - began) / len(ids)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    examples, others = len(loop.labelled) / clips, len(loop.unlabelled or ()) / clips
    return Probe(step, scoring, size, frames_per_second, recipe.training, examples, others)


def _wait(context: Context) -> None:
    if context.device.type == "cuda":
        torch.cuda.synchronize(context.device)
