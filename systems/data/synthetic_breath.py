"""The embedded data set ``synthetic_breath``: 40 s of speech and the signal of a breath belt.

It has the parts of ComParE 2020 Breathing and 25 values a second. The belt rises while breath is
drawn, which is heard as noise, and falls while speech goes on; the longer the phrase, the deeper
the breath before it. Each recording is another speaker, with a scale and drift of their own.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    RATE,
    SOUNDS,
    background,
    equalise,
    faded,
    rms,
    seeded,
    source_variant,
    white,
    within,
)

__all__ = ["CLASSES", "CLIPS", "LABEL_HOP", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic_breath"
TASK = "any"

CLASSES = ("upper_belt",)
CLIPS = {"train": 8, "devel": 6, "test": 4}
SECONDS, LABEL_HOP = 40.0, 0.04  # s
STEPS = round(SECONDS / LABEL_HOP)
INHALE, PHRASE, PAUSE = (0.4, 0.9), (1.5, 5.0), (0.1, 0.8)  # s
SPEECH, BREATH = (10.0, 20.0), (0.0, 10.0)  # dB over the background


class Breath(NamedTuple):
    """Breath is drawn from ``onset``, speech lasts from ``speech`` to ``end`` (s, on 1 ms).

    ``level``: of the belt at the end of the phrase.
    """

    onset: float
    speech: float
    end: float
    level: float


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    clips = tuple(
        Clip(clip_id, part, "labelled", clip_id, SECONDS, {"steps": STEPS})
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
        sealed_kind={"test": "series"},
        source=Rendering(tuple(clip.clip_id for clip in clips), render),
        official_validation="devel",
        label_hop=LABEL_HOP,
    )


def _clip_ids(part: str) -> list[str]:
    return [f"{part}_{i:02d}" for i in range(CLIPS[part])]


def _labels(part: str) -> Labels:
    return Labels("series", {clip_id: belt(clip_id) for clip_id in _clip_ids(part)})


def breaths(clip_id: str) -> list[Breath]:
    """The breaths of a recording in order, the last one cut at its end."""
    rng = seeded(NAME, clip_id)
    found, onset = [], round(rng.uniform(0.0, 1.0), 3)
    while onset < SECONDS - 1.0:
        speech = round(onset + rng.uniform(*INHALE), 3)
        end = round(min(SECONDS, speech + rng.uniform(*PHRASE)), 3)
        found.append(Breath(onset, speech, end, rng.uniform(-0.1, 0.1)))
        onset = round(end + rng.uniform(*PAUSE), 3)
    return found


def belt(clip_id: str) -> np.ndarray:
    """The belt's signal [T, 1] at 25 Hz, within about -1..1."""
    rng = seeded(NAME, "belt", clip_id)
    times, levels = [0.0], [0.0]
    for breath in breaths(clip_id):
        depth = 0.3 + 0.2 * (breath.end - breath.speech)
        times += [breath.onset, breath.speech, breath.end]
        levels += [levels[-1], breath.level + depth, breath.level]
    t = np.arange(STEPS) * LABEL_HOP
    drawn = gaussian_filter1d(np.interp(t, times, levels), 0.1 / LABEL_HOP)
    drift = 0.15 * np.sin(2 * np.pi * (t / rng.uniform(15.0, 30.0) + rng.uniform()))
    noise = 0.04 * rng.standard_normal(STEPS)
    scale = rng.uniform(0.6, 1.0)
    return (scale * (drawn + drift + noise - 0.4))[:, None]


def render(clip_id: str) -> np.ndarray:
    """The sound of a recording [S]: breaths and phrases over a background."""
    rng = seeded(NAME, "audio", clip_id)
    mix = background(round(SECONDS * RATE), rng)
    level = rms(mix)
    voice = source_variant("Speech", int(rng.integers(1000)))
    loudness = level * 10 ** (rng.uniform(*SPEECH) / 20)
    for breath in breaths(clip_id):
        at = [round(second * RATE) for second in breath[:3]]
        drawn = _drawn(at[1] - at[0], rng)
        drawn *= level * 10 ** (rng.uniform(*BREATH) / 20) / rms(drawn)
        mix[at[0] : at[1]] += drawn
        phrase = faded(SOUNDS["Speech"].synthesise(voice, at[2] - at[1], rng))
        mix[at[1] : at[2]] += phrase * loudness / rms(phrase)
    return within(mix)


def _drawn(count: int, rng: Generator) -> np.ndarray:
    """The sound of breath being drawn [count]: noise of a colour that swells and fades."""
    swell = np.sin(np.pi * np.linspace(0.0, 1.0, count, dtype=np.float32))
    return equalise(white(count, rng), 6.0, 1.0, rng) * swell
