"""A data set of series for tests: two signals beside a sound that carries both."""

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

from systems import data
from systems.data.dataset import Clip, Dataset, Labels

NAME, ALONE, HOP, RATE = "two_belts", "one_validates", 0.04, 16_000
OUTPUTS = ("chest", "belly")
STEPS = {"train_00": 260, "train_01": 330, "train_02": 215, "train_03": 401, "devel_00": 275,
         "devel_01": 300, "test_00": 240, "test_01": 305, "test_02": 222}  # fmt: skip


def belts(clip_id: str) -> np.ndarray:
    """What is true of a recording [T, 2]."""
    r = np.random.default_rng(list(clip_id.encode()))
    t = HOP * np.arange(STEPS[clip_id])
    rates, phases = r.uniform(0.15, 0.4, 2), r.uniform(0, 6, 2)
    return np.sin(2 * np.pi * rates * t[:, None] + phases)


@dataclass(frozen=True)
class Beside:
    """A low tone as loud as the one signal and a high one as loud as the other, in noise."""

    ids: tuple[str, ...]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        r = np.random.default_rng([1, *clip_id.encode()])
        signals = np.repeat(belts(clip_id), round(HOP * RATE), axis=0)
        t = np.arange(len(signals)) / RATE
        tones = np.sin(2 * np.pi * np.array([400.0, 3000.0]) * t[:, None])
        sound = ((1.1 + signals) * tones).sum(axis=1) + 0.05 * r.normal(size=len(t))
        return (0.2 * sound)[None].astype(np.float32), RATE

    def identity(self) -> Iterable[str]:
        return self.ids

    def where(self, clip_id: str) -> str:
        return clip_id


def read(name: str, folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """Recordings of unequal length, of which two validate, or one alone."""
    ids = [i for i in STEPS if name == NAME or i != "devel_01"]
    clips = tuple(Clip(i, i[:-3], "labelled", i, HOP * STEPS[i]) for i in ids)

    def labels(part: str) -> Labels:
        return Labels("series", {i: belts(i) for i in ids if i.startswith(part)})

    return Dataset(
        name, "any", OUTPUTS, clips, {part: labels(part) for part in ("train", "devel")},
        {"test": lambda: labels("test")}, {"test": "series"}, Beside(tuple(ids)),
        official_validation="devel", label_hop=HOP,
    )  # fmt: skip


def registered(patch: pytest.MonkeyPatch) -> None:
    """Lets runs name the data sets for as long as a test runs."""
    known, modules = data.readers, dict[str, str]()
    for name in (NAME, ALONE):
        module = ModuleType(f"fakedata_{name}")
        about: dict[str, Any] = {"NAME": name, "TASK": "any", "LAYOUT": "nothing"}
        vars(module).update(about, read=partial(read, name))
        patch.setitem(sys.modules, module.__name__, module)
        modules[name] = module.__name__
    patch.setattr(data, "readers", lambda: {**known(), **modules})


def written(clip_id: str, folder: Path) -> Path:
    """A recording as a file, to the last digit."""
    sound, rate = Beside(()).read(clip_id)
    path = folder / f"{clip_id}.wav"
    soundfile.write(path, sound[0], rate, subtype="FLOAT")
    return path
