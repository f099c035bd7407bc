"""What one step of a training costs, measured on the device that would train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from systems.context import Context
from systems.data.splits import TrainingData
from systems.data.store import WaveformStore
from systems.training.losses import LossTerm
from systems.training.supervised import Loop, Model, Training, network_outputs


@dataclass(frozen=True)
class Probe:
    """Seconds of a training step and of one validation clip; bytes of the model's state."""

    step: float
    validation_per_clip: float
    bytes: int
    frames_per_second: float
    training: Training

    def steps_per_epoch(self, labelled: int) -> int:
        """Steps of an epoch over so many labelled clips."""
        return self.training.steps(labelled)


def probe(
    model: Model,
    terms: Sequence[LossTerm],
    data: TrainingData,
    waveforms: WaveformStore,
    training: Training,
    samples: int,
    frames_per_second: float,
    context: Context,
) -> Probe:
    """Time two steps after one that warms up, and the scoring of the same clips."""
    loop = Loop.start(model, terms, data, waveforms, training, samples, context)

    def steps(count: int) -> float:
        began = time.monotonic()
        loop.steps(count, np.random.default_rng(0), epoch=0)
        _wait(context)
        return (time.monotonic() - began) / count

    steps(1)
    step = steps(2)
    began = time.monotonic()
    list(network_outputs(model, waveforms, data.labelled.clip_ids, samples, context))
    _wait(context)
    scoring = (time.monotonic() - began) / len(data.labelled.clip_ids)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return Probe(step, scoring, size, frames_per_second, training)


def _wait(context: Context) -> None:
    if context.device.type == "cuda":
        torch.cuda.synchronize(context.device)
