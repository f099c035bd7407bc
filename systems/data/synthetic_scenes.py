"""The embedded data set ``synthetic_scenes``: 3 s of a place, recorded by one of three devices.

It has what TUT Urban Acoustic Scenes 2018 Mobile has: a place (column ``identifier``) in a city
(``city``) is a group, and most of the training clips are of device ``a``. Devices ``b`` and ``c``
heard some of the same moments; in the test part all three heard all. Scenes share sounds: what is
heard, and how often, tells them. The places of the test part, and the sources that sound there, are
others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    RATE,
    SOUNDS,
    TEST_VARIANTS,
    TRAINING_VARIANTS,
    decibels,
    equalise,
    rms,
    seeded,
    sounding,
    wander,
    white,
    within,
)
from systems.data.tut2018_mobile import SUBSETS

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "NAME", "SUBSETS", "TASK", "read"]

NAME = "synthetic_scenes"
TASK = "scene_classification"
SECONDS = 3.0

# How likely each sound is to be heard in a clip of a scene.
SCENES = {
    "bathroom": {"Running_water": 0.8, "Electric_shaver_toothbrush": 0.5, "Speech": 0.2},
    "garden": {"Dog": 0.7, "Cat": 0.5, "Speech": 0.3, "Running_water": 0.1},
    "kitchen": {"Dishes": 0.7, "Frying": 0.6, "Running_water": 0.3, "Blender": 0.2},
    "living_room": {"Speech": 0.8, "Vacuum_cleaner": 0.4, "Cat": 0.2, "Dog": 0.2},
    "office": {"Alarm_bell_ringing": 0.7, "Speech": 0.6, "Vacuum_cleaner": 0.1},
    "workshop": {"Blender": 0.7, "Vacuum_cleaner": 0.5, "Speech": 0.2, "Alarm_bell_ringing": 0.1},
}
CLASSES = tuple(SCENES)
PLACES = {"train": range(8), "test": range(8, 12)}  # of each scene
CITIES = 4
MOMENTS = {"train": 5, "test": 2}  # of each place
SHARED = range(5)  # training places of which b and c recorded the first moment
CLIPS = {"train": 300, "test": 144}
VARIANTS = {"train": TRAINING_VARIANTS, "test": TEST_VARIANTS}
SNR = (-3.0, 15.0)  # dB
DEVICES = {"a": (0.0, 0.0, -80.0), "b": (12.0, 3.0, -16.0), "c": (12.0, -3.0, -20.0)}
"""Device: its equaliser (dB), tilt (dB an octave) and noise (dB below the sound)."""


class Moment(NamedTuple):
    """When and where a clip was recorded, and by what."""

    part: str
    scene: str
    place: int
    number: int
    device: str

    @property
    def clip_id(self) -> str:
        return f"{self.part}/{self.scene}-{self.place}-{self.number}-{self.device}"

    @property
    def identifier(self) -> str:
        return f"{self.scene}-{self.place}"


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    clips = tuple(_clip(moment) for part in CLIPS for moment in _moments(part))
    return Dataset(
        name=NAME,
        task=TASK,
        classes=CLASSES,
        clips=clips,
        labels={"train": _labels("train")},
        sealed={"test": partial(_labels, "test")},
        sealed_kind={"test": "class"},
        source=Rendering(tuple(clip.clip_id for clip in clips), render),
    )


def _moments(part: str) -> Iterator[Moment]:
    for scene in CLASSES:
        for place in PLACES[part]:
            for number in range(MOMENTS[part]):
                shared = part == "test" or (number == 0 and place in SHARED)
                for device in DEVICES if shared else "a":
                    yield Moment(part, scene, place, number, device)


def _clip(moment: Moment) -> Clip:
    columns = {
        "device": moment.device,
        "identifier": moment.identifier,
        "city": f"city_{moment.place % CITIES}",
    }
    return Clip(moment.clip_id, moment.part, "labelled", moment.identifier, SECONDS, columns)


def _labels(part: str) -> Labels:
    return Labels("class", {moment.clip_id: moment.scene for moment in _moments(part)})


def render(clip_id: str) -> np.ndarray:
    """The sound of a clip [S]: what was heard, as its device recorded it."""
    moment, _, device = clip_id.rpartition("-")
    heard = _heard(moment)
    depth, tilt, noise = DEVICES[device]
    recorded = equalise(heard, depth, tilt, seeded(NAME, "device", device))
    hiss = white(len(heard), seeded(NAME, "noise", clip_id))
    recorded *= rms(heard) / rms(recorded)
    return within(recorded + 10 ** (noise / 20) * rms(heard) * hiss)


def _heard(moment: str) -> np.ndarray:
    """What could be heard at a moment of a place [S]: some of the scene's sounds over its hum."""
    part, _, rest = moment.partition("/")
    scene, place, _ = rest.split("-")
    rng, of_place = seeded(NAME, moment), seeded(NAME, "place", scene, place)
    count = round(SECONDS * RATE)
    hum = equalise(white(count, rng), 4.0, of_place.uniform(-6.0, -1.0), of_place)
    mix = hum * decibels(of_place.uniform(-46.0, -36.0) + 3.0 * wander(count, 0.6, rng)) / rms(hum)
    level, likely = rms(mix), SCENES[scene]
    present = [name for name, chance in likely.items() if rng.random() < chance]
    for name in present or [next(iter(likely))]:
        length = min(count, round(rng.uniform(*SOUNDS[name].durations) * RATE))
        start = int(rng.integers(count - length + 1))
        sound = sounding(name, int(rng.choice(VARIANTS[part])), length, rng)
        mix[start : start + length] += sound * (level * 10 ** (rng.uniform(*SNR) / 20) / rms(sound))
    return mix
