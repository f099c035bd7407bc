"""Sound that is another function of each clip: shifted in pitch, freed of noise. It is slow to
make, so it is made once a clip and stored beside the waveform store.

A change takes the place of the sound (``Input.change``), or lies beside it for derived clips
(``Input.beside``, :class:`systems.training.copies.ChangedCopy`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from systems.data.features import Shapes, read_rows, stored_rows
from systems.data.prepare import Over, Sound
from systems.data.store import Map, WaveformStore, process_map


class Change(Protocol):
    """Frozen settings, whose ``repr`` names what is stored: (mono waveform [S], rate in Hz, the
    clip's name, which seeds what is drawn) -> another waveform."""

    def __call__(self, waveform: np.ndarray, rate: int, clip_id: str) -> np.ndarray: ...


@dataclass(frozen=True)
class PitchShift:
    """Shifted by an integer of semitones, drawn evenly from -``semitones`` to ``semitones`` without
    0, the same of a clip in every training; the length stays (librosa's phase vocoder)."""

    semitones: int = 12

    def __post_init__(self) -> None:
        if self.semitones < 1:
            raise ValueError("semitones is at least 1")

    def steps(self, clip_id: str) -> int:
        """By how many semitones a clip is shifted."""
        digest = hashlib.sha256(f"pitch {clip_id}".encode()).digest()
        drawn = int(np.random.default_rng(list(digest)).integers(2 * self.semitones))
        return drawn - self.semitones + (drawn >= self.semitones)

    def __call__(self, waveform: np.ndarray, rate: int, clip_id: str) -> np.ndarray:
        import librosa

        size = 2048  # of the vocoder's frames; shorter sound is filled and cut again
        filled = np.pad(waveform, (0, max(0, size - len(waveform))))
        shifted = librosa.effects.pitch_shift(
            filled, sr=rate, n_steps=self.steps(clip_id), n_fft=size
        )
        return np.asarray(shifted[: len(waveform)], np.float32)


@dataclass(frozen=True)
class Changed:
    """The changed sound of clips, in a ``folder`` beside the store that it was made of: a store by
    itself, under which preparations and features lie."""

    sound: Any  # the store
    folder: str
    rows: Mapping[str, Sequence[tuple[int, int]]]
    shapes: Shapes

    @property
    def rate(self) -> int:
        rate: int = self.sound.rate
        return rate

    def __getitem__(self, clip_id: str) -> np.ndarray:
        (rows,) = read_rows(self.folder, self.rows[clip_id], self.shapes)
        return rows.T if rows.shape[1] > 1 else rows[:, 0]

    def duration(self, clip_id: str) -> float:
        return self[clip_id].shape[-1] / self.rate

    def digest(self, clip_id: str) -> str:
        """Of the clip's sound before its change."""
        return str(self.sound.digest(clip_id))

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        return (self[clip_id],)

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        return self[clip_id][..., start : start + length]


def changed(
    store: WaveformStore, change: Change, clip_ids: Sequence[str],
    map_: Map = process_map, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Changed:  # fmt: skip
    """The sound of a store under a change, made where it is missing.

    Raises:
        UserError: it cannot be written; what is there is kept.
    """
    name = hashlib.sha256(repr(change).encode()).hexdigest()[:12]
    folder = Path(store.folder) / f"changed-{name}"
    make = partial(_of_clip, store, change)
    return Changed(store, str(folder), *stored_rows(folder, make, clip_ids, map_, progress))


def applied(change: Change, waveform: np.ndarray, rate: int, clip_id: str) -> np.ndarray:
    """A change of a waveform [S] or [2, S], each channel by itself."""
    if waveform.ndim == 1:
        return change(waveform, rate, clip_id)
    return np.stack([change(channel, rate, clip_id) for channel in waveform])


def _of_clip(
    store: WaveformStore, change: Change, clip_id: str
) -> tuple[str, list[tuple[np.ndarray, Shapes]]]:
    made = np.atleast_2d(applied(change, np.array(store[clip_id]), store.rate, clip_id))
    return clip_id, [(np.ascontiguousarray(made.T, np.float32), {"": (len(made), 1)})]


def name_beside(clip_id: str, change: Change) -> str:
    """What the derived clip of a change is called."""
    return f"{clip_id} #{type(change).__name__}"


@dataclass(frozen=True)
class Beside(Over):
    """Sound of clips, and of derived ones that lie in ``other``: ``derived`` is by their names what
    they are called there. Nodes without a common disk find both by their folders."""

    sound: Any
    other: Any
    derived: Mapping[str, str]

    def of(self, clip_id: str) -> tuple[Any, str]:
        if clip_id in self.derived:
            return self.other, self.derived[clip_id]
        return self.sound, clip_id


def beside(sound: Sound, changes: Mapping[Change, Sound], clip_ids: Sequence[str]) -> Sound:
    """Sound with the derived clips of some changes of it."""
    for change, other in changes.items():
        derived = {name_beside(clip_id, change): clip_id for clip_id in clip_ids}
        sound = Beside(sound, other, derived)
    return sound
