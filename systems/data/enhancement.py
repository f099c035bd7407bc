"""Speech enhancement: IMCRA follows the noise, and a log-spectral amplitude gain takes it away.

Sources: Cohen 2003 (IMCRA: IEEE Trans. Speech and Audio Processing 11, 466-475); Ephraim and Malah
1985 (the gain: IEEE Trans. ASSP 33, 443-445), with their decision-directed a-priori SNR.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

TINY = 1e-12


@dataclass(frozen=True)
class Imcra:
    """Minima controlled recursive averaging of a noise spectrum, frame by frame.

    ``smoothing`` (alpha_s) and ``noise_smoothing`` (alpha_d) of spectra over time; minima over
    ``windows`` (U) of ``frames`` (V) frames each; ``bias`` of minima (B_min) and of the estimate
    (``beta``); thresholds ``gamma_0``, ``gamma_1`` and ``zeta_0`` of what is no speech.
    """

    smoothing: float = 0.9
    noise_smoothing: float = 0.85
    beta: float = 1.47
    bias: float = 1.66
    gamma_0: float = 4.6
    gamma_1: float = 3.0
    zeta_0: float = 1.67
    windows: int = 8
    frames: int = 15

    def __post_init__(self) -> None:
        if min(self.windows, self.frames) < 1 or self.gamma_1 <= 1:
            raise ValueError("windows and frames are at least 1, gamma_1 lies above 1")
        if not (0 <= self.smoothing < 1 and 0 <= self.noise_smoothing < 1):
            raise ValueError("smoothing factors lie in [0, 1)")


@dataclass(frozen=True)
class Enhanced:
    """Sound under the gain of a log-spectral amplitude, which is ``floor`` dB at least.

    Frames of ``window`` s under a Hann window, ``overlap`` of it from frame to frame; ``a_priori``:
    the weight of the frame before in the a-priori SNR (alpha).
    """

    imcra: Imcra = field(default_factory=Imcra)
    window: float = 0.032
    overlap: float = 0.75
    a_priori: float = 0.92
    floor: float = -25.0

    def __post_init__(self) -> None:
        if self.window <= 0 or not 0.5 <= self.overlap < 1 or self.floor > 0:
            raise ValueError("window lies above 0, overlap in [0.5, 1), floor at or below 0 dB")

    def __call__(self, waveform: np.ndarray, rate: int, clip_id: str) -> np.ndarray:
        size = round(self.window * rate)
        hop = max(1, round((1 - self.overlap) * size))
        spectra = stft(waveform, size, hop)
        power = np.square(np.abs(spectra))
        return istft(spectra * gains(power, self), size, hop, len(waveform))


def stft(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Spectra [L, K] under a periodic Hann window; zeros around, so that every sample is in as many
    frames."""
    window = np.hanning(size + 1)[:-1]
    count = -(-(len(waveform) + size) // hop)
    padded = np.zeros(size + count * hop + size)
    padded[size : size + len(waveform)] = waveform
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: count + size // hop]
    return np.fft.rfft(frames * window, axis=1)


def istft(spectra: np.ndarray, size: int, hop: int, length: int) -> np.ndarray:
    """The sound [S] whose spectra are nearest: overlap and add, over the windows' squares."""
    window = np.hanning(size + 1)[:-1]
    total = np.zeros(len(spectra) * hop + 2 * size)
    weight = np.zeros_like(total)
    for place, frame in enumerate(np.fft.irfft(spectra, size, axis=1) * window):
        at = slice(place * hop, place * hop + size)
        total[at] += frame
        weight[at] += np.square(window)
    inside = slice(size, size + length)
    return (total[inside] / np.maximum(weight[inside], TINY)).astype(np.float32)


def lsa_gain(a_priori: np.ndarray, a_posteriori: np.ndarray) -> np.ndarray:
    """``xi / (1 + xi) * exp(E1(v) / 2)`` with ``v = gamma xi / (1 + xi)``: the amplitude of least
    mean squared error of its logarithm (Ephraim and Malah 1985)."""
    from scipy.special import exp1

    share = a_priori / (1 + a_priori)
    gain: np.ndarray = share * np.exp(0.5 * exp1(np.maximum(share * a_posteriori, TINY)))
    return gain


def gains(power: np.ndarray, settings: Enhanced) -> np.ndarray:
    """The gain [L, K] of each bin of power spectra [L, K]."""
    floor = 10 ** (settings.floor / 20)
    tracker = Tracker(settings.imcra, power[: max(1, settings.imcra.frames)])
    before = np.ones(power.shape[1])  # G^2 gamma of the frame before
    out = np.empty_like(power)
    for place, frame in enumerate(power):
        noise = np.maximum(tracker.noise, TINY)
        gamma = np.minimum(frame / noise, 1e5)
        xi = settings.a_priori * before + (1 - settings.a_priori) * np.maximum(gamma - 1, 0)
        xi = np.maximum(xi, floor**2)
        gain = np.minimum(lsa_gain(xi, gamma), 1.0)
        before = np.square(gain) * gamma
        out[place] = np.maximum(gain, floor)
        tracker.hear(frame, gamma, xi)
    return out


class Tracker:
    """The noise's power spectrum ``noise`` [K], which each frame that is heard brings up to date.

    It begins with the mean of the ``first`` frames.
    """

    def __init__(self, settings: Imcra, first: np.ndarray) -> None:
        self.settings = settings
        start = _around(first.mean(axis=0))
        self.noise = first.mean(axis=0)
        self._average = self.noise / settings.beta  # before the estimate's bias is made up for
        self._all = _Minimum(settings, start)  # S and S_min, of all bins
        self._free = _Minimum(settings, start)  # and of those without speech

    def hear(self, power: np.ndarray, gamma: np.ndarray, xi: np.ndarray) -> None:
        """Take a frame [K] in, with its a-posteriori and a-priori SNR."""
        s = self.settings
        smooth, least = self._all.hear(_around(power))
        # The second pass smooths what holds no speech alone; where none of three bins is free it
        # keeps what it had.
        free = (power < s.gamma_0 * s.bias * least) & (smooth < s.zeta_0 * s.bias * least)
        there = _around(free.astype(float))
        around = np.divide(
            _around(power * free), there, out=self._free.smooth.copy(), where=there > 0
        )
        smooth, least = self._free.hear(around)
        presence = self.presence(power, smooth, least, gamma, xi)
        rate = s.noise_smoothing + (1 - s.noise_smoothing) * presence
        self._average = rate * self._average + (1 - rate) * power
        self.noise = s.beta * self._average

    def presence(
        self, power: np.ndarray, smooth: np.ndarray, least: np.ndarray, gamma: np.ndarray,
        xi: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """The probability [K] of speech, by the a-priori probability of its absence."""
        s = self.settings
        gamma_min = power / np.maximum(s.bias * least, TINY)
        zeta = smooth / np.maximum(s.bias * least, TINY)
        absent = np.clip((s.gamma_1 - gamma_min) / (s.gamma_1 - 1), 0, 1) * (zeta < s.zeta_0)
        v = np.minimum(gamma * xi / (1 + xi), 200.0)
        odds = absent / np.maximum(1 - absent, TINY) * (1 + xi) * np.exp(-v)
        present: np.ndarray = np.where(absent < 1, 1 / (1 + odds), 0.0)
        return present


class _Minimum:
    """A spectrum smoothed over time, and its minimum over the last U windows of V frames."""

    def __init__(self, settings: Imcra, start: np.ndarray) -> None:
        self.settings = settings
        self.smooth = start
        self.least = start
        self._now = start  # of the window that is not full yet
        self._kept: list[np.ndarray] = []
        self._heard = 0

    def hear(self, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The smoothed spectrum, and the minimum, with another frame."""
        s = self.settings
        self.smooth = s.smoothing * self.smooth + (1 - s.smoothing) * power
        self.least = np.minimum(self.least, self.smooth)
        self._now = np.minimum(self._now, self.smooth)
        self._heard += 1
        if self._heard % s.frames == 0:
            self._kept = [*self._kept, self._now][-s.windows :]
            self.least = np.min(self._kept, axis=0)
            self._now = self.smooth
        return self.smooth, self.least


def _around(power: np.ndarray) -> np.ndarray:
    """The mean of three neighbouring bins under a Hann window (1/4, 1/2, 1/4)."""
    padded = np.pad(power, 1, mode="edge")
    around: np.ndarray = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return around
