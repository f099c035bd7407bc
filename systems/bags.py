"""Bags of audio words: how often each word of a codebook is near the frames of a clip.

As openXBOW makes the features of the ComParE challenges (Schmitt and Schuller 2017): two codebooks,
of descriptors and of their differences; each frame counts for its nearest words; a clip is
``log10(1 + count)`` of each word of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import MiniBatchKMeans
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC


def descriptors(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Descriptors of each frame of 20 ms every 10 ms, and below them their differences: [T, 32].

    14 MFCC, log energy and zero-crossing rate, smoothed over three frames: the part of openSMILE's
    ComParE set that needs no pitch.
    """
    import librosa
    from scipy.ndimage import uniform_filter1d

    window, hop = round(0.02 * rate), round(0.01 * rate)
    n_fft = 1 << (window - 1).bit_length()
    padded = np.pad(waveform, (0, max(0, n_fft - len(waveform)))).astype(np.float32)
    spectrum = np.abs(librosa.stft(
        padded, n_fft=n_fft, hop_length=hop, win_length=window, window="hamming", center=False
    )) ** 2  # fmt: skip
    mel = librosa.feature.melspectrogram(
        S=spectrum, sr=rate, n_mels=26, fmin=20, fmax=8000, htk=True, norm=None
    )
    mfcc = librosa.feature.mfcc(S=np.log(np.maximum(mel, 1e-10)), n_mfcc=15)[1:]
    energy = np.log(np.maximum(spectrum.sum(axis=0, keepdims=True), 1e-10))
    crossings = librosa.feature.zero_crossing_rate(
        padded, frame_length=n_fft, hop_length=hop, center=False
    )
    low = uniform_filter1d(np.concatenate([mfcc, energy, crossings]), 3, mode="nearest")
    width = min(9, low.shape[1] - (1 - low.shape[1] % 2))
    differences = librosa.feature.delta(low, width=width) if width >= 3 else np.zeros_like(low)
    return np.concatenate([low, differences]).T.astype(np.float32)


class BagOfWords(TransformerMixin, BaseEstimator):
    """Frames [T, 2 D] of each clip -> a bag [N, 2 * words].

    Args:
        words: of each of the two codebooks.
        assigned: how many nearest words a frame counts for.
        seed: of the codebooks, which are k-means over the training clips' frames.
    """

    def __init__(self, words: int = 2000, assigned: int = 10, seed: int = 0) -> None:
        self.words = words
        self.assigned = assigned
        self.seed = seed

    def fit(self, clips: Sequence[np.ndarray], y: object = None) -> BagOfWords:
        """Learn both codebooks over standardised frames."""
        frames = np.concatenate(clips)
        self.mean_, self.deviation_ = frames.mean(0), frames.std(0) + 1e-8
        halves = np.split((frames - self.mean_) / self.deviation_, 2, axis=1)
        words = min(self.words, len(frames))
        self.codebooks_ = np.stack([
            MiniBatchKMeans(words, random_state=self.seed, n_init=1, batch_size=4096)
            .fit(half).cluster_centers_
            for half in halves
        ])  # fmt: skip
        return self

    def transform(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """The bags of clips."""
        return np.stack([self._bag(clip) for clip in clips])

    def _bag(self, clip: np.ndarray) -> np.ndarray:
        halves = np.split((clip - self.mean_) / self.deviation_, 2, axis=1)
        counts = []
        for half, words in zip(halves, self.codebooks_, strict=True):
            distance = (words**2).sum(1) - 2 * half @ words.T  # but for the frame's own square
            assigned = min(self.assigned, len(words))
            nearest = np.argpartition(distance, assigned - 1, axis=1)[:, :assigned]
            counts.append(np.bincount(nearest.ravel(), minlength=len(words)))
        return np.log10(1 + np.concatenate(counts)).astype(np.float32)


def bag_machine(words: int, c: float, gamma: float | str, kernel: str, seed: int) -> Pipeline:
    """A support vector machine with Platt's probabilities over bags scaled to 0 .. 1."""
    machine = SVC(C=c, gamma=gamma, kernel=kernel, random_state=seed)
    # SVC's own ``probability`` is given up in favour of this.
    calibrated = CalibratedClassifierCV(machine, ensemble=False, cv=5)
    return make_pipeline(BagOfWords(words, seed=seed), MinMaxScaler(), calibrated)


def linear_machine(c: float, seed: int) -> Pipeline:
    """A linear support vector machine with Platt's probabilities over standardised features."""
    machine = SVC(C=c, kernel="linear", random_state=seed)
    calibrated = CalibratedClassifierCV(machine, ensemble=False, cv=5)
    return make_pipeline(StandardScaler(), calibrated)
