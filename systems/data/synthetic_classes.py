"""The embedded data set ``synthetic_classes``: one sound a clip, with doubtful labels.

It has what sets such as FSDKaggle2018 have: single labels, clips of 0.3 to 5 s, classes of unequal
size, and a training part of which some labels are verified and of the others one in four is wrong
(column ``manually_verified``: 1 or 0). The column ``fold`` deals clips into ten. A group is a
source, such as one dog. The test part is verified, and sounds from sources no other part has.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    RATE,
    TEST_VARIANTS,
    TRAINING_VARIANTS,
    background,
    rms,
    seeded,
    sounding,
    within,
)

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic_classes"
TASK = "any"

CLASSES = (
    "Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Frying", "Running_water", "Speech",
)  # fmt: skip
SHARES = np.linspace(1.0, 2.0, len(CLASSES)) / np.linspace(1.0, 2.0, len(CLASSES)).sum()
CLIPS = {"train": 1200, "test": 300}
VARIANTS = {"train": TRAINING_VARIANTS, "test": TEST_VARIANTS}
SECONDS = (0.3, 5.0)
VERIFIED, WRONG = 0.4, 0.25  # shares: of the training clips; of the labels of the others
SNR = (-3.0, 20.0)  # dB


class Scene(NamedTuple):
    """What sounds in a clip, from when to when (s), and what its label says."""

    sounds: str
    variant: int
    duration: float
    onset: float
    offset: float
    snr: float  # dB
    verified: bool
    label: str


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    clips = tuple(_clip(part, clip_id) for part in CLIPS for clip_id in _clip_ids(part))
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


def _clip_ids(part: str) -> list[str]:
    return [f"{part}_{i:04d}" for i in range(CLIPS[part])]


def _clip(part: str, clip_id: str) -> Clip:
    s = scene(clip_id)
    fold = int(clip_id.rsplit("_", 1)[1]) % 10 + 1
    columns = {"manually_verified": int(s.verified), "fold": fold}
    return Clip(clip_id, part, "labelled", f"{s.sounds}_{s.variant}", s.duration, columns)


def _labels(part: str) -> Labels:
    return Labels("class", {clip_id: scene(clip_id).label for clip_id in _clip_ids(part)})


def scene(clip_id: str) -> Scene:
    """What sounds in a clip: most of it is one sound; times lie on a grid of 1 ms (16 samples)."""
    part = clip_id.rsplit("_", 1)[0]
    rng = seeded(NAME, clip_id)
    sounds = str(rng.choice(CLASSES, p=SHARES))
    variant = int(rng.choice(VARIANTS[part]))
    duration = round(float(np.exp(rng.uniform(*np.log(SECONDS)))), 3)
    length = round(max(0.25, duration * rng.uniform(0.6, 1.0)), 3)
    onset = round(rng.uniform(0.0, duration - length), 3)
    snr = rng.uniform(*SNR)
    verified = part == "test" or bool(rng.random() < VERIFIED)
    label = sounds
    if not verified and rng.random() < WRONG:
        label = str(rng.choice([name for name in CLASSES if name != sounds]))
    offset = round(onset + length, 3)
    return Scene(sounds, variant, duration, onset, offset, snr, verified, label)


def render(clip_id: str) -> np.ndarray:
    """The sound of a clip [S]: its event over a background."""
    s = scene(clip_id)
    rng = seeded(NAME, "audio", clip_id)
    mix = background(round(s.duration * RATE), rng)
    start, stop = round(s.onset * RATE), round(s.offset * RATE)
    sound = sounding(s.sounds, s.variant, stop - start, rng)
    mix[start:stop] += sound * (rms(mix) * 10 ** (s.snr / 20) / rms(sound))
    return within(mix)
