"""The embedded data set ``synthetic_imitations``: voices that imitate recordings, and a gallery.

It has what the Vocal Imitation Set has: a gallery of recordings (column ``class``), and queries,
each of which should find one of them. A voice follows the loudness of the recording, how bright
it is and how noisy, in a tempo and at a pitch of its own. A voice is a group. The test part's
recordings are of other sources of the same classes, and its voices are others; its queries search
its own recordings.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import (
    CLASSES,
    RATE,
    background,
    equalise,
    faded,
    falling,
    resonate,
    rms,
    seeded,
    sounding,
    tone,
    white,
    within,
)

__all__ = ["CLIPS", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic_imitations"
TASK = "any"

SOURCES = {"train": range(4), "test": range(12, 15)}  # of each class, a recording each
VOICES = {"train": range(12), "test": range(12, 18)}
EACH = {"train": 4, "test": 3}  # imitations of a recording
CLIPS = {"gallery": 70, "train": 160, "test": 90}
SECONDS = (0.6, 1.4)
TEMPO = (0.85, 1.2)
SNR = (15.0, 30.0)  # dB
FRAME = 256  # samples between two points of what a voice follows


class Imitation(NamedTuple):
    """Who imitates which recording, and how many times as long."""

    recording: str
    voice: int
    tempo: float


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    recordings = [item for part in SOURCES for item in _recordings(part)]
    clips = [Clip(item, "gallery", "gallery", item, length(item), {"class": _class(item)})
             for item in recordings]  # fmt: skip
    for part in ("train", "test"):
        for query in _queries(part):
            about = imitation(query)
            seconds = round(about.tempo * length(about.recording), 3)
            columns = {"class": _class(about.recording)}
            clips.append(
                Clip(query, part, "labelled", f"voice_{about.voice:02d}", seconds, columns)
            )
    return Dataset(
        name=NAME,
        task=TASK,
        classes=tuple(recordings),
        clips=tuple(clips),
        labels={"train": _labels("train")},
        sealed={"test": partial(_labels, "test")},
        sealed_kind={"test": "relevance"},
        source=Rendering(tuple(clip.clip_id for clip in clips), render),
    )


def _recordings(part: str) -> list[str]:
    return [f"gallery/{name}-{source:02d}" for name in CLASSES for source in SOURCES[part]]


def _queries(part: str) -> list[str]:
    return [f"{part}/{item.rpartition('/')[2]}-{k}" for item in _recordings(part)
            for k in range(EACH[part])]  # fmt: skip


def _class(item: str) -> str:
    return item.rpartition("/")[2].partition("-")[0]


def _labels(part: str) -> Labels:
    """Of each query what it imitates, among the recordings of its part."""
    items = _recordings(part)
    return Labels("relevance", {
        query: {item: float(item == imitation(query).recording) for item in items}
        for query in _queries(part)
    })  # fmt: skip


def imitation(query: str) -> Imitation:
    """What a query is."""
    part, _, rest = query.partition("/")
    rng = seeded(NAME, query)
    recording = f"gallery/{rest.rpartition('-')[0]}"
    return Imitation(recording, int(rng.choice(VOICES[part])), float(rng.uniform(*TEMPO)))


def length(item: str) -> float:
    """The length of a recording in s."""
    return round(float(seeded(NAME, "length", item).uniform(*SECONDS)), 3)


def render(clip_id: str) -> np.ndarray:
    """The sound of a recording or of a query [S], over a background."""
    if clip_id.startswith("gallery/"):
        sound = recorded(clip_id)
    else:
        about = imitation(clip_id)
        count = round(round(about.tempo * length(about.recording), 3) * RATE)
        sound = imitated(recorded(about.recording), count, about.voice, clip_id)
    rng = seeded(NAME, "background", clip_id)
    mix = background(len(sound), rng)
    loud = rms(mix) * 10 ** (rng.uniform(*SNR) / 20) / rms(sound)
    return within(mix + loud * sound)


def recorded(item: str) -> np.ndarray:
    """A recording [S] without its background."""
    name, _, source = item.rpartition("/")[2].partition("-")
    rng = seeded(NAME, "recording", item)
    return sounding(name, int(source), round(length(item) * RATE), rng)


def followed(sound: np.ndarray) -> np.ndarray:
    """What a voice follows of a sound: loudness, pitch of the mean of its spectrum in octaves over
    1 kHz, and flatness in 0..1, at each point: [3, P]."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, FRAME), 2 * FRAME)[::FRAME]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(2 * FRAME))))[:, 2:] + 1e-9
    octaves = np.log2(np.fft.rfftfreq(2 * FRAME, 1 / RATE)[2:] / 1000.0)
    mean = (power * octaves).sum(axis=1) / power.sum(axis=1)
    flatness = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
    return np.stack([np.sqrt(power.sum(axis=1)), mean, flatness])


def imitated(sound: np.ndarray, count: int, voice: int, query: str) -> np.ndarray:
    """A voice [count] that follows a sound as far as it can."""
    person, rng = seeded(NAME, "voice", str(voice)), seeded(NAME, "imitation", query)
    points = followed(sound)
    at = np.linspace(0, points.shape[1] - 1, count)
    loud, bright, flat = (np.interp(at, np.arange(len(one)), one) for one in points)
    base, reach = person.uniform(100.0, 280.0), person.uniform(0.35, 0.6)
    bend = np.clip(reach * (bright - bright.mean()) + rng.normal(0.0, 0.08), -1.0, 1.0)
    sung = tone((base * np.exp2(bend)).astype(np.float32), falling(40, 0.7))
    breath = np.clip(3.0 * flat, 0.05, 1.0) * white(count, rng)
    mouth = 900.0 * np.exp2(np.interp(np.arange(0, count, FRAME), np.arange(count), 0.7 * bright))
    centres = np.stack([mouth, 2.4 * mouth], axis=1).clip(250.0, 6500.0)
    sung = sung / rms(sung) * (1.2 - np.clip(3.0 * flat, 0.0, 1.0))
    said = resonate((sung + breath).astype(np.float32), centres, 0.25, 0.05)
    said = equalise((said * (loud / loud.max()) ** 0.8).astype(np.float32), 3.0, 0.0, person)
    return faded(said)
