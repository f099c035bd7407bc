"""What is left of a clip's sound before it is heard: kept intervals, an offset and a gain.

A preparation is a pure function of the waveform. Its results are kept as an index beside the
waveform store, so that all systems of one rate share the store; sound from a file goes through the
same function.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from systems.data.sharing import sound_digest
from systems.data.store import Map, WaveformStore, process_map, to_mono
from systems.files import write_whole


class Kept(NamedTuple):
    """Samples ``start`` to ``stop`` of each part; sound is then ``(waveform - offset) * gain``."""

    intervals: tuple[tuple[int, int], ...]
    offset: float = 0.0
    gain: float = 1.0

    def parts(self, waveform: np.ndarray) -> tuple[np.ndarray, ...]:
        """The parts of a waveform [S] or [2, S]."""
        return tuple(
            self.piece(waveform, part, 0, stop - start)
            for part, (start, stop) in enumerate(self.intervals)
        )

    def piece(self, waveform: np.ndarray, part: int, start: int, length: int) -> np.ndarray:
        """Of one of its parts what lies at ``start``, at most ``length`` samples."""
        first, end = self.intervals[part]
        piece = waveform[..., first + start : min(first + start + length, end)]
        if (self.offset, self.gain) != (0.0, 1.0):
            piece = (piece - np.float32(self.offset)) * np.float32(self.gain)
        return piece


class Prepare(Protocol):
    """Frozen settings, whose ``repr`` names the index: mono waveform [S] -> what is kept of it."""

    def __call__(self, waveform: np.ndarray, rate: int) -> Kept: ...


class Sound(Protocol):
    """The sound of clips at one rate in Hz: waveforms are mono [S] or stereo [2, S]."""

    @property
    def rate(self) -> int: ...

    def __getitem__(self, clip_id: str) -> np.ndarray:
        """The whole waveform of a clip."""
        ...

    def duration(self, clip_id: str) -> float:
        """The length of a whole clip in seconds."""
        ...

    def digest(self, clip_id: str) -> str:
        """A digest of a clip's sound, whatever its name: before any preparation."""
        ...

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        """What a system hears of a clip: one or several waveforms."""
        ...

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        """Of one of these parts what lies at ``start``, at most ``length`` samples."""
        ...


class Over:
    """Sound that stands over another: each clip is one of that, or of what :meth:`of` says."""

    sound: Any

    def of(self, clip_id: str) -> tuple[Any, str]:
        """The sound that a clip is in, and what it is called there."""
        return self.sound, clip_id

    @property
    def rate(self) -> int:
        rate: int = self.sound.rate
        return rate

    def __getitem__(self, clip_id: str) -> np.ndarray:
        sound, name = self.of(clip_id)
        waveform: np.ndarray = sound[name]
        return waveform

    def duration(self, clip_id: str) -> float:
        sound, name = self.of(clip_id)
        return float(sound.duration(name))

    def digest(self, clip_id: str) -> str:
        sound, name = self.of(clip_id)
        return str(sound.digest(name))

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        sound, name = self.of(clip_id)
        return tuple(sound.parts(name))

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        sound, name = self.of(clip_id)
        piece: np.ndarray = sound.piece(name, part, start, length)
        return piece


@dataclass(frozen=True)
class Described(Over):
    """Sound of clips of which a front end asks for the value of a column: empty of those that have
    none."""

    sound: Any
    values: Mapping[str, str]

    def value(self, clip_id: str) -> str:
        return self.values.get(clip_id, "")


@dataclass(frozen=True)
class Waveforms:
    """Sound in memory: waveforms by name."""

    rate: int
    waveforms: Mapping[str, np.ndarray]
    prepare: Prepare | None = None

    def __getitem__(self, clip_id: str) -> np.ndarray:
        return self.waveforms[clip_id]

    def duration(self, clip_id: str) -> float:
        return self[clip_id].shape[-1] / self.rate

    def digest(self, clip_id: str) -> str:
        return sound_digest(np.atleast_2d(self[clip_id]), self.rate)

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        waveform = self[clip_id]
        return (
            (waveform,)
            if self.prepare is None
            else self.prepare(to_mono(waveform), self.rate).parts(waveform)
        )

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        return self.parts(clip_id)[part][..., start : start + length]


@dataclass(frozen=True)
class Prepared:
    """A waveform store under a preparation."""

    store: WaveformStore
    kept: Mapping[str, Kept]

    @property
    def rate(self) -> int:
        return self.store.rate

    def __getitem__(self, clip_id: str) -> np.ndarray:
        return self.store[clip_id]

    def duration(self, clip_id: str) -> float:
        return self.store.duration(clip_id)

    def digest(self, clip_id: str) -> str:
        return self.store.digest(clip_id)

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        return self.kept[clip_id].parts(self.store[clip_id])

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        return self.kept[clip_id].piece(self.store[clip_id], part, start, length)


def prepared(
    store: WaveformStore, prepare: Prepare | None, clip_ids: Sequence[str],
    map_: Map = process_map,
) -> Sound:  # fmt: skip
    """The sound of a store under a preparation, whose index is built where it is missing."""
    if prepare is None:
        return store
    # "by clip": an index of before was in the order in which a cluster had been done.
    name = hashlib.sha256(f"{prepare!r} by clip".encode()).hexdigest()[:12]
    path = Path(store.folder) / f"kept-{name}.json"
    if not path.exists():
        kept = dict(map_(partial(_of_clip, store, prepare), clip_ids))
        write_whole(path, json.dumps(kept))
    read = json.loads(path.read_text())
    return Prepared(
        store, {i: Kept(tuple(map(tuple, one[0])), one[1], one[2]) for i, one in read.items()}
    )


def _of_clip(store: WaveformStore, prepare: Prepare, clip_id: str) -> tuple[str, Kept]:
    return clip_id, prepare(to_mono(store[clip_id]), store.rate)


@dataclass(frozen=True)
class Standardised:
    """Zero mean and unit variance of a whole recording (mask_breathing_resnet, gap 20)."""

    def __call__(self, waveform: np.ndarray, rate: int) -> Kept:
        mean, deviation = float(waveform.mean()), float(waveform.std())
        return Kept(((0, len(waveform)),), mean, 1 / deviation if deviation > 1e-8 else 1.0)


@dataclass(frozen=True)
class Trimmed:
    """Silence at both ends goes: what is ``top_db`` or more below the loudest frame, as
    ``librosa.effects.trim`` has it; ``peak``: the largest magnitude that is then left becomes 1."""

    top_db: float = 60.0
    peak: bool = True

    def __post_init__(self) -> None:
        if self.top_db <= 0:
            raise ValueError("top_db lies above 0")

    def __call__(self, waveform: np.ndarray, rate: int) -> Kept:
        import librosa

        _, (start, stop) = librosa.effects.trim(waveform, top_db=self.top_db)
        loudest = float(np.abs(waveform[start:stop]).max(initial=0.0))
        gain = 1 / loudest if self.peak and loudest > 0 else 1.0
        return Kept(((int(start), int(stop)),), gain=gain)


@dataclass(frozen=True)
class Segments:
    """Silence splits a clip into segments (gcnn_gcrnn_stacking, section 3 and gap "silence").

    A frame is silent where its RMS is below ``level`` dBFS, or ``transient_level`` in a clip of
    transients alone: the moving mean of its magnitude never stays within 30 dB of its largest value
    for ``gap`` s. Silences of ``gap`` s or more split; ``margin`` s of them stay on each side. A
    clip of at most ``whole`` s stays whole. Segments shorter than ``shortest`` s go where the mean
    segment is longer than ``mean`` s. Where nothing is left the clip stays whole.
    """

    level: float = -48.0
    transient_level: float = -56.0
    gap: float = 0.5
    margin: float = 0.4
    whole: float = 0.8
    shortest: float = 0.9
    mean: float = 1.5
    frame: int = 1024

    def __call__(self, waveform: np.ndarray, rate: int) -> Kept:
        every = ((0, len(waveform)),)
        if len(waveform) <= self.whole * rate:
            return Kept(every)
        level = self.transient_level if self._is_transient(waveform, rate) else self.level
        loud = _rms(waveform, self.frame) >= 10 ** (level / 20)
        runs = _joined(_runs(loud), round(self.gap * rate))
        margin = round(self.margin * rate)
        kept = [(max(0, a - margin), min(len(waveform), b + margin)) for a, b in runs]
        seconds = [(b - a) / rate for a, b in kept]
        if kept and sum(seconds) / len(kept) > self.mean:
            kept = [one for one, s in zip(kept, seconds, strict=True) if s >= self.shortest]
        return Kept(tuple(kept) or every)

    def _is_transient(self, waveform: np.ndarray, rate: int) -> bool:
        from scipy.ndimage import uniform_filter1d

        mean = uniform_filter1d(np.abs(waveform).astype(np.float64), self.frame, mode="constant")
        near = mean > mean.max() * 10 ** (-30 / 20)
        return all(b - a < self.gap * rate for a, b in _runs(near))


def _rms(waveform: np.ndarray, frame: int) -> np.ndarray:
    """The RMS around each sample [S], over ``frame`` samples."""
    from scipy.ndimage import uniform_filter1d

    power = uniform_filter1d(np.square(waveform, dtype=np.float64), frame, mode="constant")
    return np.sqrt(np.maximum(power, 0.0))


def _runs(there: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each run of ``True``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _joined(runs: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Runs less than ``gap`` samples apart as one."""
    out: list[tuple[int, int]] = []
    for start, stop in runs:
        if out and start - out[-1][1] < gap:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out
