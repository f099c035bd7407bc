"""Queries and the gallery that they search: each heard in its way, and a score of pairs.

Each sound goes through its tower once; only the head sees a query and an item together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.prepare import Sound
from systems.excerpts import Excerpts
from systems.frontend import FrontEnd, least_seconds
from systems.frontend.scale import By, Scale
from systems.listening import Activation, Heard, Hearing, Model, Tap
from systems.nets.towers import TwoTowers
from systems.system import Input
from systems.tracks import Examples, batches

PAIRS = 4096  # that the head scores at once


@dataclass(frozen=True)
class Side:
    """How queries, or the items of the gallery, are heard: one excerpt of features each.

    Raises:
        ValueError: excerpts of sound, several of a clip, or features of clips of any length.
    """

    front_end: FrontEnd
    excerpts: Excerpts
    scale: By = "clip"

    def __post_init__(self) -> None:
        if not self.excerpts.made_of or self.excerpts.predict != "start":
            raise ValueError("queries and items are heard by an excerpt at the start of features")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, F, T) of an excerpt."""
        return (*self.front_end.shape(self.front_end.rate)[:-1], self.excerpts.frames)

    def too_short(self, shortest: float) -> str:
        """Why the shortest clip, of such a length in s, cannot be heard; or an empty text."""
        return self.excerpts.too_short(shortest, least_seconds(self.front_end))

    def input(self, role: str) -> Input:
        return Input((role,), self.front_end.rate)

    def hearing(self, sound: Sound) -> Hearing:
        hop = self.front_end.hop_seconds
        return Hearing(sound, self.excerpts, self.excerpts.frames, hop)


class Ranker(Model):
    """Front ends and scales of both sides, by name, and a network over both."""

    network: TwoTowers

    def __init__(
        self, sides: Mapping[str, Side], network: nn.Module, activation: Activation
    ) -> None:
        front_ends = nn.ModuleDict({name: one.front_end.build() for name, one in sides.items()})
        scales = nn.ModuleDict({name: Scale(one.shape, one.scale) for name, one in sides.items()})
        super().__init__(front_ends, scales, network, activation, made_once=True)

    def side(self, name: str) -> Model:
        """One side alone: what it hears becomes an embedding."""
        front_ends, scales = self.front_end, self.scale
        assert isinstance(front_ends, nn.ModuleDict)
        assert isinstance(scales, nn.ModuleDict)
        tower = getattr(self.network, name)
        return Model(front_ends[name], scales[name], tower, made_once=True)

    def fit_scale(self, examples: Any, context: Context, *more: Any) -> None:
        """Set the statistics of both scales over what is trained, by name."""
        for name, some in examples.items():
            self.side(name).fit_scale(some, context)


class Searching:
    """Queries and the items of a gallery, as the loop of a training hears them.

    Args:
        sides: ``query`` and ``gallery``.
        items: the clips of the gallery, K.
    """

    grid = 1

    def __init__(self, sides: Mapping[str, Hearing], items: Sequence[str]) -> None:
        self.sides, self.items = sides, tuple(items)
        self._gallery: Any = None

    def track(self, model: Ranker, clip_ids: Sequence[str], context: Context) -> dict[str, Any]:
        """What both sides are cut from: some queries, and the whole gallery, which is made once."""
        if self._gallery is None:
            self._gallery = self.sides["gallery"].track(model.side("gallery"), self.items, context)
        query = self.sides["query"].track(model.side("query"), clip_ids, context)
        return {"query": query, "gallery": self._gallery}

    def examples(
        self, model: Ranker, clip_ids: Sequence[str], context: Context
    ) -> dict[str, Examples]:
        """What a training draws pairs from."""
        track = self.track(model, clip_ids, context)
        return {
            name: Examples(track[name], side.excerpts, side.length)
            for name, side in self.sides.items()
        }

    def listen(
        self, model: Ranker, track: Mapping[str, Any], context: Context, tap: Tap | None = None
    ) -> Iterator[Heard]:
        """The scores [K] of all items for each query, in order."""
        said = {name: embedded(model, name, self.sides[name], track[name], context)
                for name in self.sides}  # fmt: skip
        for row in scores(model, said["query"], said["gallery"], context):
            yield Heard(row, None)


def embedded(model: Ranker, name: str, hearing: Hearing, track: Any, context: Context) -> Tensor:
    """The embeddings [N, E] of the clips of one side, on the CPU."""
    heard = hearing.listen(model.side(name), track, context)
    return torch.stack([one.embedding for one in heard if one.embedding is not None])


def scores(model: Ranker, queries: Tensor, items: Tensor, context: Context) -> Tensor:
    """How well K items [K, E2] answer N queries [N, E1]: [N, K], on the CPU."""
    model.eval()
    out, there = [], items.to(context.device)
    with torch.inference_mode():
        for rows in batches(len(queries), max(1, PAIRS // len(items))):
            some = queries[rows.start : rows.stop].to(context.device)
            said = model.activated(model.network.pairs(some, there))
            assert said is not None
            out.append(said.float().cpu())
    return torch.cat(out)
