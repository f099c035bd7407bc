"""A data set of queries for tests: whistles that follow the rhythm of recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from torch import nn

from systems import data
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData, make_splits, training_data
from systems.excerpts import Excerpts
from systems.frontend.log_mel import LogMel
from systems.nets.towers import PairHead, Tower, TwoTowers
from systems.retrieval import Ranker, Searching, Side

NAME, RATE, SECONDS = "whistles", 16_000, 0.5
ITEMS = {
    "train": [f"train_{kind}{k}" for kind in "ab" for k in range(3)],
    "test": [f"test_{kind}{k}" for kind in "ab" for k in range(2)],
}
VOICES = {"train": 6, "test": 3}


def queries(part: str) -> list[str]:
    return [f"{item}_by{voice}" for item in ITEMS[part] for voice in range(VOICES[part])]


def target(query: str) -> str:
    return query.rpartition("_by")[0]


def render(clip_id: str) -> np.ndarray:
    """Beats of one item's own number, on a low (class a) or high (b) tone; a query's are weaker,
    at the pitch of its voice."""
    item, _, voice = clip_id.partition("_by")
    part, of_class, k = item.partition("_")[0], item[-2], int(item[-1])
    beats = 2 + 3 * k + (1 if part == "test" else 0)
    t = np.arange(round(SECONDS * RATE)) / RATE
    pitch = {"a": 500.0, "b": 2000.0}[of_class] * (1.0 if not voice else 1.0 + 0.05 * int(voice))
    beat = np.sin(np.pi * beats * t / SECONDS) ** 8
    noise = np.random.default_rng(list(clip_id.encode())).normal(size=len(t))
    sound = beat * np.sin(2 * np.pi * pitch * t) * (0.3 if voice else 0.6) + 0.003 * noise
    return sound.astype(np.float32)


@dataclass(frozen=True)
class Whistles:
    ids: tuple[str, ...]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        return render(clip_id)[None], RATE

    def identity(self) -> Iterable[str]:
        return self.ids

    def where(self, clip_id: str) -> str:
        return clip_id


def labels(part: str) -> Labels:
    """What each query imitates, of the recordings of its part."""
    return Labels("relevance", {
        query: {item: float(item == target(query)) for item in ITEMS[part]}
        for query in queries(part)
    })  # fmt: skip


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    items = [item for part in ITEMS for item in ITEMS[part]]
    clips = [Clip(i, "gallery", "gallery", i, SECONDS, {"class": i[-2]}) for i in items]
    clips += [
        Clip(q, part, "labelled", q[-1] + part, SECONDS, {"class": target(q)[-2]})
        for part in ITEMS for q in queries(part)
    ]  # fmt: skip
    return Dataset(
        NAME, "any", tuple(items), tuple(clips), {"train": labels("train")},
        {"test": partial(labels, "test")}, {"test": "relevance"},
        Whistles(tuple(clip.clip_id for clip in clips)),
    )  # fmt: skip


def prepared() -> tuple[Ranker, Searching, TrainingData]:
    """A small model without norms, what it hears, and a fold."""
    dataset = read()
    data = training_data(dataset, make_splits(dataset, 0), 0, "mrr")
    side = Side(LogMel(window=400, hop=400, bands=8),
                Excerpts(frames=12, made_of=0.6, train="start", predict="start"))  # fmt: skip
    sides = {"query": side, "gallery": side}
    sounds = Waveforms(RATE, {c.clip_id: render(c.clip_id) for c in dataset.clips})
    heard = {name: side.hearing(sounds) for name in sides}
    network = TwoTowers(Tower(nn.Flatten()), Tower(nn.Flatten()), PairHead(2 * 8 * 12, 4))
    return Ranker(sides, network, "sigmoid"), Searching(heard, dataset.classes), data


def registered(patch: pytest.MonkeyPatch) -> None:
    """Lets runs name the data set for as long as a test runs."""
    known, module = data.readers, ModuleType(f"fakedata_{NAME}")
    about: dict[str, Any] = {"NAME": NAME, "TASK": "any", "LAYOUT": "nothing", "read": read}
    vars(module).update(about)
    patch.setitem(sys.modules, module.__name__, module)
    patch.setattr(data, "readers", lambda: {**known(), NAME: module.__name__})


def written(clip_id: str, folder: Path) -> Path:
    """A clip as a file, to the last digit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{clip_id}.wav"
    soundfile.write(path, render(clip_id), RATE, subtype="FLOAT")
    return path
