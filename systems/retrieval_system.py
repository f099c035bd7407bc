"""A system that searches a gallery: two inputs, a network over both, and a score of every pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from systems.context import Context
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.data.store import Channels
from systems.files import write_whole
from systems.fitted_network import load_states, save_states
from systems.frontend import least_seconds
from systems.listening import Activation
from systems.predictions import Predictions
from systems.retrieval import Ranker, Searching, Side, embedded, scores
from systems.system import Input, Sounds, Undecided
from systems.training.batches import Batches
from systems.training.history import History
from systems.training.losses import LossTerm
from systems.training.probe import Probe, probe
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit

GALLERY = "gallery.safetensors"


class RetrievalSystem:
    """Queries (role ``labelled``) and the recordings that they search (role ``gallery``).

    Args:
        query: how queries are heard.
        gallery: how the recordings are.
        network: shapes (C, F, T) by side -> :class:`systems.nets.towers.TwoTowers` or its like.
        loss: terms over logits and targets [B, M] of a batch's queries and their items.
        batches: what examples are made of.
        training: how long; ``labelled`` is a batch's number of examples.
        activation: what makes scores of the logits.

    Raises:
        ValueError: the loss of the validation part is to decide something.
    """

    selects = None

    def __init__(
        self, *, query: Side, gallery: Side, network: Callable[[Mapping[str, Any]], nn.Module],
        loss: Sequence[LossTerm], batches: Batches, training: Training,
        activation: Activation = "sigmoid",
    ) -> None:  # fmt: skip
        if training.watches_loss:
            raise ValueError("a retrieval tells no loss of the validation part: watch the metric")
        self.sides = {"query": query, "gallery": gallery}
        self.training = training
        self.recipe = Recipe(loss, training, batches=batches)
        self.activation = activation
        self._network = network

    columns = ()

    @property
    def keeps(self) -> int:
        return self.training.keep.count

    @property
    def least_seconds(self) -> float:
        """s of sound that a frame of either side takes at least."""
        return max(least_seconds(side.front_end) for side in self.sides.values())

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Why a clip of the shortest length, in s, cannot be heard; or an empty text."""
        return next(filter(None, (side.too_short(shortest) for side in self.sides.values())), "")

    def inputs(self) -> dict[str, Input]:
        return {
            "query": self.sides["query"].input("labelled"),
            "gallery": self.sides["gallery"].input("gallery"),
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape (C, F, T) of the features of either side."""
        return {name: side.shape for name, side in self.sides.items()}

    def network(self, classes: int) -> nn.Module:
        """The network, which is the same for any number of items."""
        return self._network(self.shapes())

    def untrained(self) -> Ranker:
        """A fresh model."""
        return Ranker(self.sides, self._network(self.shapes()), self.activation)

    def hearing(self, sounds: Sounds, items: Sequence[str]) -> Searching:
        """The sound of both sides."""
        sides = {name: one.hearing(sounds[name]) for name, one in self.sides.items()}
        return Searching(sides, items)

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedRetrieval:
        """Train from scratch or from the context's checkpoint, then embed the gallery."""
        model, hearing = self._begin(data, sounds, context)
        history, states = fit(model, self.recipe, hearing, data, context)
        fitted = FittedRetrieval(self, model, tuple(states), data.classes, (), history)
        return replace(fitted, items=fitted.embedded("gallery", data.classes, sounds, context))

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> Probe:
        """The cost of a step, from two of them on some of the data."""
        model, hearing = self._begin(data, sounds, context)
        return probe(model, self.recipe, hearing, data, len(data.labelled), 0.0, context)

    def _begin(
        self, data: TrainingData, sounds: Sounds, context: Context
    ) -> tuple[Ranker, Searching]:
        torch.manual_seed(context.seed)
        return self.untrained().to(context.device), self.hearing(sounds, data.classes)

    def load(self, folder: Path) -> FittedRetrieval:
        """What :meth:`FittedRetrieval.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        model = self.untrained()
        states = load_states(folder, about["kept"])
        model.load_state_dict(states[0])
        kept = load_file(folder / GALLERY)
        items = tuple(kept[str(place)] for place in range(len(states)))
        return FittedRetrieval(self, model, states, tuple(about["classes"]), items, History())


@dataclass(frozen=True)
class FittedRetrieval(Undecided):
    """A trained network over two sides.

    ``states``: weights of the epochs that predict, the mean of whose scores is the system's.
    ``classes``: the items of the gallery, K, and ``items`` their embeddings [K, E] by each of these
    epochs: who has the model can search without their sound.
    """

    system: RetrievalSystem
    model: Ranker
    states: tuple[dict[str, Tensor], ...]
    classes: tuple[str, ...]
    items: tuple[Tensor, ...]
    history: History

    frame_hop = None
    frame_start = 0.0

    @property
    def rate(self) -> int:
        """Of queries in Hz."""
        return int(self.system.sides["query"].front_end.rate)

    @property
    def channels(self) -> Channels:
        return "mono"

    @property
    def rates(self) -> dict[str, int]:
        """Of either side in Hz."""
        return {name: int(one.front_end.rate) for name, one in self.system.sides.items()}

    def embedded(
        self, side: str, clip_ids: Sequence[str], sounds: Sounds, context: Context
    ) -> tuple[Tensor, ...]:
        """The embeddings [N, E] of clips of one side, by each epoch that predicts."""
        hearing = self.system.sides[side].hearing(sounds[side])
        self.model.to(context.device)
        track = hearing.track(self.model.side(side), clip_ids, context)
        found = []
        for state in self.states:
            self.model.load_state_dict(state)
            found.append(embedded(self.model, side, hearing, track, context))
        return tuple(found)

    def heard(
        self, side: str, waveforms: Sequence[np.ndarray], context: Context
    ) -> tuple[Tensor, ...]:
        """The same of waveforms [S] that are in no store, at the side's rate."""
        named = {str(place): one for place, one in enumerate(waveforms)}
        sounds = {side: Waveforms(self.rates[side], named)}
        return self.embedded(side, tuple(named), sounds, context)

    def scores(
        self, queries: Sequence[Tensor], items: Sequence[Tensor], context: Context
    ) -> np.ndarray:
        """How well items answer queries [N, K], of the embeddings of both: the mean over epochs."""
        self.model.to(context.device)
        said = []
        for state, query, item in zip(self.states, queries, items, strict=True):
            self.model.load_state_dict(state)
            said.append(scores(self.model, query, item, context))
        return torch.stack(said).mean(0).numpy()

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """The scores of all items for some queries."""
        queries = self.embedded("query", clip_ids, sounds, context)
        ranking = self.scores(queries, self.items, context)
        return Predictions.of(clip_ids, self.classes, fold, ranking=ranking)

    def score(self, waveforms: Sequence[np.ndarray], context: Context) -> tuple[np.ndarray, None]:
        """The scores [B, K] of the known items for queries [S] that are in no store."""
        return self.scores(self.heard("query", waveforms, context), self.items, context), None

    def save(self, folder: Path) -> None:
        """Weights and the gallery's embeddings as safetensors, the rest as JSON."""
        save_states(folder, self.states)
        items = {str(place): one.contiguous() for place, one in enumerate(self.items)}
        write_whole(folder / GALLERY, save(items))
        about = {"classes": self.classes, "kept": len(self.states)}
        write_whole(folder / "model.json", json.dumps(about, indent=1))  # where it is, all is
