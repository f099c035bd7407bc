"""A search by written words without training: edits to what is written of the sounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systems.context import Context
from systems.data.splits import TrainingData
from systems.data.words import same_words, word_of
from systems.files import write_whole
from systems.predictions import Predictions
from systems.system import Input, Sounds
from systems.training.history import History
from systems.word_search import QUERY, AskedByWords


class TaggedSearch:
    """Without training: the fewest edits (insertions, deletions, substitutions of symbols) from the
    query to a word that is written of a sound. Of a sound without words it is as far as can be."""

    selects = None
    keeps = 1
    least_seconds = 0.0
    columns = ()

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Nothing is."""
        return ""

    def inputs(self) -> dict[str, Input]:
        return {"query": QUERY}

    def network(self, classes: int) -> None:
        """It has none."""

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> None:
        """It has no steps."""

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedTaggedSearch:
        """Note what is written of each sound."""
        assert data.labelled.targets is not None
        tags: dict[str, list[str]] = {item: [] for item in data.classes}
        items = data.labelled.targets.argmax(1)
        for clip_id, item in zip(data.labelled.clip_ids, items, strict=True):
            word = " ".join(word_of(sounds["query"][clip_id]))
            if word not in (known := tags[data.classes[item]]):
                known.append(word)
        return FittedTaggedSearch(tags, History())

    def load(self, folder: Path) -> FittedTaggedSearch:
        """What :meth:`FittedTaggedSearch.save` wrote."""
        return FittedTaggedSearch(json.loads((folder / "model.json").read_text()), History())


@dataclass(frozen=True)
class FittedTaggedSearch(AskedByWords):
    """What is written of each sound of a gallery: ``tags`` by sound."""

    tags: dict[str, list[str]]
    history: History

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """1 less the fewest edits over the most that there can be, of all sounds for some words."""
        distinct, which = same_words([np.array(sounds["query"][i]) for i in clip_ids])
        ranking = np.array([self._scores(word_of(word)) for word in distinct], np.float32)
        return Predictions.of(clip_ids, tuple(self.tags), fold, ranking=ranking[which])

    def _scores(self, word: tuple[str, ...]) -> list[float]:
        from torchaudio.functional import edit_distance

        tags = {tag for of_item in self.tags.values() for tag in of_item}
        edits = {tag: edit_distance(word, tag.split()) for tag in tags}
        farthest = max(len(word), *(len(tag.split()) for tag in tags), 1)
        return [1 - min((edits[tag] for tag in of_item), default=farthest) / farthest
                for of_item in self.tags.values()]  # fmt: skip

    def save(self, folder: Path) -> None:
        """The words as JSON."""
        write_whole(folder / "model.json", json.dumps(self.tags, indent=1))
