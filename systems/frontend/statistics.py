"""Hand-crafted statistics of a clip's MFCC.

Source: metalearning_xgboost, Section 4: maximum, minimum, variance and skewness of the MFCC. The
paper names neither axis nor number: here over time, of the 64 coefficients of its MFCC input
(frames of 80 ms every 10 ms, 64 mel bands).
"""

from __future__ import annotations

import numpy as np

COEFFICIENTS = 64
FRAME, HOP = 0.08, 0.01  # s
MOMENTS = ("max", "min", "variance", "skewness")
BLOCK = 6000  # frames whose spectra are in memory at once: a recording may last hours


def statistic_names() -> tuple[str, ...]:
    """Names of the statistics [F]."""
    return tuple(f"mfcc{c}_{moment}" for moment in MOMENTS for c in range(COEFFICIENTS))


def mfcc_statistics(waveform: np.ndarray, rate: int) -> np.ndarray:
    """The statistics [F] of a mono waveform [S] at a rate in Hz; of silence all are finite."""
    import librosa
    from scipy.stats import skew

    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(_mel(waveform, rate)), n_mfcc=COEFFICIENTS)
    variance, skewness = mfcc.var(axis=1), np.zeros(COEFFICIENTS)
    moves = variance > 1e-8  # what never changes leans to neither side
    skewness[moves] = skew(mfcc[moves], axis=1)
    return np.concatenate([mfcc.max(axis=1), mfcc.min(axis=1), variance, skewness])


def _mel(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Power in the mel bands [64, T], T = 1 + S // hop; the frames are centred."""
    import librosa

    frame, hop = round(FRAME * rate), round(HOP * rate)
    n_fft = 1 << (frame - 1).bit_length()
    padded = np.pad(waveform, n_fft // 2).astype(np.float32)
    frames = 1 + len(waveform) // hop
    blocks = [
        librosa.feature.melspectrogram(
            y=padded[start * hop : (min(start + BLOCK, frames) - 1) * hop + n_fft],
            sr=rate, n_fft=n_fft, win_length=frame, hop_length=hop, center=False,
            n_mels=COEFFICIENTS,
        )
        for start in range(0, frames, BLOCK)
    ]  # fmt: skip
    return np.concatenate(blocks, axis=1).astype(float)
