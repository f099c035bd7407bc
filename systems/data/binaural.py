"""Sources around a head, rendered: a dry sound through a pair of responses, with noise at the ears.

What the reader of SOFA files and the embedded set share. All sound is at 48 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import fftconvolve

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.synthetic_sounds import seeded

RATE = 48_000
TAPS = 512  # of a response, cut or filled with zeros
SNRS = (0, 10, 20, 30)  # dB
CONDITIONS = ("matched", "mismatched", "off_centre")
NOISES = ("white_noise", "pink_noise")
NOISE_BAND = (20.0, 20_000.0)  # Hz
PEAK = 0.5  # of a rendered signal
TASK = "binaural_localization"

SECTORS = ("front", "above", "rear", "below")  # of the polar angle, in degrees
SUBSETS: dict[str, dict[str, tuple[Any, ...]]] = {
    **{name: {"condition": (name,)} for name in CONDITIONS},
    **{f"snr_{snr}": {"snr": (snr,)} for snr in SNRS},
    **{name: {"sound": (name,)} for name in ("speech", "environmental", *NOISES)},
    **{name: {"sector": (name,)} for name in SECTORS},
}


class Direction(NamedTuple):
    """A measurement: the set of responses, its number there, lateral and polar angle in degrees."""

    responses: str
    number: int
    lateral: float
    polar: float

    @property
    def sector(self) -> str:
        return SECTORS[int((self.polar + 45.0) % 360.0 // 90.0)]


class Bank(Protocol):
    """Where responses and dry sounds come from; picklable."""

    def response(self, responses: str, number: int) -> np.ndarray:
        """The pair [2, TAPS] of a direction."""
        ...

    def sound(self, name: str) -> np.ndarray:
        """A dry sound [S]."""
        ...

    def where(self, name: str) -> str:
        """What a message calls a set of responses or a sound."""
        ...

    def identity(self) -> Iterable[str]: ...


class Signal(NamedTuple):
    """What a clip is: a sound from a direction with noise (dB below it); without a sound the
    responses themselves, without a direction the dry sound."""

    sound: str | None
    direction: Direction | None
    snr: float | None = None


@dataclass(frozen=True)
class Renderings:
    """The sound of clips."""

    bank: Bank
    signals: Mapping[str, Signal]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Return samples [2, S] (of a dry sound [1, S]) as float32, and the rate in Hz."""
        sound, direction, snr = self.signals[clip_id]
        if direction is None:
            assert sound is not None
            return self.bank.sound(sound)[None].astype(np.float32), RATE
        pair = self.bank.response(direction.responses, direction.number)
        if sound is None:
            return pair.astype(np.float32), RATE
        return rendered(self.bank.sound(sound), pair, snr, clip_id), RATE

    def where(self, clip_id: str) -> str:
        sound, direction, _ = self.signals[clip_id]
        heard = (sound, direction and direction.responses)
        return " through ".join(self.bank.where(name) for name in heard if name)

    def identity(self) -> Iterable[str]:
        yield from self.bank.identity()
        for clip_id, signal in self.signals.items():
            yield f"{clip_id}|{signal}"


def rendered(sound: np.ndarray, pair: np.ndarray, snr: float | None, key: str) -> np.ndarray:
    """A dry sound [S] through a pair of responses [2, N]: [2, S + N - 1].

    ``snr``: of pink noise of equal level at both ears, independent, against the mean power of both;
    ``None``: no noise. ``key`` seeds it.
    """
    ears = fftconvolve(sound[None], pair, axes=1)
    if snr is not None:
        noise = pink(2, ears.shape[1], seeded("ears", key))
        power = np.square(ears).mean() / np.square(noise).mean()
        ears = ears + noise * np.sqrt(power * 10 ** (-snr / 10))
    found: np.ndarray = (PEAK / np.abs(ears).max() * ears).astype(np.float32)
    return found


def pink(channels: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise [channels, count] whose power falls as 1 / f from 20 Hz to 20 kHz."""
    size = next_fast_len(count, real=True)
    f = np.fft.rfftfreq(size, 1 / RATE)
    inside = (f >= NOISE_BAND[0]) & (f <= NOISE_BAND[1])
    shape = np.where(inside, 1 / np.sqrt(np.maximum(f, 1.0)), 0.0)
    spectrum = rng.standard_normal((2, channels, len(f)))
    found: np.ndarray = np.fft.irfft((spectrum[0] + 1j * spectrum[1]) * shape, size)[:, :count]
    return found / found.std()


def noise(name: str, seconds: float) -> np.ndarray:
    """One of ``NOISES`` [S], by its name, which may go on after a ``/``."""
    count, rng = round(seconds * RATE), seeded("source", name)
    if name.startswith("pink"):
        return 0.1 * pink(1, count, rng)[0]
    return 0.1 * rng.standard_normal(count)


def named(polar: float) -> str:
    """The class of a template, by its polar angle in degrees."""
    return f"{round(polar, 2) + 0.0:g}"


def kind_of(sound: str) -> str:
    """What a sound is, by its name ``KIND/...``; that of speech to learn from is speech too."""
    return sound.partition("/")[0].removeprefix("training_")


@dataclass(frozen=True)
class Design:
    """What is rendered: every direction with every sound at every level of noise.

    Args:
        templates: one direction a class.
        conditions: condition -> directions of the test part.
        development: directions of the training part, which systems are searched on.
        sounds: ``KIND/NAME`` -> seconds, of the sounds of the test part.
        training: the same of dry speech that systems may learn from.
        heard: of the sounds of the training part.
    """

    templates: Sequence[Direction]
    conditions: Mapping[str, Sequence[Direction]]
    development: Sequence[Direction]
    sounds: Mapping[str, float]
    training: Mapping[str, float]
    heard: Mapping[str, float]

    def dataset(self, name: str, bank: Bank, **about: Any) -> Dataset:
        """The data set: parts ``template``, ``speech``, ``train`` and ``test``.

        A group is a direction of a part.
        """
        signals = {f"template/{named(one.polar)}": Signal(None, one) for one in self.templates}
        clips = [
            Clip(i, "template", "template", i, TAPS / RATE, {"class": i.partition("/")[2]})
            for i in signals
        ]
        for sound, seconds in self.training.items():
            clip_id = f"speech/{sound.partition('/')[2]}"
            signals[clip_id] = Signal(sound, None)
            clips.append(Clip(clip_id, "speech", "unlabelled", clip_id, seconds))
        train = _signals("train", {"mismatched": self.development}, self.heard)
        test = _signals("test", self.conditions, self.sounds)
        lengths = {**self.sounds, **self.heard}
        for clip_id, (condition, signal) in {**train, **test}.items():
            signals[clip_id] = signal
            clips.append(_clip(clip_id, condition, signal, lengths))
        return Dataset(
            name=name,
            task=TASK,
            classes=tuple(named(one.polar) for one in self.templates),
            clips=tuple(clips),
            labels={"train": _labels(train)},
            sealed={"test": partial(_labels, test)},
            sealed_kind={"test": "direction"},
            source=Renderings(bank, signals),
            **about,
        )


Conditioned = Mapping[str, tuple[str, Signal]]  # clip -> its condition, and what it is


def _signals(
    part: str, conditions: Mapping[str, Sequence[Direction]], sounds: Mapping[str, float]
) -> Conditioned:
    found = {}
    for condition, directions in conditions.items():
        for (place, direction), sound, snr in product(enumerate(directions), sounds, SNRS):
            clip_id = f"{part}/{condition}-{place:03d}-{sound.replace('/', '-')}-{snr}dB"
            found[clip_id] = (condition, Signal(sound, direction, snr))
    return found


def _clip(clip_id: str, condition: str, signal: Signal, lengths: Mapping[str, float]) -> Clip:
    sound, direction, snr = signal
    assert sound is not None
    assert direction is not None
    part = clip_id.partition("/")[0]
    seconds = (round(lengths[sound] * RATE) + TAPS - 1) / RATE
    columns = {"condition": condition, "snr": snr, "sound": kind_of(sound)}
    group = f"{part}/{direction.responses} {direction.number}"
    return Clip(clip_id, part, "labelled", group, seconds, columns)


def _labels(signals: Conditioned) -> Labels:
    directions = {i: signal.direction for i, (_, signal) in signals.items() if signal.direction}
    return Labels(
        "direction",
        {clip_id: one.polar for clip_id, one in directions.items()},
        {clip_id: {"sector": one.sector} for clip_id, one in directions.items()},
    )
