"""Hand-crafted statistics of a clip's MFCC.

Source: metalearning_xgboost, Section 5: maximum, minimum, variance and skewness over time. The
number of coefficients is that of the paper's MFCC input, 64; framing is librosa's default.
"""

from __future__ import annotations

import numpy as np

COEFFICIENTS = 64
MOMENTS = ("max", "min", "variance", "skewness")


def statistic_names() -> tuple[str, ...]:
    """Names of the statistics [F]."""
    return tuple(f"mfcc{c}_{moment}" for moment in MOMENTS for c in range(COEFFICIENTS))


def mfcc_statistics(waveform: np.ndarray, rate: int) -> np.ndarray:
    """The statistics [F] of a mono waveform [S] at a rate in Hz; of silence all are finite."""
    import librosa
    from scipy.stats import skew

    least = 2048  # samples of one frame
    padded = np.pad(waveform, (0, max(0, least - len(waveform)))).astype(np.float32)
    mfcc = librosa.feature.mfcc(y=padded, sr=rate, n_mfcc=COEFFICIENTS).astype(float)
    spread = mfcc.var(axis=1)
    with np.errstate(all="ignore"):
        skewness = np.where(spread > 1e-8, np.nan_to_num(skew(mfcc, axis=1)), 0.0)
    return np.concatenate([mfcc.max(axis=1), mfcc.min(axis=1), spread, skewness])
