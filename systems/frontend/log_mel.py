"""Log-mel spectrogram and what is made of it, computed on the device in the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import preemphasis, spectrogram


@dataclass(frozen=True)
class LogMel:
    """Settings of a log-mel front end.

    ``rate`` in Hz; ``window`` and ``hop`` in samples; ``fft``: FFT size, 0 for the window's, which
    is else filled with zeros; ``bands`` mel bands of Slaney or HTK scale with area norm or none,
    from ``fmin`` to ``fmax`` Hz (0: half the rate) over the magnitude (``power`` 1) or power (2).
    ``triangles``: whether a band rises and falls straight over Hz, as librosa's, or over mel.

    ``log``: natural logarithm floored at ``floor`` (``ln``), or of the sum with it (``ln_add``), or
    decibels floored at it (``db``), or also relative to the loudest value of the sound
    (``db_max``), at most ``range_db`` below it (0: any). ``center`` pads half an FFT at both ends,
    with zeros or the sound mirrored (``pad``); ``whole_hops`` then drops the last frame, so that S
    samples give S / hop frames. Without it a ``frame`` takes as much sound as the ``fft``, with the
    window in its middle, as librosa's, or the ``window`` alone.

    Before all that sound is multiplied by ``full_scale`` (HTK's is 32,768), and ``emphasis`` times
    the sample before is taken from each (0.97, say).
    """

    rate: int = 16_000
    window: int = 1024
    hop: int = 512
    bands: int = 64
    fmin: float = 0.0
    fmax: float = 0.0
    window_shape: Literal["hann", "hamming"] = "hann"
    center: bool = True
    floor: float = 1e-10
    fft: int = 0
    power: int = 2
    mel: Literal["slaney", "htk"] = "slaney"
    norm: Literal["area", "none"] = "area"
    log: Literal["ln", "ln_add", "db", "db_max"] = "ln"
    range_db: float = 0.0
    whole_hops: bool = False
    pad: Literal["zeros", "mirror"] = "zeros"
    triangles: Literal["hz", "mel"] = "hz"
    frame: Literal["fft", "window"] = "fft"
    full_scale: float = 1.0
    emphasis: float = 0.0

    def __post_init__(self) -> None:
        if min(self.rate, self.window, self.hop, self.bands) < 1:
            raise ValueError("rate, window, hop and bands must be at least 1")
        if (self.fft and self.fft < self.window) or self.power not in (1, 2):
            raise ValueError("fft is 0 or at least window, power is 1 or 2")
        if self.triangles == "mel" and (self.mel, self.norm) != ("htk", "none"):
            raise ValueError("triangles over mel are of the HTK scale, without norm")
        if self.frame == "window" and self.center:
            raise ValueError("frames of the window alone are not centred")
        if self.full_scale <= 0 or not 0 <= self.emphasis < 1:
            raise ValueError("full_scale lies above 0, emphasis in [0, 1)")

    @property
    def hop_seconds(self) -> float:
        """Distance of two frames in seconds."""
        return self.hop / self.rate

    @property
    def frame_start(self) -> float:
        """Where the first frame begins to stand for the sound, s: half a hop before its middle."""
        middle = 0 if self.center else self.heard / 2
        return (middle - self.hop / 2) / self.rate

    @property
    def size(self) -> int:
        """The FFT's size."""
        return self.fft or self.window

    @property
    def heard(self) -> int:
        """Samples of sound that a frame takes."""
        return self.window if self.frame == "window" else self.size

    def frames(self, samples: int) -> int:
        """Number of frames T of a waveform of ``samples`` samples."""
        if self.center and self.pad == "mirror" and samples <= self.size // 2:
            return 0
        padded = samples + 2 * (self.size // 2) if self.center else samples
        return 1 + (padded - self.heard) // self.hop - (self.center and self.whole_hops)

    def shape(self, samples: int) -> tuple[int, int, int]:
        """(1, F, T)."""
        return 1, self.bands, self.frames(samples)

    def band_edges(self) -> np.ndarray:
        """Where bands begin and end [F + 1], Hz: halfway between their middles."""
        from librosa import mel_frequencies

        fmax, htk = self.fmax or self.rate / 2, self.mel == "htk"
        points = mel_frequencies(self.bands + 2, fmin=self.fmin, fmax=fmax, htk=htk)
        between = (points[1:-2] + points[2:-1]) / 2
        return np.concatenate([points[:1], between, points[-1:]])

    def build(self) -> LogMelFrontEnd:
        return LogMelFrontEnd(self)


class LogMelFrontEnd(nn.Module):
    """Waveforms [B, S] -> log-mel [B, 1, F, T], equal to librosa's to 1e-4 relative."""

    def __init__(self, config: LogMel) -> None:
        # Here, not above: they take seconds to import, and plans name front ends without using one.
        import librosa.filters
        import scipy.signal

        super().__init__()
        self.config = config
        shape = scipy.signal.get_window(config.window_shape, config.window, fftbins=True)
        mel = over_mel(config) if config.triangles == "mel" else librosa.filters.mel(
            sr=config.rate, n_fft=config.size, n_mels=config.bands,
            fmin=config.fmin, fmax=config.fmax or config.rate / 2,
            htk=config.mel == "htk", norm="slaney" if config.norm == "area" else None,
        )  # fmt: skip
        self.register_buffer("shape", torch.as_tensor(shape, dtype=torch.float32), persistent=False)
        self.register_buffer("mel", torch.as_tensor(mel, dtype=torch.float32), persistent=False)
        self.shape: Tensor
        self.mel: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.log(self.energies(waveforms)).unsqueeze(1)

    def energies(self, waveforms: Tensor) -> Tensor:
        """Mel energies [B, F, T] before the logarithm."""
        c = self.config
        if c.full_scale != 1:
            waveforms = waveforms * c.full_scale
        if c.emphasis:
            waveforms = preemphasis(waveforms, c.emphasis)
        # The window stands in the FFT's middle: so much of what is around it is no sound.
        around = (c.size - c.heard) // 2
        waveforms = nn.functional.pad(waveforms, (around, c.size - c.heard - around))
        spectrum = spectrogram(
            waveforms, 0, self.shape, c.size, c.hop, c.window, power=None, normalized=False,
            center=c.center, pad_mode="reflect" if c.pad == "mirror" else "constant",
        )  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        if c.power == 1:
            power = power.sqrt()
        if c.center and c.whole_hops:
            power = power[..., :-1]
        energies: Tensor = self.mel @ power
        return energies

    def log(self, energies: Tensor) -> Tensor:
        """Their logarithm, as the settings say."""
        c = self.config
        if c.log == "ln":
            return torch.log(energies.clamp_min(c.floor))
        if c.log == "ln_add":
            return torch.log(energies + c.floor)
        decibels = 10 * torch.log10(energies.clamp_min(c.floor))
        if c.log == "db":
            return decibels
        decibels = decibels - decibels.amax((-2, -1), keepdim=True)
        return decibels.clamp_min(-c.range_db) if c.range_db else decibels


def over_mel(config: LogMel) -> np.ndarray:
    """Filters [F, bins] that rise and fall straight over the HTK mel scale, at most 1; none of them
    takes the constant (VGGish's front end: Hershey et al. 2017, and its published code)."""

    def to_mel(hz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))

    bins = to_mel(np.linspace(0, config.rate / 2, config.size // 2 + 1))
    edges = np.linspace(to_mel(config.fmin), to_mel(config.fmax or config.rate / 2),
                        config.bands + 2)[:, None]  # fmt: skip
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[:, 0] = 0.0
    return filters


@dataclass(frozen=True)
class OfMel:
    """What is made of a mel spectrogram, at its rate and hop."""

    mel: LogMel

    @property
    def rate(self) -> int:
        return self.mel.rate

    @property
    def hop_seconds(self) -> float:
        return self.mel.hop_seconds

    @property
    def frame_start(self) -> float:
        return self.mel.frame_start


@dataclass(frozen=True)
class NearestFrames(OfMel):
    """Log-mel of the median of each frame's nearest frames (REPET-SIM; nnf_cnn_ensemble, 2.2).

    Of mel energies S [F, T], for each frame the ``neighbours`` other frames of least Euclidean
    distance, and the median over them by band; then the logarithm. It equals
    ``librosa.decompose.nn_filter(S, aggregate=np.median, k=5, metric="euclidean",
    mode="distance")``.
    """

    neighbours: int = 5

    def shape(self, samples: int) -> tuple[int, int, int]:
        return self.mel.shape(samples)

    def build(self) -> nn.Module:
        return NearestFramesFrontEnd(self)


class NearestFramesFrontEnd(nn.Module):
    """Waveforms [B, S] -> filtered log-mel [B, 1, F, T]."""

    def __init__(self, config: NearestFrames) -> None:
        super().__init__()
        self.config = config
        self.mel = config.mel.build()

    def forward(self, waveforms: Tensor) -> Tensor:
        energies = self.mel.energies(waveforms)
        return self.mel.log(nearest_median(energies, self.config.neighbours)).unsqueeze(1)


def nearest_median(energies: Tensor, neighbours: int) -> Tensor:
    """The median of each frame's nearest other frames: [B, F, T] -> [B, F, T]."""
    frames = energies.transpose(1, 2)
    distance = torch.cdist(frames, frames, compute_mode="donot_use_mm_for_euclid_dist")
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    count = min(neighbours, frames.shape[1] - 1)
    if count < 1:
        return energies
    nearest = distance.topk(count, largest=False).indices  # [B, T, k]
    picked = torch.stack([clip[rows] for clip, rows in zip(frames, nearest, strict=True)])
    ordered = picked.sort(dim=2).values  # [B, T, k, F]
    return ((ordered[:, :, (count - 1) // 2] + ordered[:, :, count // 2]) / 2).transpose(1, 2)


@dataclass(frozen=True)
class Mfcc(OfMel):
    """Mel-frequency cepstral coefficients of a log-mel, with ``deltas`` orders of differences below
    them (torchaudio's over 9 frames): [B, 1, count * (1 + deltas), T]."""

    count: int = 30
    deltas: int = 2

    def shape(self, samples: int) -> tuple[int, int, int]:
        return 1, self.count * (1 + self.deltas), self.mel.frames(samples)

    def build(self) -> nn.Module:
        return MfccFrontEnd(self)


class MfccFrontEnd(nn.Module):
    """Waveforms [B, S] -> MFCC and their differences [B, 1, F, T]."""

    def __init__(self, config: Mfcc) -> None:
        from torchaudio.functional import create_dct

        super().__init__()
        self.config = config
        self.mel = config.mel.build()
        basis = create_dct(config.count, config.mel.bands, "ortho")
        self.register_buffer("basis", basis, persistent=False)
        self.basis: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        from torchaudio.functional import compute_deltas

        rows = [self.basis.T @ self.mel(waveforms)]
        for _ in range(self.config.deltas):
            rows.append(compute_deltas(rows[-1], 9))
        return torch.cat(rows, dim=2)


@dataclass(frozen=True)
class Waveform:
    """The sound itself: [B, 1, S]."""

    rate: int = 16_000
    frame_start = 0.0

    @property
    def hop_seconds(self) -> float:
        return 1 / self.rate

    def shape(self, samples: int) -> tuple[int, int]:
        return 1, samples

    def build(self) -> nn.Module:
        return nn.Unflatten(1, (1, -1))
