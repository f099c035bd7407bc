"""The sounds of the embedded data sets: ten textures in time and frequency, and what mixes them.

Everything is drawn from a generator, so that a clip's id alone says how it sounds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy import fft

RATE = 16_000
# Goes into every seed and into the fingerprint: raise it with any change that is heard.
VERSION = 2
EQUALISER = 8.0  # dB, to either side
EDGE = 80  # samples (5 ms) that an event takes to fade in and out

# The sources of a class that sound in training, and those that sound in test parts alone.
TRAINING_VARIANTS, TEST_VARIANTS = range(12), range(12, 20)

Params = Mapping[str, float]
Synthesiser = Callable[[Params, int, Generator], np.ndarray]


class Sound(NamedTuple):
    """What makes a class: its synthesiser, its durations in seconds, its sources' ranges."""

    synthesise: Synthesiser
    durations: tuple[float, float]
    ranges: Mapping[str, tuple[float, float]]


def seeded(*key: str) -> Generator:
    """A generator from words. Python's own hash differs from process to process: not used."""
    return np.random.default_rng([VERSION, zlib.crc32("|".join(key).encode())])


@cache
def source_variant(label: str, variant: int) -> Params:
    """The parameters of one source of a class, such as one dog, log-uniform in the class's ranges.

    ``kind`` (0, 1 or 2) goes round, so that training and test have each kind of a sound.
    """
    rng = seeded("variant", label, str(variant))
    drawn = {
        name: float(low * (high / low) ** rng.uniform())
        for name, (low, high) in SOUNDS[label].ranges.items()
    }
    return {**drawn, "kind": variant % 3}


def sounding(label: str, variant: int, count: int, rng: Generator) -> np.ndarray:
    """An event of a class [count]: a source of it under a random equaliser, faded in and out."""
    sound = SOUNDS[label].synthesise(source_variant(label, variant), count, rng)
    return faded(equalise(sound, EQUALISER, 0.0, rng))


def background(count: int, rng: Generator) -> np.ndarray:
    """Noise of random colour (white to brown), level and slow drift of the level."""
    noise = equalise(white(count, rng), 4.0, rng.uniform(-6.0, 0.0), rng)
    drift = wander(count, 0.6, rng) * 3.0
    level = rng.uniform(-48.0, -34.0)
    coloured: np.ndarray = decibels(level + drift) * noise / rms(noise)
    return coloured


def equalise(signal: np.ndarray, depth: float, tilt: float, rng: Generator) -> np.ndarray:
    """A random smooth equaliser: up to ``depth`` dB at each octave, plus ``tilt`` dB an octave."""
    octaves = np.arange(8)
    return filtered(signal, octaves, rng.uniform(-depth, depth, 8) + tilt * octaves)


def filtered(signal: np.ndarray, octaves: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """A smooth filter: gains in dB at octaves over 62.5 Hz (7: 8 kHz), straight in between."""
    size = fft.next_fast_len(len(signal), real=True)
    curve = decibels(np.interp(_octaves(size), octaves, gains))
    passed: np.ndarray = fft.irfft(fft.rfft(signal, size) * curve, size)[: len(signal)]
    return passed


@cache
def _octaves(size: int) -> np.ndarray:
    """Octaves over 62.5 Hz of the bins of a spectrum."""
    hertz: np.ndarray = np.maximum(fft.rfftfreq(size, 1 / RATE), 62.5)
    return np.log2(hertz / 62.5).astype(np.float32)


def faded(signal: np.ndarray) -> np.ndarray:
    """The signal, faded in and out in place."""
    ramp = np.linspace(0.0, 1.0, EDGE, dtype=np.float32)
    signal[:EDGE] *= ramp
    signal[-EDGE:] *= ramp[::-1]
    return signal


def within(mix: np.ndarray) -> np.ndarray:
    """A mix [S] as float32 within -1..1."""
    return (mix / max(1.0, float(np.abs(mix).max()) / 0.99)).astype(np.float32)


def rms(signal: np.ndarray) -> float:
    """The root of the mean square, above 0."""
    return math.sqrt(float(np.mean(np.square(signal)))) + 1e-9


def decibels(gain: np.ndarray) -> np.ndarray:
    """Factors of gains in dB."""
    return np.exp(gain * np.float32(math.log(10) / 20))


# --- what the synthesisers are made of ---


def _time(count: int) -> np.ndarray:
    """Seconds of ``count`` samples."""
    return np.arange(count, dtype=np.float32) / np.float32(RATE)


def white(count: int, rng: Generator) -> np.ndarray:
    """White noise of variance 1."""
    return rng.standard_normal(count, dtype=np.float32)


def wander(count: int, rate: float, rng: Generator) -> np.ndarray:
    """A random curve in -1..1 with about ``rate`` turns a second."""
    knots = rng.uniform(-1.0, 1.0, 2 + math.ceil(count / RATE * rate))
    at = np.linspace(0.0, len(knots) - 1, count, dtype=np.float32)
    return np.interp(at, np.arange(len(knots)), knots).astype(np.float32)


TABLE = 4096


def tone(pitch: np.ndarray, harmonics: np.ndarray) -> np.ndarray:
    """A harmonic tone of a pitch [count] in Hz; harmonics that could pass 8 kHz are left out."""
    kept = harmonics[: int(RATE / 2 / pitch.max())]
    spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex64)
    spectrum[1 : len(kept) + 1] = kept * np.exp(1j * np.arange(len(kept)) ** 2)  # spread the peak
    table = fft.irfft(spectrum, TABLE) * TABLE
    cycles = np.cumsum(pitch, dtype=np.float64) / RATE
    tone: np.ndarray = table[(cycles * TABLE).astype(np.int64) % TABLE].astype(np.float32)
    return tone


def falling(count: int, slope: float) -> np.ndarray:
    """Amplitudes of ``count`` harmonics that fall by ``slope`` (1: as 1/k)."""
    return np.arange(1, count + 1, dtype=np.float32) ** -slope


def _scatter(count: int, starts: np.ndarray, grains: np.ndarray) -> np.ndarray:
    """Short sounds [N, L], each added at its start, into [count]."""
    out = np.zeros(count + grains.shape[1], dtype=np.float32)
    for start, grain in zip(starts.tolist(), grains, strict=True):
        out[start : start + len(grain)] += grain
    return out[:count]


FRAME = 1024  # samples; frames overlap by half


def resonate(signal: np.ndarray, centres: np.ndarray, width: float, floor: float) -> np.ndarray:
    """Pass a signal through resonances that move.

    ``centres`` [P, R] in Hz are spread evenly over the signal; ``width`` is a share of the centre;
    ``floor`` is what passes beside the resonances.
    """
    hop = FRAME // 2
    frames = 2 * math.ceil(len(signal) / FRAME) + 1
    padded = np.zeros((frames + 1) * hop, dtype=np.float32)
    padded[hop : hop + len(signal)] = signal
    at = np.linspace(0, len(centres) - 1, frames)
    tracks = [np.interp(at, np.arange(len(centres)), track) for track in centres.T]
    bins = fft.rfftfreq(FRAME, 1 / RATE).astype(np.float32)
    gains = np.full((frames, len(bins)), floor, dtype=np.float32)
    for r, track in enumerate(tracks):
        centre = track[:, None].astype(np.float32)
        gains += 1.0 / (1 + r) / (1.0 + np.square((bins - centre) / (width * centre)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::hop]
    window = np.hanning(FRAME + 1)[:FRAME].astype(np.float32)
    shaped = fft.irfft(fft.rfft(cut * window) * gains, FRAME)
    out = np.zeros_like(padded)
    out[: len(shaped[::2]) * FRAME] += shaped[::2].ravel()
    out[hop : hop + len(shaped[1::2]) * FRAME] += shaped[1::2].ravel()
    return out[hop : hop + len(signal)]


# --- the ten sounds ---


def _alarm(p: Params, count: int, rng: Generator) -> np.ndarray:
    """Beeps, two tones in turn, or a hammered bell: steady high lines that switch on and off."""
    t = _time(count)
    phase = (t * p["rate"]) % 1.0
    if p["kind"] == 0:
        return tone(np.full(count, p["pitch"]), falling(4, 1.5)) * (phase < p["duty"])
    if p["kind"] == 1:
        return tone(p["pitch"] * np.where(phase < 0.5, 1.0, p["step"]), falling(4, 1.5))
    strikes = np.arange(0, count, round(RATE / (3 * p["rate"])))
    ratios = np.array([[1.0], [1.51], [2.27], [3.01]], dtype=np.float32)
    ring = _time(RATE // 2)
    bell = np.sin(2 * np.pi * p["pitch"] * ratios * ring).sum(0) * np.exp(-ring * 8)
    return _scatter(count, strikes, np.tile(bell, (len(strikes), 1)))


def _blender(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A fast motor under changing load: harmonics whose pitch staggers, and a rough noise."""
    load = wander(count, p["stagger"], rng)
    pitch = p["pitch"] * np.exp2(p["depth"] * load)
    motor = tone(pitch, falling(24, 0.5)) * (1.0 + 0.5 * load)
    return motor + p["noise"] * white(count, rng) * (1.0 - 0.9 * load)


def _cat(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A meow: a clear voice that glides up and down once while the mouth opens and closes."""
    x = np.linspace(0.0, 1.0, count, dtype=np.float32)
    arc = np.sin(np.pi * x ** np.float32(p["skew"]))
    pitch = p["pitch"] * np.exp2(p["glide"] * arc)
    voice = tone(pitch, falling(14, 0.7)) * (0.15 + arc) + 0.03 * white(count, rng)
    mouth = np.array([[0.6], [1.0], [1.2], [0.9], [0.6]]) * p["mouth"]
    return resonate(voice, mouth, 0.4, 0.08)


def _dishes(p: Params, count: int, rng: Generator) -> np.ndarray:
    """Clinks of plates: a few hard strikes, each a chord of high inharmonic lines that die away."""
    strikes = max(2, round(count / RATE * p["rate"]))
    starts = np.sort(rng.uniform(0.0, 0.85, strikes) * count).astype(int)
    starts[0] = 0
    modes = p["pitch"] * np.cumprod(rng.uniform(1.1, 1.5, 7)).astype(np.float32)
    modes = modes[modes < 0.48 * RATE]
    ring = _time(RATE // 3)
    rung = np.sin(2 * np.pi * modes[:, None] * ring) * np.exp(-ring * p["decay"])
    clinks = rng.uniform(0.0, 1.0, (strikes, len(modes))).astype(np.float32) @ rung
    clinks[:, :48] += 1.5 * rng.standard_normal((strikes, 48), dtype=np.float32)
    return _scatter(count, starts, clinks)


def _dog(p: Params, count: int, rng: Generator) -> np.ndarray:
    """Barks: hoarse bursts of a fifth of a second with a pitch that drops at once."""
    length = min(count, round(p["bark"] * RATE))
    barks = max(1, round((count / RATE - p["bark"]) * p["rate"]) + 1)
    x = np.linspace(0.0, 1.0, length, dtype=np.float32)
    pitch = p["pitch"] * np.exp2(0.9 * np.sin(np.pi * np.sqrt(x)) - 0.3 * x)
    body = tone(pitch, falling(16, 0.3)) + p["hoarse"] * white(length, rng)
    bark = resonate(body, np.array([[1.3], [1.0], [0.7]]) * p["mouth"], 0.5, 0.1)
    bark *= np.minimum(1.0, 12 * x) * np.exp(-2.5 * x)
    starts = np.linspace(0, count - length, barks).astype(int)
    return _scatter(count, starts, bark * rng.uniform(0.6, 1.0, (barks, 1)).astype(np.float32))


def _frying(p: Params, count: int, rng: Generator) -> np.ndarray:
    """Hot fat: a thin hiss full of separate crackles, each a few ms long in a band of its own."""
    pops = round(count / RATE * p["rate"])
    t = _time(256)
    centre = np.exp2(rng.uniform(np.log2(700), np.log2(7500), (pops, 1))).astype(np.float32)
    decay = np.exp(-t / rng.uniform(0.001, 0.004, (pops, 1)).astype(np.float32))
    loud = rng.lognormal(0.0, 0.8, (pops, 1)).astype(np.float32)
    crackle = _scatter(
        count, rng.integers(0, count, pops), loud * decay * np.sin(6.2832 * centre * t)
    )
    return crackle + p["hiss"] * np.diff(white(count + 1, rng))


def _running_water(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A tap: smooth noise with a slowly wandering hollow band, and bubbles that chirp upwards."""
    points = 2 + math.ceil(count / RATE * 2)
    hollow = p["hollow"] * np.exp2(rng.uniform(-0.5, 0.5, (points, 1)))
    flow = resonate(white(count, rng), np.hstack([hollow, 2.6 * hollow]), 0.15, 0.15)
    bubbles = round(count / RATE * p["rate"])
    t = _time(1024)
    pitch = np.exp2(rng.uniform(np.log2(500), np.log2(2500), (bubbles, 1))).astype(np.float32)
    chirp = np.sin(6.2832 * pitch * (t + 6.0 * t * t)) * np.sin(np.pi * t * RATE / 1024)
    return flow + p["bubble"] * _scatter(count, rng.integers(0, count, bubbles), chirp)


def _shaver(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A small buzzing motor that strokes to and fro: a dense comb that swells in a steady beat."""
    stroke = np.sin(2 * np.pi * (p["stroke"] * _time(count) + 0.2 * wander(count, 1.0, rng)))
    pitch = p["pitch"] * (1.0 + 0.02 * stroke)
    buzz = tone(pitch, falling(40, 0.3)) + p["noise"] * white(count, rng)
    stroked: np.ndarray = buzz * decibels(p["swell"] * stroke)
    return stroked


def _speech(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A voice in syllables: a comb of harmonics with formants that move, hisses in between."""
    t = _time(count)
    syllables = max(1, round(count / RATE * p["rate"]))
    pitch = p["pitch"] * np.exp2(0.25 * wander(count, 3.0, rng))
    opening = np.square(np.sin(np.pi * syllables * t / t[-1]))
    vowels = rng.uniform([300, 900, 2400], [800, 2200, 3200], (2 * syllables + 1, 3)) * p["tract"]
    voice = resonate(tone(pitch, falling(50, 0.8)), vowels, 0.12, 0.02)
    hiss = np.diff(white(count + 1, rng)) * (wander(count, 2 * p["rate"], rng) > 0.1)
    speech: np.ndarray = voice * opening / rms(voice) + 0.7 * hiss * (1.0 - opening)
    return speech


def _vacuum(p: Params, count: int, rng: Generator) -> np.ndarray:
    """A large motor that runs up, stays and runs down: level noise with a few unmoving lines."""
    t = _time(count)
    run = 1.0 - np.exp(-t / 0.15) * 0.5 - np.exp(-t[::-1] / 0.15) * 0.5
    whine = tone(p["pitch"] * run, falling(24, p["slope"]))
    return (whine + p["noise"] * white(count, rng)) * run


SHORT, LONG = (0.5, 1.4), (1.2, 2.8)
SOUNDS: dict[str, Sound] = {
    "Alarm_bell_ringing": Sound(
        _alarm,
        (0.8, 2.2),
        {"pitch": (700, 2500), "rate": (3, 7), "duty": (0.4, 0.7), "step": (1.15, 1.5)},
    ),
    "Blender": Sound(
        _blender,
        LONG,
        {"pitch": (120, 320), "stagger": (5, 9), "depth": (0.4, 0.8), "noise": (0.5, 1.5)},
    ),
    "Cat": Sound(
        _cat,
        SHORT,
        {"pitch": (350, 700), "glide": (0.3, 0.8), "skew": (0.6, 1.4), "mouth": (900, 1800)},
    ),
    "Dishes": Sound(_dishes, (0.8, 2.0), {"pitch": (900, 2500), "rate": (3, 6), "decay": (10, 30)}),
    "Dog": Sound(
        _dog,
        (0.8, 2.2),
        {
            "pitch": (180, 600),
            "bark": (0.12, 0.24),
            "rate": (2.5, 4.5),
            "hoarse": (0.5, 2.0),
            "mouth": (600, 1600),
        },
    ),
    "Electric_shaver_toothbrush": Sound(
        _shaver,
        LONG,
        {"pitch": (90, 240), "stroke": (4.5, 8), "swell": (3, 6), "noise": (0.3, 1.5)},
    ),
    "Frying": Sound(_frying, LONG, {"rate": (25, 70), "hiss": (0.02, 0.06)}),
    "Running_water": Sound(
        _running_water,
        LONG,
        {"hollow": (400, 1400), "rate": (8, 25), "bubble": (0.3, 1.0)},
    ),
    "Speech": Sound(
        _speech, (1.0, 2.5), {"pitch": (100, 260), "rate": (2.5, 4.5), "tract": (0.9, 1.2)}
    ),
    "Vacuum_cleaner": Sound(
        _vacuum,
        LONG,
        {"pitch": (120, 400), "slope": (0.3, 1.0), "noise": (0.5, 2.0)},
    ),
}
CLASSES = tuple(SOUNDS)
