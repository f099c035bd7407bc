"""The embedded data set ``synthetic_streets``: 6 s of a street, a track a source, and 20 listeners.

It has what ``grafic_scenes`` has, and pleasantness. Each source has a background, or none, and
events of which some are too soft beside the others to be heard: what listeners say follows those
that are not, so that annotations alone are a poor guide. One listener answers the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from systems.data.dataset import Dataset, Event
from systems.data.ratings import Answers
from systems.data.rendering import LAYOUT, takes_no_folder
from systems.data.soundscapes import (
    LABELS,
    METRICS,
    MIX,
    PLEASANTNESS,
    QUESTIONS,
    SCALE,
    SOURCES,
    TASK,
    active,
    soundscapes,
)
from systems.data.synthetic_sounds import (
    RATE,
    SOUNDS,
    VERSION,
    equalise,
    rms,
    seeded,
    sounding,
    white,
)

__all__ = ["CLIPS", "LABELS", "LAYOUT", "METRICS", "NAME", "TASK", "read"]

NAME = "synthetic_streets"
CLIPS = {"train": 12}
SECONDS = 6.0
KINDS = ("park", "quiet street", "noisy street")
CALIBRATION = 95.0  # dB SPL of an RMS of 1
SUBJECTS, CARELESS = 20, 1
AUDIBLE = -8.0  # dB over the scene's loudest background, from which an event is heard
# Whose sounds stand for a source's events; by kind of scene how loud its background is over that of
# the traffic (dB), and how many events it has.
VOICES = {
    "T": "Vacuum_cleaner",
    "B": "Cat",
    "H": "Alarm_bell_ringing",
    "V": "Speech",
    "F": "Dishes",
}
BACKGROUNDS = {"T": (0.0, 0.0, 0.0), "B": (-4.0, -14.0, -30.0), "V": (-16.0, -12.0, -18.0)}
TRAFFIC = (-46.0, -38.0, -28.0)  # dB, the level of its background
EVENTS = {"T": (1, 2, 4), "B": (5, 4, 2), "H": (0, 1, 2), "V": (2, 3, 2), "F": (1, 3, 2)}


class Sounding(NamedTuple):
    """An event, how loud it is over the traffic's background (dB), and which variant sounds."""

    event: Event
    level: float
    variant: int


class Street(NamedTuple):
    """A scene: its kind, the level of its traffic, backgrounds (dB over it) and events."""

    kind: str
    level: float
    backgrounds: dict[str, float]
    events: dict[str, tuple[Sounding, ...]]


@cache
def street(scene: str) -> Street:
    """What a scene consists of."""
    rng = seeded(NAME, scene)
    kind = int(scene.removeprefix("S")) % len(KINDS)
    backgrounds = {s: of[kind] + rng.normal(0, 2) for s, of in BACKGROUNDS.items()}
    events = {
        s: tuple(_sounding(s, rng) for _ in range(rng.poisson(of[kind])))
        for s, of in EVENTS.items()
    }
    return Street(KINDS[kind], TRAFFIC[kind] + rng.normal(0, 2), backgrounds, events)


def _sounding(source: str, rng: Generator) -> Sounding:
    low, high = SOUNDS[VOICES[source]].durations
    length = float(np.clip(rng.uniform(low, high), 0.3, 2.5))
    onset = round(rng.uniform(0, SECONDS - length), 3)
    event = Event(onset, round(onset + length, 3), SOURCES[source])
    return Sounding(
        event, float(rng.choice((-25.0, 2.0)) + rng.normal(0, 3)), int(rng.integers(20))
    )


@dataclass(frozen=True)
class Streets:
    """The sound of the scenes, rendered; picklable."""

    scenes: tuple[str, ...]

    def read(self, clip_id: str, track: str = MIX) -> tuple[np.ndarray, int]:
        """Samples [1, S] of a track and their rate; of the mix the sum of all."""
        letters = [s for s, name in SOURCES.items() if track in (name, MIX)]
        return sum(_track(clip_id, s) for s in letters).astype(np.float32)[None], RATE  # type: ignore[union-attr]

    def identity(self) -> Iterable[str]:
        for scene in self.scenes:
            yield f"{scene}|version {VERSION}"

    def where(self, clip_id: str) -> str:
        return clip_id


def _track(scene: str, source: str) -> np.ndarray:
    """The sound [S] of a source: its background, and its events."""
    of, rng = street(scene), seeded(NAME, scene, source)
    found = np.zeros(round(SECONDS * RATE), np.float32)
    if source in of.backgrounds:
        hum = equalise(white(len(found), rng), 3.0, -4.0 if source == "T" else 1.0, rng)
        found += hum * (10 ** ((of.level + of.backgrounds[source]) / 20) / rms(hum))
    for event, level, variant in of.events[source]:
        start, stop = round(event.onset * RATE), round(event.offset * RATE)
        sound = sounding(VOICES[source], variant, stop - start, rng)
        found[start:stop] += sound * (10 ** ((of.level + level) / 20) / rms(sound))
    return found


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    scenes = tuple(f"S{number:02d}" for number in range(CLIPS["train"]))
    return soundscapes(
        NAME,
        {scene: street(scene).kind for scene in scenes},
        Streets(scenes),
        dict.fromkeys(scenes, SECONDS),
        {s: tuple(one.event for of in street(s).events.values() for one in of) for s in scenes},
        _answers(scenes),
        calibration=CALIBRATION,
    )


def perceived(scene: str) -> dict[str, float]:
    """What a scene is like, 0 to 1 by question, before listeners differ."""
    of = street(scene)
    loudest = max(of.backgrounds.values())
    times, levels = {}, {}
    for s in SOURCES:
        audible = [one for one in of.events[s] if one.level > loudest + AUDIBLE]
        share = float(active(SECONDS, (one.event for one in audible))[0].mean())
        if of.backgrounds.get(s, -99.0) > loudest + AUDIBLE:
            share = max(share, 0.7)
        loudness = max((one.level for one in audible), default=-15.0)
        times[s], levels[s] = share, float(np.clip(0.4 + loudness / 30, 0.05, 1.0))
    loud = float(np.clip((of.level + 50.0) / 30 + 0.1 * times["T"], 0.0, 1.0))
    found = {
        "OL": loud,
        "I": 0.3 + 0.5 * times["B"] - 0.2 * times["T"],
        "L": 0.3 + 0.4 * times["V"] + 0.1 * loud,
        "C": 0.9 - 0.8 * loud,
        PLEASANTNESS: 0.8 - 0.5 * loud - 0.15 * times["T"] + 0.2 * times["B"] + 0.1 * times["V"],
    }
    found |= {f"T_{s}": v for s, v in times.items()} | {f"L_{s}": v for s, v in levels.items()}
    rng = seeded(NAME, "attention", scene)  # what all listeners share and no level tells
    return {question: value + rng.normal(0, 0.08) for question, value in found.items()}


def _answers(scenes: tuple[str, ...]) -> Answers:
    """What each listener answered, 0 to 10 in steps of 0.1."""
    questions, rows = (*QUESTIONS, PLEASANTNESS), []
    who = [f"S{number + 1:02d}" for number in range(SUBJECTS)]
    for place, subject in enumerate(who):
        rng = seeded(NAME, "subject", subject)
        bias = rng.normal(0, 0.02, len(questions))
        for scene in scenes:
            true = np.array([perceived(scene)[question] for question in questions])
            said = 1.0 - true if place < CARELESS else true
            rows.append(np.clip(said + bias + rng.normal(0, 0.03, len(questions)), 0.0, 1.0))
    return Answers(
        tuple(subject for subject in who for _ in scenes), scenes * SUBJECTS, questions,
        np.round(SCALE * np.stack(rows), 1),
    )  # fmt: skip
