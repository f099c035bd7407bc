"""Derived clips that train beside the labelled ones: a sound of their own under a clip's label.

They are made of training clips alone, so that nothing of a validation clip is heard in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from systems.context import Context, seed_of
from systems.data.changed import Change, name_beside
from systems.data.features import Featured
from systems.data.prepare import Sound
from systems.data.splits import TrainingData
from systems.system import Sounds

Copies = Callable[[TrainingData, Sounds, Context], tuple[TrainingData, Sounds]]
Recipe = tuple[tuple[str, float], ...]  # clips and their weights, the source first


@dataclass(frozen=True)
class ChangedCopy:
    """A copy of each clip whose sound a change has made, which is stored beside the sound."""

    change: Change

    def __call__(
        self, data: TrainingData, sounds: Sounds, context: Context
    ) -> tuple[TrainingData, Sounds]:
        labelled = data.labelled
        derived = [name_beside(clip_id, self.change) for clip_id in labelled.clip_ids]
        rows = np.tile(np.arange(len(labelled)), 2)
        more = replace(labelled.some(rows), clip_ids=(*labelled.clip_ids, *derived))
        return replace(data, labelled=more), sounds


@dataclass(frozen=True)
class SameClassMix:
    """``copies`` of each clip: a weighted sum with others of its class (but_asc_fusion).

    None of 0 ``copies``. The clip's own weight is drawn evenly from its range; the rest of 1 is
    shared among the others by a flat Dirichlet draw. Copies are drawn once a training.
    """

    copies: int = 2
    fewest_partners: int = 1
    most_partners: int = 3
    least_weight: float = 0.5
    most_weight: float = 0.8

    def __post_init__(self) -> None:
        if self.copies < 0 or not 1 <= self.fewest_partners <= self.most_partners:
            raise ValueError("copies are at least 0, partners at least 1")
        if not 0 < self.least_weight <= self.most_weight <= 1:
            raise ValueError("the weights of a clip in its copies lie in (0, 1]")

    def __call__(
        self, data: TrainingData, sounds: Sounds, context: Context
    ) -> tuple[TrainingData, Sounds]:
        labelled = data.labelled
        assert labelled.targets is not None
        generator = np.random.default_rng(seed_of(context.seed, "copies"))
        classes = labelled.targets.argmax(axis=1)
        recipes: dict[str, Recipe] = {}
        for copy in range(self.copies):
            for row, clip_id in enumerate(labelled.clip_ids):
                others = np.flatnonzero(classes == classes[row])
                recipe = self._recipe(row, others[others != row], generator)
                recipes[f"{clip_id} #{copy}"] = tuple((labelled.clip_ids[i], w) for i, w in recipe)
        rows = np.tile(np.arange(len(labelled)), 1 + self.copies)
        more = replace(labelled.some(rows), clip_ids=(*labelled.clip_ids, *recipes))
        return replace(data, labelled=more), {n: mixed(one, recipes) for n, one in sounds.items()}

    def _recipe(
        self, row: int, others: np.ndarray, generator: np.random.Generator
    ) -> list[tuple[int, float]]:
        """Rows and their weights, which sum to 1; a clip alone in its class is copied as it is."""
        drawn = int(generator.integers(self.fewest_partners, self.most_partners + 1))
        count = min(drawn, len(others))
        if not count:
            return [(row, 1.0)]
        own = float(generator.uniform(self.least_weight, self.most_weight))
        shares = (1 - own) * generator.dirichlet(np.ones(count))
        chosen = generator.choice(others, count, replace=False)
        return [(row, own), *zip(chosen.tolist(), shares.tolist(), strict=True)]


def mixed(sound: Sound, recipes: Mapping[str, Recipe]) -> Sound:
    """Sound with derived clips; features that are stored stay those of the others."""
    if isinstance(sound, Featured):
        return sound.over(Mixed(sound.sound, recipes))
    return Mixed(sound, recipes)


@dataclass(frozen=True)
class Mixed:
    """Sound of clips, and of sums of them: as long as their first clip, whose parts they have."""

    sound: Sound
    recipes: Mapping[str, Recipe]

    @property
    def rate(self) -> int:
        return self.sound.rate

    def __getitem__(self, clip_id: str) -> np.ndarray:
        if clip_id not in self.recipes:
            return self.sound[clip_id]
        recipe = self.recipes[clip_id]
        return _sum([(self.sound[one], weight) for one, weight in recipe])

    def duration(self, clip_id: str) -> float:
        return self.sound.duration(self._source(clip_id))

    def digest(self, clip_id: str) -> str:
        return self.sound.digest(self._source(clip_id))

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        own = self.sound.parts(self._source(clip_id))
        if clip_id not in self.recipes:
            return own
        return tuple(self.piece(clip_id, p, 0, one.shape[-1]) for p, one in enumerate(own))

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        if clip_id not in self.recipes:
            return self.sound.piece(clip_id, part, start, length)
        pieces = []
        for one, weight in self.recipes[clip_id]:
            place = part % len(self.sound.parts(one))
            pieces.append((self.sound.piece(one, place, start, length), weight))
        return _sum(pieces)

    def _source(self, clip_id: str) -> str:
        return self.recipes[clip_id][0][0] if clip_id in self.recipes else clip_id


def _sum(pieces: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """The weighted sum, as long as the first; the others are cut, or end in silence."""
    first, weight = pieces[0]
    out = np.array(first, np.float32) * np.float32(weight)
    for piece, share in pieces[1:]:
        length = min(out.shape[-1], piece.shape[-1])
        out[..., :length] += np.float32(share) * piece[..., :length]
    return out
