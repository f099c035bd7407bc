"""Batches of queries with items that answer them or not, drawn anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from systems.context import Context
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.retrieval import Ranker, Searching
from systems.training.batches import index_batches
from systems.training.mixing import Batch


class Drawn(NamedTuple):
    """E examples: queries [E], items [E, M], and whether each item answers [E, M]."""

    query: np.ndarray
    items: np.ndarray
    relevant: np.ndarray


@dataclass(frozen=True)
class Answers:
    """Queries with an item that answers them, and the distractors of each.

    Args:
        query: [P], by place.
        target: [P] an item that answers it.
        fine: of each the distractors of the target's class.
        coarse: of each the distractors of other classes.
    """

    query: np.ndarray
    target: np.ndarray
    fine: tuple[np.ndarray, ...]
    coarse: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, relevance: np.ndarray, classes: Sequence[str]) -> Answers:
        """Of relevance [query, item] (NaN: not searched) and the class of each item."""
        query, target = np.nonzero(relevance > 0.5)
        of_item = np.asarray(list(classes))
        fine, coarse = [], []
        for row, item in zip(query, target, strict=True):
            distracts, alike = relevance[row] <= 0.5, of_item == of_item[item]
            fine.append(np.flatnonzero(distracts & alike))
            coarse.append(np.flatnonzero(distracts & ~alike))
        return cls(query, target, tuple(fine), tuple(coarse))

    def drawn(
        self, some: Sequence[np.ndarray], count: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """``count`` of all (answer, distractor), with replacement, all alike: [n], [n]; none where
        there is none."""
        sizes = np.array([len(one) for one in some])
        if not sizes.sum():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows = generator.choice(len(sizes), count, p=sizes / sizes.sum())
        places = (generator.random(count) * sizes[rows]).astype(np.int64)
        items = np.array([some[row][at] for row, at in zip(rows, places, strict=True)], np.int64)
        return rows, items


@dataclass(frozen=True)
class Pairs:
    """Every query with its targets, and as many pairs with distractors.

    ``negatives``: all alike (``uniform``), or half of the target's class, half of others
    (``fine_coarse``). ``column``: of the gallery, a recording's class.
    """

    negatives: Literal["uniform", "fine_coarse"] = "uniform"
    column: str = "class"

    def source(
        self, model: Ranker, hearing: Searching, data: TrainingData, context: Context
    ) -> PairSource:
        return PairSource(self, model, hearing, data, context)

    def examples(self, answers: Answers, generator: np.random.Generator) -> Drawn:
        """The pairs of an epoch: M = 1."""
        count = len(answers.query)
        if self.negatives == "uniform":
            every = [
                np.concatenate(both) for both in zip(answers.fine, answers.coarse, strict=True)
            ]
            drawn = [answers.drawn(every, count, generator)]
        else:
            half = count // 2
            drawn = [answers.drawn(answers.fine, half, generator),
                     answers.drawn(answers.coarse, count - half, generator)]  # fmt: skip
        rows = np.concatenate([np.arange(count), *(rows for rows, _ in drawn)])
        items = np.concatenate([answers.target, *(items for _, items in drawn)])
        return Drawn(answers.query[rows], items[:, None], (np.arange(len(rows)) < count)[:, None])


@dataclass(frozen=True)
class Triplets:
    """Every query with a target and a distractor of its class (fine), and ``coarse`` times as many
    with one of another class, each in both orders.

    ``column``: of the gallery, a recording's class. Where fewer are fine than there are answers,
    the coarse ones are counted by these.
    """

    coarse: float = 1.0
    column: str = "class"

    def source(
        self, model: Ranker, hearing: Searching, data: TrainingData, context: Context
    ) -> PairSource:
        return PairSource(self, model, hearing, data, context)

    def examples(self, answers: Answers, generator: np.random.Generator) -> Drawn:
        """The triplets of an epoch: M = 2."""
        rows = np.repeat(np.arange(len(answers.query)), [len(one) for one in answers.fine])
        count = round(self.coarse * max(len(rows), len(answers.query)))
        more, others = answers.drawn(answers.coarse, count, generator)
        rows, distractors = np.concatenate([rows, more]), np.concatenate([*answers.fine, others])
        first = np.stack([answers.target[rows], distractors], axis=1)
        items = np.concatenate([first, first[:, ::-1]])
        query = np.tile(answers.query[rows], 2)
        return Drawn(query, items, np.repeat([[True, False], [False, True]], len(rows), axis=0))


@dataclass
class PairSource:
    """What an epoch's pairs or triplets are: features of both sides, and what answers. An epoch is
    a pass over them, in batches of nearly one size."""

    settings: Pairs | Triplets
    model: Ranker
    hearing: Searching
    data: TrainingData
    context: Context
    drawn: Drawn = field(init=False)

    def __post_init__(self) -> None:
        data = self.data
        relevance = data.labelled.targets
        gallery = data.unlabelled["gallery"]
        assert relevance is not None
        about = dict(zip(gallery.clip_ids, gallery.columns, strict=True))
        try:
            classes = [str(about[item][self.settings.column]) for item in data.classes]
        except KeyError as error:
            raise UserError(
                f"the training draws by the column '{self.settings.column}' of the gallery, which "
                f"this data set lacks ({error})."
            ) from error
        self.answers = Answers.of(relevance, classes)
        self.heard = self.hearing.examples(self.model, data.labelled.clip_ids, self.context)
        self._sides = {name: self.model.side(name) for name in self.heard}
        self.drawn = Drawn(*(np.zeros((0, 1), np.int64) for _ in Drawn._fields))

    def draw(self, generator: np.random.Generator) -> None:
        self.drawn = self.settings.examples(self.answers, generator)

    def __len__(self) -> int:
        return len(self.drawn.query)

    def rows(self, size: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        return index_batches(len(self), size, steps, generator, full=False)

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """Features: ``query`` [B, C, F, T] and ``gallery`` [B, M, C, F, T]; targets [B, M]."""
        query, items, relevant = (of[rows] for of in self.drawn)
        features = {
            name: self._sides[name].features(
                self.heard[name].batch(clips, generator)[0], self.context.device
            )
            for name, clips in (("query", query), ("gallery", items.reshape(-1)))
        }
        features["gallery"] = features["gallery"].unflatten(0, items.shape)
        targets = torch.from_numpy(relevant.astype(np.float32)).to(self.context.device)
        return Batch(features, targets, None)
