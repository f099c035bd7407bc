"""What excerpts are cut from: waveforms of the store, or features that were made of them once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.features import Featured, Shapes, packed, part_features, unpacked
from systems.data.prepare import Sound
from systems.excerpts import Excerpts

# Features [B, C, F, T] of one front end, or of several by name.
Features = Tensor | dict[str, Tensor]


def each(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """A function of features, front end by front end."""
    if isinstance(first, Mapping):
        return {name: function(first[name], *(o[name] for o in others)) for name in first}
    return function(first, *others)


def any_of(features: Any) -> Any:
    """The features of the first front end."""
    return next(iter(features.values())) if isinstance(features, Mapping) else features


@dataclass(frozen=True)
class Part:
    """One part of a clip: the clip's row, and how many units (samples or frames) it has."""

    clip: int
    units: int


class Track(Protocol):
    """Parts of clips, cut by units along time; ``seconds`` is the length of each clip."""

    parts: Sequence[Part]
    seconds: Sequence[float]

    def cut(self, places: Sequence[tuple[int, int, int]]) -> Any:
        """Excerpts (part, start, length) as a batch, filled to the longest."""
        ...


class WaveformTrack:
    """Excerpts of waveforms: batches [B, S] (stereo: [B, 2, S]) of zero-filled sound."""

    def __init__(self, sound: Sound, clip_ids: Sequence[str]) -> None:
        self.sound = sound
        self.clip_ids = clip_ids
        self.seconds = [sound.duration(clip_id) for clip_id in clip_ids]
        self.parts: list[Part] = []
        self._place: list[int] = []
        for row, clip_id in enumerate(clip_ids):
            for place, part in enumerate(sound.parts(clip_id)):
                self.parts.append(Part(row, part.shape[-1]))
                self._place.append(place)

    def cut(self, places: Sequence[tuple[int, int, int]]) -> Tensor:
        pieces = [
            self.sound.piece(self.clip_ids[self.parts[part].clip], self._place[part], start, length)
            for part, start, length in places
        ]
        longest = max(length for _, _, length in places)
        out = np.zeros((len(places), *pieces[0].shape[:-1], longest), np.float32)
        for target, piece in zip(out, pieces, strict=True):
            target[..., : piece.shape[-1]] = piece
        return torch.from_numpy(out)


class FeatureTrack:
    """Excerpts of features that are made of each part once, and lie in an unnamed file.

    Args:
        sound: the sound of the clips.
        clip_ids: which clips.
        front_end: waveforms [B, S] -> features [B, C, F, T].
        excerpts: what is mirrored, and how short parts are filled.
        context: where it is computed.
    """

    def __init__(
        self, sound: Sound, clip_ids: Sequence[str], front_end: nn.Module, excerpts: Excerpts,
        context: Context,
    ) -> None:  # fmt: skip
        self.excerpts = excerpts
        self.seconds = [sound.duration(clip_id) for clip_id in clip_ids]
        self.parts: list[Part] = []
        self._offsets: list[int] = []
        self._shapes: Shapes = {}
        # Its pages are the kernel's to keep or to drop, unlike an array's.
        file = tempfile.TemporaryFile(dir=context.scratch())  # noqa: SIM115
        offset = 0
        with torch.inference_mode():
            for rows in self._made(sound, clip_ids, front_end, context):
                file.write(rows.tobytes())  # time first: a cut is one piece
                self._offsets.append(offset)
                offset += rows.size
        file.flush()
        self._flat = np.memmap(file, np.float32, mode="r") if offset else np.zeros(0, np.float32)
        self._rows = sum(c * f for c, f in self._shapes.values())

    def _made(
        self, sound: Sound, clip_ids: Sequence[str], front_end: nn.Module, context: Context
    ) -> Iterator[np.ndarray]:
        """Rows [T, R] of each part: those that are stored, or made now."""
        mirror = round(self.excerpts.mirror * sound.rate)
        value_of = getattr(sound, "value", lambda clip_id: "")
        for row, clip_id in enumerate(clip_ids):
            held = sound.held(clip_id) if isinstance(sound, Featured) else None
            if held is not None:
                self._shapes = sound.shapes  # type: ignore[attr-defined]
            for place, waveform in enumerate(sound.parts(clip_id)):
                if held is not None:
                    rows = held[place]
                else:
                    waveform = self.excerpts.fitted(waveform, sound.rate)
                    if mirror:
                        around = [(0, 0)] * (waveform.ndim - 1) + [(mirror, mirror)]
                        waveform = np.pad(waveform, around, mode="reflect")
                    made = part_features(front_end, waveform, context.device, value_of(clip_id))
                    rows, self._shapes = packed(made)
                self.parts.append(Part(row, len(rows) - self.excerpts.overhang))
                yield rows

    def features(self, part: int, start: int = 0, length: int | None = None) -> Any:
        """Features [C, F, T] of a part, from frame ``start``, filled where it is shorter."""
        total = self.parts[part].units + self.excerpts.overhang
        length = total if length is None else length + self.excerpts.overhang
        stop = min(start + length, total)
        first = self._offsets[part]
        flat = self._flat[first + start * self._rows : first + stop * self._rows]
        rows = flat.reshape(stop - start, self._rows)
        if (missing := length - (stop - start)) > 0:
            whole = self._flat[first : first + total * self._rows].reshape(total, self._rows)
            rows = np.concatenate([rows, self._filling(whole, missing)])
        return unpacked(rows, self._shapes)

    def _filling(self, whole: np.ndarray, missing: int) -> np.ndarray:
        """Rows [missing, R] that fill a part of rows ``whole`` [T, R] at its end."""
        if self.excerpts.short == "repeat":
            return np.resize(whole, (missing, self._rows))
        fill = np.zeros(self._rows, np.float32)
        if self.excerpts.short == "minimum":
            fill = self._by_front_end(whole)
        if self.excerpts.short == "absent":
            fill[:] = np.nan
        return np.tile(fill, (missing, 1))

    def _by_front_end(self, rows: np.ndarray) -> np.ndarray:
        """The minimum of each front end's features, at each of its rows."""
        fill, at = np.empty(self._rows, np.float32), 0
        for channels, bands in self._shapes.values():
            fill[at : at + channels * bands] = rows[:, at : at + channels * bands].min()
            at += channels * bands
        return fill

    def cut(self, places: Sequence[tuple[int, int, int]]) -> Any:
        longest = max(length for _, _, length in places)
        made = [self.features(part, start, longest) for part, start, _ in places]
        return each(lambda *ones: torch.from_numpy(np.stack(ones)), *made)


class Examples:
    """The excerpts that a training draws from: one of each part, or all windows.

    ``clip`` [E] is the row of the clip of each example.
    """

    def __init__(self, track: Track, excerpts: Excerpts, length: int, grid: int = 1) -> None:
        self.track = track
        self.length = length
        self.grid = grid
        self._places: list[tuple[int, int | None]] = []
        for place, part in enumerate(track.parts):
            starts: Sequence[int | None] = (None,)
            if excerpts.train == "start":
                starts = (0,)
            elif excerpts.train == "windows":
                starts = excerpts.starts(part.units, length, grid)
            self._places += [(place, start) for start in starts]
        self.clip = np.array([track.parts[part].clip for part, _ in self._places], np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def batch(
        self, rows: Sequence[int] | np.ndarray, generator: np.random.Generator | None = None
    ) -> tuple[Any, np.ndarray]:
        """Examples by index, and where each begins; without a generator at the beginning."""
        places, starts = [], []
        for row in rows:
            part, start = self._places[row]
            if start is None:
                spare = (self.track.parts[part].units - self.length) // self.grid
                drawn = int(generator.integers(spare + 1)) if generator and spare > 0 else 0
                start = drawn * self.grid
            places.append((part, start, self.length))
            starts.append(start)
        return self.track.cut(places), np.array(starts, np.int64)


def batches(count: int, size: int) -> Iterator[range]:
    """Indices below ``count`` in order, ``size`` at a time."""
    for start in range(0, count, size):
        yield range(start, min(count, start + size))
