"""Where on the median plane a source is: four estimators over templates of one set of HRTFs.

Source: Hammond and Jackson, DCASE 2018 workshop. What the paper leaves open is settled in
docs/papers/binaural_localization.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter1d
from scipy.signal import correlate, find_peaks, peak_prominences

from systems.errors import UserError
from systems.kinds.direction import wrapped
from systems.registry import register
from systems.template_system import Arrays, TemplateSystem

PAPER = "binaural_localization"
BIBTEX = """
@inproceedings{hammond2018robust,
  author    = {Hammond, Benjamin R. and Jackson, Philip J. B.},
  title     = {Robust Median-Plane Binaural Sound Source Localization},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
DECIBELS = 20 / np.log(10)
FLOOR = 1e-8  # of the largest magnitude
QUIET = 40.0  # dB below the loudest frame, where frames are not heard
VOICED, VOICE_HZ, VOICE_SECONDS = 0.4, (60.0, 400.0), 0.04
FEW = 5  # voiced frames, below which all that are loud enough are taken
UNHEARD = 80.0  # dB below the loudest frequency, where speech is held to have nothing
APART = 1 / 3  # octaves, beyond which extrema have nothing to do with each other
EPSILON = 1e-12


@dataclass(frozen=True)
class Stft:
    """Hann windows of ``window`` samples every ``hop``."""

    rate: int = 48_000
    window: int = 512
    hop: int = 128

    def frames(self, x: np.ndarray, window: int = 0) -> np.ndarray:
        """Sound [..., S] in frames [..., T, window]; a longer window has the same centres."""
        size, frames = window or self.window, max(1, 1 + (x.shape[-1] - self.window) // self.hop)
        before = (size - self.window) // 2
        after = max(0, (frames - 1) * self.hop + size - before - x.shape[-1])
        padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])
        view = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)
        return view[..., : (frames - 1) * self.hop + 1 : self.hop, :]

    def of(self, x: np.ndarray) -> np.ndarray:
        """The spectra [..., T, F] of sound [..., S]."""
        return np.fft.rfft(self.frames(x) * np.hanning(self.window + 1)[:-1], axis=-1)

    def responses(self, templates: np.ndarray) -> np.ndarray:
        """The spectra [K, 2, F] of responses [K, 2, N], filled with zeros or cut to a window."""
        return np.fft.rfft(templates, self.window, axis=-1)

    def inside(self, low: float, high: float) -> np.ndarray:
        """The bins [F] between two frequencies in kHz."""
        kilohertz = np.fft.rfftfreq(self.window, 1 / self.rate) / 1000
        return (kilohertz >= low) & (kilohertz <= high)

    def loud(self, x: np.ndarray) -> np.ndarray:
        """The frames [T] of sound [2, S] that are not far below the loudest."""
        power = np.square(self.frames(x)).mean(axis=-1).sum(axis=0)
        return power >= power.max() * 10 ** (-QUIET / 10)

    def voiced(self, x: np.ndarray) -> np.ndarray:
        """The frames [T] of sound [..., S] that repeat themselves at the pitch of a voice."""
        mono = x.reshape(-1, x.shape[-1]).mean(axis=0)
        size = round(VOICE_SECONDS * self.rate)
        frames = self.frames(mono, size)
        power = np.square(np.abs(np.fft.rfft(frames - frames.mean(-1, keepdims=True), 2 * size)))
        correlation = np.fft.irfft(power, axis=-1)[:, :size]
        correlation /= (1 - np.arange(size) / size) * (correlation[:, :1] + EPSILON)
        high, low = (round(self.rate / hertz) for hertz in VOICE_HZ)
        return correlation[:, low : high + 1].max(axis=1) > VOICED


def log_magnitude(spectra: np.ndarray) -> np.ndarray:
    magnitude = np.abs(spectra)
    return np.log(np.maximum(magnitude, FLOOR * magnitude.max() + 1e-300))


def correlations(rows: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Correlation coefficients [K] of rows [K, N] with a vector [N]."""
    a, b = rows - rows.mean(axis=1, keepdims=True), one - one.mean()
    return (a @ b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b) + EPSILON)


@dataclass(frozen=True)
class SpeechPrefilter:
    """Removes the mean cepstrum of speech from that of each ear: what is left is the response's.

    ``order``: cepstral coefficients that are kept; ``band``: in kHz.
    """

    stft: Stft = Stft()
    order: int = 64
    low: float = 3.5
    high: float = 18.0
    spectrum: Literal["log", "magnitude"] = "log"
    same_order: bool = True  # the templates' cepstra are cut alike

    learns = True

    def fit(
        self, templates: np.ndarray, degrees: np.ndarray, speech: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        dry = [self._frames(one[None])[0] for one in speech]
        reach = self._reach([frames.mean(axis=0) for frames in dry])
        cepstra = np.concatenate([self._cepstra(frames, reach) for frames in dry])
        responses = log_magnitude(self.stft.responses(templates))
        if self.same_order:
            responses = self._spectrum(self._cepstra(responses, reach))
        return {
            "prefilter": -cepstra.mean(axis=0),
            "templates": self._compared(responses, reach),
            "reach": np.array([reach]),
        }

    def scores(self, kept: Arrays, heard: np.ndarray) -> np.ndarray:
        reach = kept["reach"].item()
        mean = self._cepstra(self._frames(heard), reach).mean(axis=1)
        found = self._compared(self._spectrum(mean + kept["prefilter"])[None], reach)
        return (1 + correlations(kept["templates"], found[0])) / 2

    def _frames(self, x: np.ndarray) -> np.ndarray:
        """Log magnitudes [E, T, F] of the frames of sound [E, S] that count."""
        loud = self.stft.loud(x)
        voiced = loud & self.stft.voiced(x)
        return log_magnitude(self.stft.of(x)[:, voiced if voiced.sum() >= FEW else loud])

    def _reach(self, spectra: Sequence[np.ndarray]) -> int:
        """Up to which bin speech has anything at all, of the mean spectrum [F] of each sound.

        Raises:
            UserError: not as far as the band begins.
        """
        levels = np.stack([DECIBELS * (one - one.max()) for one in spectra])
        silent = np.quantile(levels, 0.1, axis=0) < -UNHEARD
        silent[: np.flatnonzero(self.stft.inside(self.low, self.high))[0]] = False
        reach = int(silent.argmax()) if silent.any() else len(silent)
        if not self.stft.inside(self.low, self.high)[:reach].sum() > FEW:
            raise UserError(f"the dry speech to learn from has nothing above {self.low:g} kHz.")
        return reach

    def _cepstra(self, spectra: np.ndarray, reach: int) -> np.ndarray:
        """Truncated cepstra [..., N] of log magnitudes [..., F], which go on as they are at
        ``reach``: a cliff there would ring in all that is kept. The mirror image of what is kept
        is kept too, so that the spectrum stays real."""
        held = np.minimum(np.arange(spectra.shape[-1]), reach - 1)
        cepstra = np.fft.irfft(spectra[..., held], axis=-1)
        quefrency = np.arange(cepstra.shape[-1])
        return cepstra * (np.minimum(quefrency, len(quefrency) - quefrency) < self.order)

    def _spectrum(self, cepstra: np.ndarray) -> np.ndarray:
        return np.fft.rfft(cepstra, axis=-1).real

    def _compared(self, spectra: np.ndarray, reach: int) -> np.ndarray:
        """Both ears' spectra [K, 2, F] within the band, one after the other."""
        inside = spectra[..., :reach][..., self.stft.inside(self.low, self.high)[:reach]]
        if self.spectrum == "magnitude":
            inside = np.exp(inside)
        return inside.reshape(len(inside), -1)


@dataclass(frozen=True)
class PeakNotch:
    """Matches frequencies of peaks and notches in each frame; a density over frames decides.

    ``smoothing``: deviation of the Gaussian along frequency, in bins; ``prominence``: the least of
    an extremum, in dB; ``bandwidth``: of the density's kernel, in degrees; 0: the majority.
    """

    stft: Stft = Stft()
    low: float = 4.0
    high: float = 18.0
    smoothing: float = 8.0
    prominence: float = 1.0
    bandwidth: float = 10.0

    learns = False

    def fit(
        self, templates: np.ndarray, degrees: np.ndarray, speech: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {"extrema": self._extrema(self.stft.responses(templates)), "degrees": degrees}

    def scores(self, kept: Arrays, heard: np.ndarray) -> np.ndarray:
        spectra = self.stft.of(heard)[:, self.stft.loud(heard)].swapaxes(0, 1)
        mine, theirs = self._extrema(spectra), kept["extrema"]
        cost = np.zeros((len(mine), len(theirs)))
        for ear, of_kind in np.ndindex(mine.shape[1:3]):
            a, b = mine[:, ear, of_kind], theirs[:, ear, of_kind]
            cost += _mean_over(a, self._nearest(b)) + _mean_over(b, self._nearest(a)).T
        votes = np.bincount(cost.argmin(axis=1), minlength=len(theirs)) / len(mine)
        if not self.bandwidth:
            return votes
        apart = wrapped(kept["degrees"][:, None] - kept["degrees"][None])
        return np.minimum(np.exp(-np.square(apart / self.bandwidth) / 2) @ votes, 1)

    def _extrema(self, spectra: np.ndarray) -> np.ndarray:
        """Which bins of the band are peaks, and which notches, of spectra [M, 2, F]: bool
        [M, 2, 2, bins]."""
        smooth = gaussian_filter1d(
            DECIBELS * log_magnitude(spectra), self.smoothing, axis=-1, mode="nearest"
        )[..., self.stft.inside(self.low, self.high)]
        rows = np.stack([smooth, -smooth], axis=2)
        walls = np.full((*rows.shape[:3], 1), np.inf)  # all rows are one, which no peak sees over
        line = np.concatenate([rows, walls], axis=3).ravel()
        peaks = find_peaks(line)[0]
        peaks = peaks[np.isfinite(line[peaks])]
        found = np.zeros(line.shape, bool)
        found[peaks[peak_prominences(line, peaks)[0] >= self.prominence]] = True
        return found.reshape(*rows.shape[:3], -1)[..., :-1]

    def _nearest(self, extrema: np.ndarray) -> np.ndarray:
        """Octaves from every bin to the nearest extremum [M, bins], at most ``APART``."""
        bins = np.flatnonzero(self.stft.inside(self.low, self.high))
        octaves = np.log2(bins)
        below = np.maximum.accumulate(np.where(extrema, octaves, -np.inf), axis=1)
        above = np.minimum.accumulate(np.where(extrema, octaves, np.inf)[:, ::-1], axis=1)[:, ::-1]
        return np.minimum(np.minimum(octaves - below, above - octaves), APART)


def _mean_over(extrema: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean distance [A, B] over the extrema [A, bins]; without one the largest there is."""
    count = extrema.sum(axis=1, keepdims=True)
    mean = (extrema.astype(float) @ distances.T) / np.maximum(count, 1)
    return np.where(count > 0, mean, APART)


@dataclass(frozen=True)
class CrossConvolution:
    """Filters each ear with the other ear's response: of the true direction both become equal.

    ``lag``: ms by which they may be shifted against each other.
    """

    stft: Stft = Stft()
    lag: float = 0.0

    learns = False

    def fit(
        self, templates: np.ndarray, degrees: np.ndarray, speech: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        pairs = {"cross": (1, 0), "left": (1, 1), "right": (0, 0)}
        return {
            name: np.stack([correlate(pair[a], pair[b], method="fft") for pair in templates])
            for name, (a, b) in pairs.items()
        }

    def scores(self, kept: Arrays, heard: np.ndarray) -> np.ndarray:
        """The filtered signals' products follow from correlations over the responses' length:
        sum (x_l * h_r)(x_r * h_l) = sum over lags of corr(x_l, x_r) corr(h_r, h_l)."""
        count = kept["cross"].shape[1]
        (left, right), reach = heard, count // 2
        shift = round(self.lag / 1000 * self.stft.rate)
        windows = np.lib.stride_tricks.sliding_window_view(
            _lagged(left, right, reach + shift), count
        )
        cross = (kept["cross"] @ windows.T).max(axis=1)
        energy = (kept["left"] @ _lagged(left, left, reach)) * (
            kept["right"] @ _lagged(right, right, reach)
        )
        return (1 + np.clip(cross / (np.sqrt(np.maximum(energy, 0)) + EPSILON), -1, 1)) / 2


def _lagged(one: np.ndarray, other: np.ndarray, lags: int) -> np.ndarray:
    """sum_n one(n) other(n + m) for m from -lags to lags."""
    size = next_fast_len(len(one) + lags, real=True)
    product = np.conj(np.fft.rfft(one, size)) * np.fft.rfft(other, size)
    return np.roll(np.fft.irfft(product, size), lags)[: 2 * lags + 1]


@dataclass(frozen=True)
class Music:
    """The signal's direction in the plane of both ears, bin by bin, against that of each template.

    ``weighted``: bins count by how much of their power lies in that direction.
    """

    stft: Stft = Stft()
    low: float = 0.5
    high: float = 18.0
    weighted: bool = False

    learns = False

    def fit(
        self, templates: np.ndarray, degrees: np.ndarray, speech: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        spectra = self.stft.responses(templates)[..., self.stft.inside(self.low, self.high)]
        steering = spectra / (np.linalg.norm(spectra, axis=1, keepdims=True) + EPSILON)
        return {"steering": steering.astype(np.complex64)}

    def scores(self, kept: Arrays, heard: np.ndarray) -> np.ndarray:
        spectra = self.stft.of(heard)[..., self.stft.inside(self.low, self.high)]  # [2, T, F]
        covariance = np.einsum("atf,btf->fab", spectra, spectra.conj())
        powers, vectors = np.linalg.eigh(covariance)
        along = np.abs(np.einsum("kaf,fa->kf", kept["steering"].conj(), vectors[..., -1])) ** 2
        weights = np.ones(len(powers))
        if self.weighted:
            weights = (powers[:, 1] - powers[:, 0]) / (powers.sum(axis=1) + EPSILON)
        return np.clip(along @ weights / weights.sum(), 0, 1)


COMMON: dict[str, Any] = {
    "task": "binaural_localization", "dataset": "binaural_sofa", "labels": ("direction",),
    "gives": ("ranking",),
}  # fmt: skip


@register(f"{PAPER}/speech_prefilter", config=SpeechPrefilter(), **COMMON)
def speech_prefilter(config: SpeechPrefilter) -> TemplateSystem:
    """Cepstra of both ears without that of speech, correlated with the templates' spectra."""
    return TemplateSystem(rate=config.stft.rate, matcher=config)


@register(f"{PAPER}/peak_notch_frequency", config=PeakNotch(), **COMMON)
def peak_notch_frequency(config: PeakNotch) -> TemplateSystem:
    """Frequencies of spectral peaks and notches, frame by frame."""
    return TemplateSystem(rate=config.stft.rate, matcher=config)


@register(f"{PAPER}/cross_convolution", config=CrossConvolution(), **COMMON)
def cross_convolution(config: CrossConvolution) -> TemplateSystem:
    """Each ear filtered with the other ear's response."""
    return TemplateSystem(rate=config.stft.rate, matcher=config)


@register(f"{PAPER}/music_subspace", config=Music(), **COMMON)
def music_subspace(config: Music) -> TemplateSystem:
    """The signal subspace of both ears in every bin."""
    return TemplateSystem(rate=config.stft.rate, matcher=config)
