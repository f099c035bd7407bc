"""Some 2,800 attributes of a clip in 13 subsets, from the ears to histograms of contours.

One vector a clip, made once and stored. Subsets are those of feature_analysis_ensemble; which
attributes they hold is settled in its card.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.signal import find_peaks
from scipy.stats import kurtosis, skew
from torch import Tensor, nn

SUBSETS = tuple(f"F{n}" for n in range(1, 14))
STATISTICS = ("mean", "std", "min", "max", "skewness", "kurtosis")
HOP_SECONDS = 0.01  # of the cochleagram and of contours
COCHLEA_HZ, MEL_HZ = (50.0, 8000.0), 12_000.0
DELAY_SECONDS, EAR_METRES, SOUND_SPEED = 0.001, 0.18, 343.0
EAR_FRAME = 0.04  # s in which the ears are compared
PITCH_HZ = (60.0, 2000.0)
DOMINANT = 10  # channels
RANGES = 8  # equal ranges of a representation
TOGETHER = 3  # frames (30 ms) in which onsets are synchronous
SEGMENT_SECONDS, CEPSTRA = 2.0, 13  # of the Bayesian information criterion
BINS = 16
TINY = 1e-10
Named = Iterator[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Descriptors:
    """``rate`` in Hz; ``channels`` of the cochleagram and bands of the mel spectrogram; ``window``
    and ``hop`` of spectrograms in samples; ``components`` of factorisations; ``groups`` of
    channels in which the ears are compared."""

    rate: int = 48_000
    channels: int = 128
    window: int = 2048
    hop: int = 1024
    components: int = 8
    groups: int = 16

    stored = True

    def __post_init__(self) -> None:
        if self.rate < 4000 or min(self.window, self.hop, self.components) < 2:
            raise ValueError("rate: 4000 Hz or more; window, hop and components: 2 or more")
        if self.channels < max(RANGES, DOMINANT, self.groups) or self.groups < 1:
            raise ValueError(f"channels: {DOMINANT} or more, and no fewer than groups")

    @property
    def hop_seconds(self) -> float:
        return self.hop / self.rate

    @property
    def frame_start(self) -> float:
        return 0.0

    def shape(self, samples: int) -> tuple[int, int, int]:
        """(1, F, 1): a vector a clip."""
        return 1, len(names(self)), 1

    def build(self) -> nn.Module:
        return _Descriptors(self)


class _Descriptors(nn.Module):
    """Waveforms [B, S] or [B, 2, S] -> [B, 1, F, 1], on the CPU whatever the device."""

    def __init__(self, config: Descriptors) -> None:
        super().__init__()
        self.config = config

    def forward(self, waveforms: Tensor) -> Tensor:
        rows = [
            np.concatenate([values for _, values in described(self.config, one.cpu().numpy())])
            for one in waveforms
        ]
        found = torch.from_numpy(np.stack(rows).astype(np.float32))
        return found[:, None, :, None].to(waveforms.device)


@lru_cache(maxsize=8)
def names(config: Descriptors) -> tuple[str, ...]:
    """What each attribute is called, ``F8.mel.mean.3`` say, in order."""
    sound = np.random.default_rng(0).standard_normal((2, config.rate))
    return tuple(
        f"{name}.{k}" for name, values in described(config, sound) for k in range(len(values))
    )


def of_subsets(config: Descriptors, subsets: tuple[str, ...]) -> np.ndarray:
    """The places [n] of the attributes of some subsets, or of parts of one (``F8.mel``)."""
    wanted = tuple(f"{name}." for name in subsets)
    return np.array([k for k, name in enumerate(names(config)) if name.startswith(wanted)], int)


def described(config: Descriptors, sound: np.ndarray) -> Named:
    """Names and values of all attributes of sound [S] or [2, S]; what has no value is 0."""
    both = np.atleast_2d(sound).astype(float)
    both = both if len(both) == 2 else np.repeat(both, 2, axis=0)
    least = round(0.25 * config.rate)  # frames of everything
    if both.shape[1] < least:
        both = np.pad(both, ((0, 0), (0, least - both.shape[1])))
    for name, values in _described(config, both):
        yield name, np.nan_to_num(np.asarray(values, float).ravel(), posinf=0.0, neginf=0.0)


def _described(c: Descriptors, both: np.ndarray) -> Named:
    import librosa

    mono = both.mean(axis=0)
    cochlea = cochleagram(mono, c.rate, c.channels)
    spectrum = np.abs(librosa.stft(mono, n_fft=c.window, hop_length=c.hop))[1:]  # without DC
    top = min(MEL_HZ, c.rate / 2)
    bank = librosa.filters.mel(sr=c.rate, n_fft=c.window, n_mels=c.channels, fmax=top)[:, 1:]
    mel = np.sqrt(np.maximum(bank @ np.square(spectrum), 0))
    hop = round(HOP_SECONDS * c.rate)
    yield from _ears(c, both)
    yield from _pitch(librosa.yin(
        mono, fmin=PITCH_HZ[0], fmax=min(PITCH_HZ[1], c.rate / 4), sr=c.rate, hop_length=hop,
        frame_length=2 * round(c.rate / PITCH_HZ[0]) + 2,
    ))  # fmt: skip
    yield from _onsets(cochlea)
    yield from _binary(cochlea)
    decibels = 20 * np.log10(np.maximum(cochlea, TINY))
    for name, values in statistics(np.diff(decibels, axis=0)):
        yield f"F5.{name}", values
    strongest = np.argsort(-np.square(cochlea).mean(axis=1), kind="stable")[:DOMINANT]
    yield "F6.channel", strongest
    yield "F6.energy", np.log(np.square(cochlea).mean(axis=1)[strongest] + TINY)
    yield "F7.sparsity", hoyer(cochlea)
    for name, map_ in (("cochleagram", cochlea), ("mel", mel), ("spectrogram", spectrum)):
        ranges = np.array_split(np.square(map_), RANGES)
        energies = np.log(np.stack([one.sum(axis=0) for one in ranges]) + TINY)
        for statistic, values in statistics(energies):
            yield f"F8.{name}.{statistic}", values
    yield from _activations("F9", spectrum, c.components)
    yield from _activations("F10", mel, c.components)
    yield from _changes(librosa, mono, c.rate)
    yield from _envelope(mono, hop)
    yield from _histograms(librosa, mono, c.rate, hop)


def statistics(rows: np.ndarray) -> Named:
    """Six statistics [R] of rows [R, T]."""
    with np.errstate(all="ignore"):
        found = (rows.mean(1), rows.std(1), rows.min(1), rows.max(1), skew(rows, axis=1),
                 kurtosis(rows, axis=1))  # fmt: skip
    yield from zip(STATISTICS, found, strict=True)


def hoyer(rows: np.ndarray) -> np.ndarray:
    """Hoyer's sparsity [R] of rows [R, T]: 0 of a constant, 1 of a single value."""
    root = np.sqrt(rows.shape[1])
    norm = np.sqrt(np.square(rows).sum(axis=1)) + TINY
    return (root - np.abs(rows).sum(axis=1) / norm) / max(root - 1, TINY)


def centres(channels: int, rate: int) -> np.ndarray:
    """Centre frequencies [channels] in Hz, evenly spaced in ERB numbers."""
    ends = 21.4 * np.log10(1 + 0.00437 * np.array([COCHLEA_HZ[0], min(COCHLEA_HZ[1], 0.45 * rate)]))
    return (10 ** (np.linspace(ends[0], ends[1], channels) / 21.4) - 1) / 0.00437


def cochleagram(mono: np.ndarray, rate: int, channels: int) -> np.ndarray:
    """Envelopes [channels, T] of gammatone filters of order 4 every 10 ms.

    The filters are applied to the positive frequencies alone, so that the magnitude is the
    envelope; scipy's have no such form.
    """
    size = next_fast_len(len(mono))
    f = np.arange(size // 2 + 1) * rate / size
    spectrum = np.fft.rfft(mono, size)
    hop = round(HOP_SECONDS * rate)
    frames = max(1, len(mono) // hop)
    found = np.empty((channels, frames))
    for row, centre in enumerate(centres(channels, rate)):
        width = 1.019 * 24.7 * (1 + 0.00437 * centre)
        near = np.flatnonzero(np.abs(f - centre) < 12 * width)  # 86 dB below the centre beyond
        gain = (1 + 1j * (f[near] - centre) / width) ** -4.0
        # As far as the channel reaches, moved to 0 Hz: its envelope at a rate of its own.
        short = next_fast_len(max(len(near), 2 * frames))
        base = np.zeros(short, complex)
        base[: len(near)] = 2 * gain * spectrum[near]
        envelope = np.abs(np.fft.ifft(base)) * short / size
        edges = np.linspace(0, short * frames * hop / size, frames + 1).astype(int)
        edges = np.minimum(edges, short - 1)
        sums = np.add.reduceat(envelope, edges[:-1])
        found[row] = sums / np.maximum(np.diff(edges), 1)
    return found


def _ears(c: Descriptors, both: np.ndarray) -> Named:
    """F1: time and level difference, coherence and azimuth of the ears, by group and of all."""
    size, reach = round(EAR_FRAME * c.rate), round(DELAY_SECONDS * c.rate)
    frames = max(1, both.shape[1] // size)
    x = both[:, : frames * size].reshape(2, frames, -1)
    spectra = np.fft.rfft(x, 2 * x.shape[-1], axis=-1)
    f = np.fft.rfftfreq(2 * x.shape[-1], 1 / c.rate)
    bands = [np.ones_like(f)]
    for centre in centres(c.groups, c.rate):
        width = 1.019 * 24.7 * (1 + 0.00437 * centre)
        bands.append(np.abs(1 + 1j * (f - centre) / width) ** -4.0)
    for place, band in enumerate(bands):
        left, right = spectra * band
        power = np.square(np.abs(left)).sum(-1), np.square(np.abs(right)).sum(-1)
        cross = np.fft.irfft(left * right.conj(), axis=-1)
        near = np.concatenate([cross[:, -reach:], cross[:, : reach + 1]], axis=1)
        energies = [np.fft.irfft(np.square(np.abs(one)), axis=-1)[:, 0] for one in (left, right)]
        delay = (near.argmax(axis=1) - reach) / c.rate
        measures = {
            "delay": delay,
            "level": 10 * np.log10((power[0] + TINY) / (power[1] + TINY)),
            "coherence": near.max(axis=1) / (np.sqrt(energies[0] * energies[1]) + TINY),
            "azimuth": np.arcsin(np.clip(SOUND_SPEED * delay / EAR_METRES, -1, 1)),
        }
        for name, values in measures.items():
            for statistic, value in statistics(values[None]):
                yield f"F1.{'all' if not place else place - 1}.{name}.{statistic}", value


def _pitch(contour: np.ndarray) -> Named:
    """F2: of a contour [T] in Hz; a frame is voiced where the pitch stays within a semitone."""
    octaves = np.log2(np.maximum(contour, 1.0))
    steady = np.abs(np.diff(octaves, prepend=octaves[:1])) < 1 / 12
    for statistic, value in statistics(octaves[None]):
        yield f"F2.{statistic}", value
    runs = _runs(steady[None])
    slope = np.polyfit(np.arange(len(octaves)), octaves, 1)[0] if len(octaves) > 1 else 0.0
    yield "F2.voiced", np.array([steady.mean(), *np.concatenate(runs), slope])


def _runs(map_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many runs of true values rows [R, T] have, and their mean length."""
    starts = (np.diff(map_.astype(int), prepend=0, axis=1) == 1).sum(axis=1)
    return starts.astype(float), map_.sum(axis=1) / np.maximum(starts, 1)


def _onsets(cochlea: np.ndarray) -> Named:
    """F3: rises of the level of each channel by more than its own deviation."""
    level = np.log(cochlea + TINY)
    rise = np.maximum(np.diff(level, axis=1, prepend=level[:, :1]), 0)
    there = rise > rise.mean(axis=1, keepdims=True) + rise.std(axis=1, keepdims=True)
    counts = there.sum(axis=1)
    strength = np.where(there, rise, 0).sum(axis=1) / np.maximum(counts, 1)
    yield "F3.count", counts
    yield "F3.strength", strength
    near = np.apply_along_axis(
        np.convolve, 0, there.sum(axis=0).astype(float), np.ones(TOGETHER), "same"
    )
    yield "F3.all", np.array([counts.mean(), counts.std(), strength.mean(), strength.std(),
                              near.max() / len(cochlea)])  # fmt: skip


def _binary(cochlea: np.ndarray) -> Named:
    """F4: maps of what lies above each channel's mean, and by a deviation more."""
    mean, deviation = cochlea.mean(axis=1, keepdims=True), cochlea.std(axis=1, keepdims=True)
    for name, threshold in (("mean", mean), ("deviation", mean + deviation)):
        map_ = cochlea > threshold
        count, length = _runs(map_)
        yield f"F4.{name}.share", map_.mean(axis=1)
        yield f"F4.{name}.runs", count
        yield f"F4.{name}.length", length


def _activations(subset: str, map_: np.ndarray, components: int) -> Named:
    """F9, F10: rows of the activations of a non-negative factorisation, by energy."""
    from sklearn.decomposition import non_negative_factorization

    few = min(components, *map_.shape)
    scaled = map_.T / (map_.max() + TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged: so many steps are the feature
        activations, parts, _ = non_negative_factorization(
            scaled, n_components=few, init="nndsvda", max_iter=60, tol=1e-3, random_state=0
        )
    rows = (activations * np.linalg.norm(parts, axis=1)).T
    rows = rows[np.argsort(-np.square(rows).sum(axis=1), kind="stable")]
    rows = np.pad(rows, ((0, components - few), (0, 0)))
    yield f"{subset}.mean", rows.mean(axis=1)
    yield f"{subset}.std", rows.std(axis=1)
    yield f"{subset}.max", rows.max(axis=1)
    yield f"{subset}.sparsity", hoyer(rows)
    yield f"{subset}.peaks", np.array([len(find_peaks(row)[0]) for row in rows], float)


def _changes(librosa: object, mono: np.ndarray, rate: int) -> Named:
    """F11: the Bayesian information criterion for a change in the middle of windows of 2 s."""
    hop = round(0.02 * rate)
    cepstra = librosa.feature.mfcc(  # type: ignore[attr-defined]
        y=mono, sr=rate, n_mfcc=CEPSTRA, n_fft=2 * hop, hop_length=hop, n_mels=40
    )
    length = min(round(SEGMENT_SECONDS / 0.02), cepstra.shape[1])
    half, d = length // 2, CEPSTRA
    penalty = (d + d * (d + 1) / 2) / 2 * np.log(max(length, 2))

    def spread(part: np.ndarray) -> float:
        covariance = np.atleast_2d(np.cov(part)) if part.shape[1] > 1 else np.zeros((d, d))
        return part.shape[1] / 2 * float(np.linalg.slogdet(covariance + 1e-3 * np.eye(d))[1])

    starts = range(0, cepstra.shape[1] - length + 1, max(1, length // 20))
    pieces = [cepstra[:, start : start + length] for start in starts]
    curve = np.array([
        spread(one) - spread(one[:, :half]) - spread(one[:, half:]) - penalty for one in pieces
    ])  # fmt: skip
    for statistic, value in statistics(curve[None]):
        yield f"F11.{statistic}", value
    yield "F11.peaks", np.array([(curve[find_peaks(curve)[0]] > 0).sum()])


def _envelope(mono: np.ndarray, hop: int) -> Named:
    """F12: of the level every 10 ms: statistics, rises and falls, modulations up to 20 Hz."""
    frames = max(2, len(mono) // hop)
    padded = np.pad(mono, (0, max(0, frames * hop - len(mono))))[: frames * hop]
    level = np.sqrt(np.square(padded.reshape(frames, hop)).mean(axis=1))
    for statistic, value in statistics(level[None]):
        yield f"F12.{statistic}", value
    steps = np.diff(level)
    yield "F12.slopes", np.array([np.maximum(steps, 0).mean(), np.minimum(steps, 0).mean()])
    power = np.square(np.abs(np.fft.rfft(level - level.mean())))
    hertz = np.fft.rfftfreq(frames, HOP_SECONDS)
    edges = (0.5, 1, 2, 4, 8, 12, 16, 20)
    yield "F12.modulation", np.array([
        np.log(power[(hertz >= a) & (hertz < b)].sum() + TINY)
        for a, b in pairwise(edges)
    ])  # fmt: skip


def _histograms(librosa: object, mono: np.ndarray, rate: int, hop: int) -> Named:
    """F13: histograms of twelve contours every 10 ms, their mean, mode and entropy."""
    size = 4 * hop
    power = np.square(np.abs(librosa.stft(mono, n_fft=size, hop_length=hop)))  # type: ignore[attr-defined]
    share = power / (power.sum(axis=0) + TINY)
    f = np.fft.rfftfreq(size, 1 / rate)[:, None]
    centroid = (f * share).sum(axis=0)
    spread = np.sqrt((np.square(f - centroid) * share).sum(axis=0))
    energy = np.log(power.sum(axis=0) + TINY)
    padded = np.pad(mono, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: power.shape[1]]
    contours = {
        "centroid": centroid,
        "spread": spread,
        "rolloff": (np.cumsum(share, axis=0) < 0.85).sum(axis=0) * f[1, 0],
        "flux": np.linalg.norm(np.diff(share, axis=1, prepend=share[:, :1]), axis=0),
        "flatness": np.exp(np.log(power + TINY).mean(0)) / (power.mean(0) + TINY),
        "crossings": (np.diff(np.signbit(frames), axis=1) != 0).mean(axis=1),
        "energy": energy,
        "entropy": -(share * np.log(share + TINY)).sum(axis=0),
        "change": np.diff(energy, prepend=energy[:1]),
        "slope": ((f - f.mean()) * np.log(power + TINY)).mean(axis=0) / f.var(),
        "crest": power.max(axis=0) / (power.mean(axis=0) + TINY),
        "high": share[f[:, 0] > rate / 8].sum(axis=0),
    }  # fmt: skip
    for name, contour in contours.items():
        low, high = np.percentile(contour, [1, 99])
        inside = np.clip((contour - low) / max(high - low, TINY), 0, 1)
        histogram = np.bincount(np.minimum((inside * BINS).astype(int), BINS - 1), minlength=BINS)
        parts = histogram / len(contour)
        told = (contour.mean(), float(parts.argmax()), -(parts * np.log(parts + TINY)).sum())
        yield f"F13.{name}", np.concatenate([parts, told])
