"""Data sets for tests: tones rendered on demand, in whatever parts a test asks for."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from systems import data
from systems.data.dataset import Clip, Dataset, Event, Labels
from systems.predictions import Predictions

RATE, SECONDS = 16_000, 1.0
PITCH = {"low": 300.0, "high": 2500.0}  # Hz, by class
DEVICES = ("a", "a", "b", "c")
Parts = Mapping[str, tuple[int, str]]  # part -> clips and kind of labels


@dataclass(frozen=True)
class Tones:
    """Clip ``PART_NN`` holds the tones of its events, over noise."""

    ids: tuple[str, ...]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        r = np.random.default_rng(list(clip_id.encode()))
        t = np.arange(round(RATE * SECONDS)) / RATE
        sound = 0.03 * r.normal(size=len(t))
        for onset, offset, name in events_of(clip_id):
            sound += 0.3 * np.sin(2 * np.pi * PITCH[name] * t) * ((t >= onset) & (t < offset))
        return sound[None].astype(np.float32), RATE

    def identity(self) -> Iterable[str]:
        return self.ids

    def where(self, clip_id: str) -> str:
        return clip_id


def events_of(clip_id: str) -> tuple[Event, ...]:
    """One event a clip, of the two classes in turn."""
    number = int(clip_id.rsplit("_", 1)[1])
    name = ("low", "high")[number % 2]
    onset = 0.1 * (number // 2 % 4)
    return (Event(onset, round(onset + 0.5, 3), name),)


def labels_of(part: str, clips: int, kind: str) -> Labels:
    ids = [f"{part}_{n:02d}" for n in range(clips)]
    say: dict[str, Callable[[str], Any]] = {
        "events": events_of,
        "tags": lambda i: tuple(e.label for e in events_of(i)),
        "class": lambda i: events_of(i)[0].label,
    }
    usage = {i: {"usage": ("Public", "Private")[int(n % 3 > 0)]} for n, i in enumerate(ids)}
    return Labels(kind, {i: say[kind](i) for i in ids}, usage)  # type: ignore[arg-type]


def make(name: str, parts: Parts, tests: tuple[str, ...], **about: Any) -> Dataset:
    """A data set whose ``tests`` are sealed; of kind ``withheld`` nobody has the labels."""
    clips = tuple(
        Clip(f"{part}_{n:02d}", part, "labelled", f"{part}_{n // 2}", SECONDS,
             {"device": DEVICES[n // 2 % 4], "verified": int(n % 4 < 2)})
        for part, (count, _) in parts.items() for n in range(count)
    )  # fmt: skip
    open_ = {part: labels_of(part, *parts[part]) for part in parts if part not in tests}
    known = [part for part in tests if parts[part][1] != "withheld"]
    return Dataset(
        name, "any", tuple(PITCH), clips, open_,
        {part: lambda part=part: labels_of(part, *parts[part]) for part in known},
        {part: parts[part][1] for part in tests},  # type: ignore[misc]
        Tones(tuple(clip.clip_id for clip in clips)),
        test_part=tests[0] if tests else None, also_tested=tests[1:], **about,
    )  # fmt: skip


@dataclass
class Sets:
    """Registers data sets for as long as a test runs."""

    patch: pytest.MonkeyPatch
    names: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, parts: Parts, tests: tuple[str, ...], **module: Any) -> None:
        """``module``: of the reader's, such as SUBSETS; ``about`` of the data set."""
        about = module.pop("about", {})
        reader: Any = ModuleType(f"fakedata_{name}")
        reader.NAME, reader.TASK, reader.LAYOUT = name, "any", "nothing"
        reader.read = lambda folder, skip_broken=False: make(name, parts, tests, **about)
        vars(reader).update(module)
        self.patch.setitem(sys.modules, reader.__name__, reader)
        self.names[name] = reader.__name__


def registered(patch: pytest.MonkeyPatch) -> Sets:
    sets, known = Sets(patch), data.readers
    patch.setattr(data, "readers", lambda: {**known(), **sets.names})
    return sets


def write_submission(dataset: Dataset, predictions: Predictions, folder: Path) -> Path:
    """As a challenge might ask for it: a class a clip."""
    assert predictions.clip_scores is not None
    path = folder / "answers.csv"
    with open(path, "w", newline="") as file:
        rows = zip(predictions.clip_ids, predictions.clip_scores.argmax(axis=1), strict=True)
        csv.writer(file).writerows((i, dataset.classes[k]) for i, k in rows)
    return path
