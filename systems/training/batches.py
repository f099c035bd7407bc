"""Where a training's batches come from: settings make a source, which draws each epoch anew.

All of it is a function of the epoch's generator, so of (seed, epoch): a training that was killed
draws what it would have drawn, and all workers draw the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.listening import Hearing, Model
from systems.tracks import Examples
from systems.training.labelling import column_of
from systems.training.mixing import Batch


class Source(Protocol):
    """The examples that the batches of an epoch are made of. ``heard``: what the model's scale is
    fitted on."""

    heard: Any

    def draw(self, generator: np.random.Generator) -> None:
        """Draw the examples of an epoch."""
        ...

    def __len__(self) -> int:
        """How many examples the epoch has."""
        ...

    def rows(self, size: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """``steps`` batches of about ``size`` of them, by index."""
        ...

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """Some of them, by index."""
        ...


class Batches(Protocol):
    """Settings of a source."""

    def source(self, model: Any, hearing: Any, data: TrainingData, context: Context) -> Source: ...


@dataclass(frozen=True)
class Shuffled:
    """The labelled clips' excerpts, in an order of their own in each pass."""

    def source(self, model: Model, hearing: Hearing, data: TrainingData, context: Context) -> Clips:
        return Clips(model, hearing, data, context)


class Clips:
    """Excerpts of labelled clips, the same in each epoch but for where they begin. Every batch is
    full, for which an epoch may end within a pass."""

    def __init__(
        self, model: Model, hearing: Hearing, data: TrainingData, context: Context
    ) -> None:
        assert data.labelled.targets is not None
        self.model, self.clips, self.context = model, data.labelled, context
        self.heard: Examples = hearing.examples(model, data.labelled.clip_ids, context)

    def draw(self, generator: np.random.Generator) -> None:
        """Nothing: all of them are in each epoch."""

    def __len__(self) -> int:
        return len(self.heard)

    def rows(self, size: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        return index_batches(len(self), size, steps, generator)

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        device = self.context.device
        cut, starts = self.heard.batch(rows, generator)
        features, clips = self.model.features(cut, device), self.heard.clip[rows]
        targets = targets_of(self.clips, clips, starts, self.heard.length, self.heard.grid)
        weights = None
        if self.clips.weights is not None:
            weights = torch.as_tensor(self.clips.weights[clips], dtype=torch.float32).to(device)
        return Batch(features, targets.to(device), weights)


@dataclass(frozen=True)
class WholeClips:
    """All excerpts of so many clips in every batch, of which ``Training.labelled`` counts clips.

    ``balanced``: as many clips of each class, or one more (of a batch of K clips one of each of K
    classes): each class's own shuffled passes; clips have one class.
    """

    balanced: bool = False

    def source(
        self, model: Model, hearing: Hearing, data: TrainingData, context: Context
    ) -> ClipsWhole:
        return ClipsWhole(model, hearing, data, context, self.balanced)


class ClipsWhole(Clips):
    """Labelled clips with all their excerpts. Rows are clips."""

    def __init__(
        self, model: Model, hearing: Hearing, data: TrainingData, context: Context, balanced: bool
    ) -> None:
        super().__init__(model, hearing, data, context)
        self.balanced = balanced
        order = np.argsort(self.heard.clip, kind="stable")
        counts = np.bincount(self.heard.clip, minlength=len(self.clips))
        self._examples = np.split(order, np.cumsum(counts)[:-1])

    def __len__(self) -> int:
        return len(self.clips)

    def rows(self, size: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        if not self.balanced:
            return index_batches(len(self), size, steps, generator)
        assert self.clips.targets is not None
        of_class = self.clips.targets.argmax(axis=1)
        return balanced_batches(of_class, size, steps, generator)

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        return super().batch(np.concatenate([self._examples[row] for row in rows]), generator)


class Unlabelled(Protocol):
    """How batches draw from the examples without labels."""

    def rows(
        self, examples: Examples | None, clips: Mapping[str, ClipSet], size: int, steps: int,
        generator: np.random.Generator,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """``steps`` batches of ``size`` indices of examples; ``clips``: by role, of role
        ``unlabelled`` those that the examples are of."""
        ...


@dataclass(frozen=True)
class Passes:
    """Shuffled passes over all of them."""

    def rows(
        self, examples: Examples | None, clips: Mapping[str, ClipSet], size: int, steps: int,
        generator: np.random.Generator,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        return index_batches(len(examples or ()), size, steps, generator)


@dataclass(frozen=True)
class Streams:
    """As many of each of some values of a column of the clips (device, domain) in every batch: each
    value's own shuffled passes, so that rare ones come as often."""

    column: str
    values: tuple[str, ...]

    def rows(
        self, examples: Examples | None, clips: Mapping[str, ClipSet], size: int, steps: int,
        generator: np.random.Generator,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """Raises UserError where a value has no example."""
        assert examples is not None
        of_clip = column_of(clips["unlabelled"], self.column)
        of_example = np.array([of_clip[row] for row in examples.clip])
        streams = []
        for value in self.values:
            mine = np.flatnonzero(of_example == value)
            if not len(mine):
                raise UserError(
                    f"no training clip without labels has '{value}' in its column '{self.column}'"
                )
            drawn = index_batches(len(mine), size // len(self.values), steps, generator)
            streams.append([mine[rows] for rows in drawn])
        return (np.concatenate(rows) for rows in zip(*streams, strict=True))


def balanced_batches(
    of_class: np.ndarray, size: int, steps: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """``steps`` batches of ``size`` indices with as many of each class that is there, or one more:
    of each its own shuffled passes. Which classes have one more goes round."""
    names = generator.permutation(np.unique(of_class))
    turns = np.arange(steps * size) % len(names)  # the class of each place
    drawn = np.empty(steps * size, np.int64)
    for turn, name in enumerate(names):
        places, mine = np.flatnonzero(turns == turn), np.flatnonzero(of_class == name)
        passes = -(-len(places) // len(mine))
        order = np.concatenate([generator.permutation(mine) for _ in range(passes)] or [mine])
        drawn[places] = order[: len(places)]
    return iter(drawn.reshape(steps, size))


def targets_of(
    clips: ClipSet, rows: np.ndarray, starts: np.ndarray, length: int, grid: int
) -> Tensor:
    """Targets [B, K] of excerpts of clips; of series those of their steps [B, T, D], after the end
    of a recording its last."""
    assert clips.targets is not None
    if clips.lengths is None:
        return torch.as_tensor(clips.targets[rows])
    first = np.concatenate([[0], np.cumsum(clips.lengths)])
    begins = first[rows] + starts // grid
    steps = begins[:, None] + np.arange(length // grid)
    return torch.as_tensor(clips.targets[np.minimum(steps, first[rows + 1][:, None] - 1)])


def index_batches(
    count: int, size: int, steps: int, generator: np.random.Generator, full: bool = True
) -> Iterator[np.ndarray]:
    """``steps`` batches of ``size`` indices below ``count``: shuffled passes, one after another.

    With size 0, or nothing to draw from, the batches are empty. Those that are not ``full`` end
    with a pass, and are of nearly one size.
    """
    needed = steps * size if count else 0
    if not full and needed >= count > 0:
        needed -= needed % count
    passes = [generator.permutation(count) for _ in range(math.ceil(needed / max(count, 1)))]
    order = np.concatenate([*passes, np.zeros(0, np.int64)])[:needed]
    yield from np.array_split(order, steps)
