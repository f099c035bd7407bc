"""What a model says about one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from systems.kinds import above_threshold, largest


class ScoredEvent(NamedTuple):
    """An event: onset and offset in s, its class, and the mean of its frames' scores."""

    onset: float
    offset: float
    label: str
    score: float


class FileSeries(NamedTuple):
    """Values over time: s from step to step, and the values [T, D] of the outputs, by name."""

    hop: float
    outputs: tuple[str, ...]
    values: np.ndarray

    def columns(self) -> dict[str, list[float]]:
        """``time`` in s, then each output, a value a step."""
        time = [round(step * self.hop, 6) for step in range(len(self.values))]
        of_outputs = zip(self.outputs, self.values.T.tolist(), strict=True)
        return {"time": time, **dict(of_outputs)}


@dataclass(frozen=True)
class FilePrediction:
    """What a model says about one file: its length in s, a score for each class, timed events.

    ``events``: ``None`` of a model that says nothing about time. ``series``: of a model of series,
    which says nothing else. ``ranked``: whether ``tags`` are the items of a gallery; ``values``:
    whether they are numbers of a clip, of which nothing is decided.
    """

    file: str
    duration: float
    tags: dict[str, float]
    events: tuple[ScoredEvent, ...] | None

    exclusive: bool = False
    series: FileSeries | None = None
    ranked: bool = False
    values: bool = False

    def events_as_json(self) -> list[dict[str, Any]] | None:
        """The events as objects."""
        return None if self.events is None else [event._asdict() for event in self.events]

    def present(self) -> tuple[str, ...]:
        """The classes that its kind of labels holds to be there, the highest score first."""
        ranked = sorted(self.tags, key=lambda label: -self.tags[label])
        decide = largest if self.exclusive and ranked else above_threshold
        there = decide(np.array([self.tags[label] for label in ranked]))
        return tuple(label for label, found in zip(ranked, there, strict=True) if found)
