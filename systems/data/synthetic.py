"""The embedded data set ``synthetic``: domestic soundscapes rendered on demand, without files.

It has the classes, parts and label kinds of DCASE 2018 task 4. Each event gets a random equaliser
and level and each clip a background of random colour, so that the mean spectrum says little and the
texture in time and frequency says much. The test part sounds from sources no other part has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from systems.data.dataset import Clip, Dataset, Event, LabelKind, Labels, Role
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    CLASSES,
    RATE,
    SOUNDS,
    TEST_VARIANTS,
    TRAINING_VARIANTS,
    background,
    rms,
    seeded,
    sounding,
    within,
)

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic"
TASK = "any"

SECONDS = 3.0


class Part(NamedTuple):
    """Size of a part, its role and label kind, and the source variants that sound in it."""

    clips: int
    role: Role
    kind: LabelKind
    variants: range


PARTS = {
    "weak": Part(300, "labelled", "tags", TRAINING_VARIANTS),
    "unlabel_in_domain": Part(160, "unlabelled", "none", TRAINING_VARIANTS),
    "validation": Part(200, "labelled", "tags", TRAINING_VARIANTS),
    "test": Part(160, "labelled", "events", TEST_VARIANTS),
}


CLIPS = {name: part.clips for name, part in PARTS.items()}


class Sounding(NamedTuple):
    """An event of a clip, the source variant it sounds from, and its level over the background."""

    event: Event
    variant: int
    snr: float  # dB


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    clips = tuple(
        Clip(clip_id, part, PARTS[part].role, group=clip_id, duration=SECONDS)
        for part in PARTS
        for clip_id in _clip_ids(part)
    )
    return Dataset(
        name=NAME,
        task=TASK,
        classes=CLASSES,
        clips=clips,
        labels={part: _labels(part) for part in ("weak", "validation")},
        sealed={"test": partial(_labels, "test")},
        sealed_kind={"test": PARTS["test"].kind},
        source=Rendering(tuple(clip.clip_id for clip in clips), render),
        test_part="test",
        official_validation="validation",
    )


def _clip_ids(part: str) -> list[str]:
    return [f"{part}_{i:04d}" for i in range(PARTS[part].clips)]


def _labels(part: str) -> Labels:
    events = {i: tuple(s.event for s in scene(i)) for i in _clip_ids(part)}
    if PARTS[part].kind == "events":
        return Labels("events", events)
    return Labels("tags", {i: tuple(sorted({e.label for e in es})) for i, es in events.items()})


# Scenes: what sounds when.

COUNTS = (0.15, 0.25, 0.3, 0.3)  # how often a clip has one, two, three, four events
SNR = (3.0, 23.0)  # dB


def scene(clip_id: str) -> tuple[Sounding, ...]:
    """The events of a clip in order of onset: 1 to 4, which may overlap unless of one class."""
    variants = PARTS[clip_id.rsplit("_", 1)[0]].variants
    rng = seeded("scene", clip_id)
    placed: list[Sounding] = []
    for label in rng.choice(CLASSES, size=rng.choice(4, p=COUNTS) + 1):
        event = _place(str(label), rng)
        variant = int(rng.choice(variants))
        snr = rng.uniform(*SNR)
        if not any(_collide(event, other.event) for other in placed):
            placed.append(Sounding(event, variant, snr))
    return tuple(sorted(placed))


def _place(label: str, rng: Generator) -> Event:
    """An event somewhere in the clip, on a grid of 1 ms (16 samples)."""
    seconds = round(rng.uniform(*SOUNDS[label].durations), 3)
    onset = round(rng.uniform(0.0, SECONDS - seconds), 3)
    return Event(onset, round(onset + seconds, 3), label)


def _collide(a: Event, b: Event) -> bool:
    """Whether two events of one class would be heard as one."""
    gap = 0.25
    return a.label == b.label and a.onset < b.offset + gap and b.onset < a.offset + gap


def render(clip_id: str) -> np.ndarray:
    """The sound of a clip [S]: its events over a background."""
    return mixed(scene(clip_id), seeded("audio", clip_id))


def mixed(soundings: Iterable[Sounding], rng: Generator) -> np.ndarray:
    """Mix events [S] over a background, each at its signal-to-noise ratio."""
    mix = background(round(SECONDS * RATE), rng)
    level = rms(mix)
    for event, variant, snr in soundings:
        start, stop = round(event.onset * RATE), round(event.offset * RATE)
        sound = sounding(event.label, variant, stop - start, rng)
        mix[start:stop] += sound * (level * 10 ** (snr / 20) / rms(sound))
    return within(mix)
