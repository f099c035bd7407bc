"""The embedded data set ``synthetic_speech``: 1 s of a voice, with a mask before the mouth or not.

It has the parts of ComParE 2020 Mask. Each speaker has a voice and a mask of their own: the mask
takes 4 to 8 dB at 3.5 kHz and 9 to 15 dB at 8 kHz. Every clip has another distance and room, which
hides some of that. A speaker is a group; those of the three parts are others.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    RATE,
    SOUNDS,
    background,
    equalise,
    faded,
    filtered,
    rms,
    seeded,
    source_variant,
    within,
)

__all__ = ["CLASSES", "CLIPS", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic_speech"
TASK = "any"

CLASSES = ("clear", "mask")
CLIPS = {"train": 240, "devel": 120, "test": 120}
SPEAKERS = {"train": range(16), "devel": range(16, 24), "test": range(24, 32)}
ROOM = 3.0  # dB, to either side, at each octave
SNR = (5.0, 25.0)  # dB
MASK = ((4.0, 8.0), (9.0, 15.0))  # dB that it takes, at 3.5 and at 8 kHz
AT = np.log2(np.array([1000.0, 3500.0, 8000.0]) / 62.5)  # octaves


class Spoken(NamedTuple):
    """Who speaks in a clip, with a mask or not, and how loud over the background (dB)."""

    speaker: int
    label: str
    snr: float


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    clips = tuple(
        Clip(clip_id, part, "labelled", f"speaker_{spoken(clip_id).speaker:02d}", 1.0)
        for part in CLIPS
        for clip_id in _clip_ids(part)
    )
    return Dataset(
        name=NAME,
        task=TASK,
        classes=CLASSES,
        clips=clips,
        labels={part: _labels(part) for part in ("train", "devel")},
        sealed={"test": partial(_labels, "test")},
        sealed_kind={"test": "class"},
        source=Rendering(tuple(clip.clip_id for clip in clips), render),
        official_validation="devel",
    )


def _clip_ids(part: str) -> list[str]:
    return [f"{part}_{i:05d}" for i in range(CLIPS[part])]


def _labels(part: str) -> Labels:
    return Labels("class", {clip_id: spoken(clip_id).label for clip_id in _clip_ids(part)})


def spoken(clip_id: str) -> Spoken:
    """Who speaks in a clip and how."""
    rng = seeded(NAME, clip_id)
    speaker = int(rng.choice(SPEAKERS[clip_id.split("_")[0]]))
    return Spoken(speaker, str(rng.choice(CLASSES)), rng.uniform(*SNR))


def render(clip_id: str) -> np.ndarray:
    """The sound of a clip [S]: a voice over a background."""
    speaker, label, snr = spoken(clip_id)
    rng = seeded(NAME, "audio", clip_id)
    mix = background(RATE, rng)
    voice = SOUNDS["Speech"].synthesise(source_variant("Speech", speaker), RATE, rng)
    voice = equalise(voice, ROOM, 0.0, seeded(NAME, "voice", str(speaker)))
    voice = faded(equalise(voice, ROOM, 0.0, rng))
    level = rms(mix) * 10 ** (snr / 20) / rms(voice)
    if label == "mask":
        loss = [seeded(NAME, "mask", str(speaker)).uniform(*limits) for limits in MASK]
        voice = filtered(voice, AT, -np.array([0.0, *loss]))
    return within(mix + level * voice)
