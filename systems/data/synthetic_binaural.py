"""The embedded data set ``synthetic_binaural``: sources on the median plane of a made head.

It has what a set of SOFA files has: templates, matched and mismatched signals and some beside the
plane. A made ear hears a sound and three echoes of it, whose delays turn with the polar angle; the
two ears differ a little. Another laboratory is another loudspeaker, another gain of each ear, weak
reflections. Voices, rattles and hisses are its dry sounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from systems.data.binaural import (
    CONDITIONS,
    NOISES,
    RATE,
    SUBSETS,
    TAPS,
    TASK,
    Design,
    Direction,
    kind_of,
    noise,
)
from systems.data.dataset import Dataset
from systems.data.rendering import LAYOUT, takes_no_folder
from systems.data.synthetic_sounds import VERSION, equalise, faded, rms, seeded

__all__ = ["CLIPS", "LAYOUT", "METRICS", "NAME", "SUBSETS", "TASK", "read"]

NAME = "synthetic_binaural"
CLIPS = {"template": 36, "speech": 2, "train": 128, "test": 576}
METRICS = ("angular_error", "front_back")
SECONDS = 0.4
STEP = 10  # degrees from template to template
TESTED = (-150, -110, -60, -20, 20, 70, 120, 160)  # degrees
LATERAL = 8.0  # degrees of the directions beside the plane
SOUNDS = ("speech/0", "speech/1", "environmental/0", "environmental/1")
SPEECH = ("training_speech/0", "training_speech/1")


@dataclass(frozen=True)
class Made:
    """Responses and sounds, each from its name."""

    def response(self, responses: str, number: int) -> np.ndarray:
        lateral = LATERAL if responses.endswith("off_centre") else 0.0
        pair = response(lateral, -180.0 + number)
        return pair if responses.startswith("home") else elsewhere(pair)

    def sound(self, name: str) -> np.ndarray:
        kind = kind_of(name)
        if kind in NOISES:
            return noise(name, SECONDS)
        return voice(name) if kind == "speech" else rattle(name)

    def where(self, name: str) -> str:
        return name

    def identity(self) -> Iterable[str]:
        yield f"{NAME}|version {VERSION}"


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)

    def directions(responses: str, lateral: float = 0.0) -> list[Direction]:
        return [Direction(responses, polar + 180, lateral, float(polar)) for polar in TESTED]

    conditions = (directions("home"), directions("away"), directions("away off_centre", LATERAL))
    return Design(
        templates=[
            Direction("home", k, 0.0, float(k - 180)) for k in range(0, 360, STEP)
        ],
        conditions=dict(zip(CONDITIONS, conditions, strict=True)),
        development=conditions[1],
        sounds=dict.fromkeys((*SOUNDS, *(f"{name}/test" for name in NOISES)), SECONDS),
        training=dict.fromkeys(SPEECH, SECONDS),
        heard=dict.fromkeys((*SPEECH, *(f"{name}/train" for name in NOISES)), SECONDS),
    ).dataset(NAME, Made())  # fmt: skip


def response(lateral: float, polar: float) -> np.ndarray:
    """The pair [2, TAPS] from a direction in degrees: the sound itself and three echoes."""
    theta, side = np.radians(polar), np.sin(np.radians(lateral))
    f = np.fft.rfftfreq(TAPS, 1 / RATE)
    pair = []
    for ear, sign in enumerate((1.0, -1.0)):
        shape = 1.0 + 0.06 * ear  # one ear is larger
        delays = shape * np.array([
            0.0, 5.0 + 2.2 * np.cos(theta), 9.0 + 3.0 * np.sin(theta + 0.1 * ear),
            15.0 + 4.0 * np.cos(2 * theta + 1.0),
        ])  # fmt: skip
        delays = (40.0 - 12.0 * sign * side + delays) / RATE
        gains = np.array([1.0, 0.6, -0.45, 0.35 - 0.05 * ear]) * 10 ** (6.0 * sign * side / 20)
        spectrum = (gains[:, None] * np.exp(-2j * np.pi * f * delays[:, None])).sum(axis=0)
        pair.append(np.fft.irfft(spectrum, TAPS))
    return 0.5 * np.stack(pair)


def elsewhere(pair: np.ndarray) -> np.ndarray:
    """Responses as another laboratory would have measured them."""
    f = np.fft.rfftfreq(TAPS, 1 / RATE)
    rng, spectra = seeded(NAME, "laboratory"), np.fft.rfft(pair, axis=1)
    bend = 1.5 * np.cos(2 * np.pi * np.outer(rng.uniform(0.1, 0.4, 3), f / 1000))
    colour = 10 ** (bend.sum(axis=0) / 20)
    gains, late = np.array([[1.0], [0.87]]), np.array([[0.0], [0.8]])
    floor = 1.0 + 0.05 * np.exp(-2j * np.pi * f * 130.0 / RATE)
    spectra = spectra * colour * floor * gains * np.exp(-2j * np.pi * f * late / RATE)
    return np.fft.irfft(spectra, TAPS, axis=1)


def voice(name: str) -> np.ndarray:
    """Voiced sound [S]: pulses at a gliding pitch through resonances, and breath."""
    rng, count = seeded(NAME, name), round(SECONDS * RATE)
    time = np.arange(count) / RATE
    pitch = rng.uniform(90.0, 220.0) * np.exp2(0.3 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    harmonics = np.arange(1, int(20_000 / pitch.max()))
    levels = harmonics**-0.9 * (1 + 4 * np.exp(-np.square(np.log2(harmonics * pitch[0] / 1500))))
    sung = (levels[:, None] * np.sin(np.outer(harmonics, phase))).sum(axis=0)
    breath = equalise(rng.standard_normal(count).astype(np.float32), 4.0, -2.0, rng)
    mix = sung / rms(sung) + 0.1 * breath / rms(breath)
    return faded((0.1 * mix).astype(np.float32))


def rattle(name: str) -> np.ndarray:
    """Hits [S] of coloured noise at random times."""
    rng, count = seeded(NAME, name), round(SECONDS * RATE)
    bed = equalise(rng.standard_normal(count).astype(np.float32), 6.0, rng.uniform(-4, 0), rng)
    envelope = np.full(count, 0.05)
    for start in rng.integers(0, count - 2000, 8):
        length = count - start
        envelope[start:] += rng.uniform(0.3, 1.0) * np.exp(
            -np.arange(length) / rng.uniform(200, 2000)
        )
    mix = bed * envelope
    return faded((0.1 * mix / rms(mix)).astype(np.float32))
