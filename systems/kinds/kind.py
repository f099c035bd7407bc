"""What a kind of label is: what is true, what answers it, and how a score becomes a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from systems.data.dataset import Event, LabelKind, Labels

THRESHOLD = 0.5  # a tag is there where its score is above


@dataclass(frozen=True)
class Truth:
    """What is true of N clips.

    Args:
        kind: of the labels.
        values: [N, K]: one-hot of a class, 0 or 1 of tags and of relevance, numbers of values; of a
            series [ΣT, K], the steps of all clips; of a direction [N, K, 2], see there.
        classes: K names; of values and series the outputs, of relevance the items.
        events: timed events of each clip, where the labels have them.
        lengths: T of each clip of a series; ``None``: a row a clip.
    """

    kind: LabelKind
    values: np.ndarray
    classes: tuple[str, ...] = ()
    events: tuple[tuple[Event, ...], ...] | None = None
    lengths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Constant:
    """An answer that hears nothing: ``row`` [K] for every clip (of a series at every step), or
    ``None``: scores drawn at random, by the name of the clip. ``words``: what it is."""

    words: str
    row: np.ndarray | None

    def says(
        self, clip_ids: Sequence[str], classes: int, lengths: Sequence[int] | None = None
    ) -> np.ndarray:
        """The dense answer [N, K], of a series, whose ``lengths`` are T of each clip, [ΣT, D]."""
        if self.row is None:
            seeds = [list(clip_id.encode()) for clip_id in clip_ids]
            drawn = [np.random.default_rng(seed).random(classes) for seed in seeds]
            return np.array(drawn).reshape(len(seeds), classes)
        rows = len(clip_ids) if lengths is None else sum(lengths)
        return np.tile(np.asarray(self.row, float), (rows, 1))


def itself(values: np.ndarray) -> np.ndarray:
    """What is true is the answer."""
    return values


@dataclass(frozen=True)
class Kind:
    """One kind of label: everything that depends on it.

    Args:
        name: as data sets state it.
        answers: fields of :class:`systems.predictions.Predictions` that answer it. The first is
            dense, [N, K] (of a series N arrays [T, K]): epochs are validated by it and members
            fused.
        matrix: (labels, clip ids, classes) -> what is true, [N, K], of a series [ΣT, K].
        metrics: by which it is scored, the default one first; others that fit are scored where a
            run asks for them.
        closeness: (truth, the dense answer) -> how well each clip is answered [N]: more is better,
            NaN where nothing is true and nothing said.
        words: what an example of it is good or bad at.
        constants: what is true of training clips -> answers that hear nothing: what a system has
            to beat. Which is the best depends on the metric.
        contains: kinds that its labels say too.
        decide: scores [N, K] -> which classes (items) are held to be there [N, K]; ``None`` where
            nothing is decided.
        exclusive: whether a clip has one class.
        ragged: whether rows are steps of clips, which then have lengths.
        ranks: whether columns are items (of a gallery, templates), in whose order the answer lies.
        ideal: what is true of N clips -> the dense answer that says just that, [N, K].
        told: of an example, what its closeness is called and how it is read.
    """

    name: LabelKind
    answers: tuple[str, ...]
    matrix: Callable[[Labels, Sequence[str], Sequence[str]], np.ndarray]
    metrics: tuple[str, ...]
    closeness: Callable[[Truth, Any], np.ndarray]
    words: str
    constants: Callable[[Truth], tuple[Constant, ...]]
    contains: tuple[LabelKind, ...] = ()
    decide: Callable[[np.ndarray], np.ndarray] | None = None
    exclusive: bool = False
    ragged: bool = False
    ranks: bool = False
    ideal: Callable[[np.ndarray], np.ndarray] = itself
    told: tuple[str, Callable[[float], float]] | None = None

    @property
    def says_tags(self) -> bool:
        """Whether its labels say which classes a clip has."""
        return "tags" in (self.name, *self.contains)

    @property
    def dense(self) -> str:
        """The predictions that answer it: [N, K], of a series N arrays [T, K]."""
        return self.answers[0]

    def truth(self, labels: Labels, clip_ids: Sequence[str], classes: Sequence[str]) -> Truth:
        """What labels of this kind say of some clips."""
        events = None
        if "events" in self.answers:
            events = tuple(tuple(labels.values[clip_id]) for clip_id in clip_ids)
        values = self.matrix(labels, clip_ids, classes)
        return Truth(self.name, values, tuple(classes), events, self.lengths(labels, clip_ids))

    def lengths(self, labels: Labels, clip_ids: Sequence[str]) -> tuple[int, ...] | None:
        """How many rows each clip has; ``None``: one."""
        return tuple(len(labels.values[i]) for i in clip_ids) if self.ragged else None


def above_threshold(scores: np.ndarray) -> np.ndarray:
    """Which tags are there [..., K]: any number, those whose score is above 0.5."""
    found: np.ndarray = scores > THRESHOLD
    return found


def largest(scores: np.ndarray) -> np.ndarray:
    """Which class a clip has [..., K]: one, that with the largest score; of equals the first."""
    found: np.ndarray = np.eye(scores.shape[-1], dtype=bool)[scores.argmax(axis=-1)]
    return found
