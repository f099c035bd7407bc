"""The waveform store: every clip decoded, mixed down and resampled once, for all trials of a node.

One flat float32 array on disk, memory-mapped, so that trials share it through the page cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from systems.data.dataset import Dataset
from systems.errors import UserError

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
CHUNK = 16  # clips a worker decodes before it says so


@dataclass(frozen=True)
class WaveformStore:
    """Read access to a finished store. ``rate`` is in Hz; waveforms are mono float32 [S]."""

    folder: str
    rate: int

    def __post_init__(self) -> None:
        index = json.loads((Path(self.folder) / "index.json").read_text())
        object.__setattr__(self, "_place", {i: (a, b) for i, a, b in index["clips"]})
        flat = np.memmap(Path(self.folder) / "waveforms.f32", dtype=np.float32, mode="r")
        object.__setattr__(self, "_flat", flat)

    def __getitem__(self, clip_id: str) -> np.ndarray:
        """The waveform [S] of a clip."""
        start, stop = self._place[clip_id]  # type: ignore[attr-defined]
        waveform: np.ndarray = self._flat[start:stop]  # type: ignore[attr-defined]
        return waveform

    def __reduce__(self) -> tuple[Any, ...]:
        return WaveformStore, (self.folder, self.rate)

    def duration(self, clip_id: str) -> float:
        """Length of a clip in seconds."""
        return len(self[clip_id]) / self.rate


def process_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """The default ``map``: a pool of processes, one a core."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, items)


def store_key(dataset: Dataset, clip_ids: Sequence[str], rate: int) -> str:
    """What a store is known by: content, clips, rate, channels."""
    digest = hashlib.sha256(f"{dataset.fingerprint()}|{rate}|mono|float32".encode())
    digest.update("|".join(clip_ids).encode())
    return f"{dataset.name}-{rate}-{digest.hexdigest()[:12]}"


def open_store(
    dataset: Dataset,
    clip_ids: Sequence[str],
    rate: int,
    root: Path,
    map_: Map = process_map,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WaveformStore:
    """Open the store of these clips, building what is missing of it.

    Args:
        dataset: the data set whose source is read.
        clip_ids: the clips to hold.
        rate: sampling rate in Hz.
        root: folder of all stores.
        map_: runs the decoding in parallel; a process pool unless told otherwise.
        progress: called with the number of clips done and the total.

    A killed build goes on where it stopped; of two builds at once the second waits for the first.

    Raises:
        UserError: a file that cannot be decoded, or a full disk.
    """
    folder = root / store_key(dataset, clip_ids, rate)
    if not (folder / "index.json").exists():
        root.mkdir(parents=True, exist_ok=True)
        with open(root / f"{folder.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "index.json").exists():
                _build(dataset, clip_ids, rate, folder, map_, progress)
    return WaveformStore(str(folder), rate)


def _build(
    dataset: Dataset, clip_ids: Sequence[str], rate: int, folder: Path, map_: Map, progress: Any
) -> None:
    length = {clip.clip_id: round(clip.duration * rate) for clip in dataset.clips}
    ends = np.cumsum([length[i] for i in clip_ids])
    places = [(i, int(end - length[i]), int(end)) for i, end in zip(clip_ids, ends, strict=True)]
    folder.mkdir(exist_ok=True)
    flat, done_log = folder / "waveforms.f32", folder / "done.txt"
    try:
        with open(flat, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(4, 4 * int(ends[-1])))
        done = set(done_log.read_text().split()) if done_log.exists() else set()
        chunks = [
            (k, places[start : start + CHUNK])
            for k, start in enumerate(range(0, len(places), CHUNK))
            if str(k) not in done
        ]
        finished = len(places) - sum(len(chunk) for _, chunk in chunks)
        progress(finished, len(places))
        job = _Decode(dataset, rate, str(flat))
        with open(done_log, "a") as log:
            for k, count in map_(job, chunks):
                log.write(f"{k}\n")
                log.flush()
                finished += count
                progress(finished, len(places))
        temporary = folder / "index.json.new"
        temporary.write_text(json.dumps({"rate": rate, "clips": places}))
        os.replace(temporary, folder / "index.json")
        done_log.unlink()
    except OSError as error:
        raise UserError(
            f"the waveform store {folder} cannot be written: {error.strerror}"
        ) from error


@dataclass(frozen=True)
class _Decode:
    dataset: Dataset
    rate: int
    flat: str

    def __call__(self, chunk: tuple[int, list[tuple[str, int, int]]]) -> tuple[int, int]:
        k, places = chunk
        target = np.memmap(self.flat, dtype=np.float32, mode="r+")
        for clip_id, start, stop in places:
            waveform = load_mono(*self.dataset.source.read(clip_id), self.rate)
            fitted = np.zeros(stop - start, np.float32)
            fitted[: len(waveform)] = waveform[: stop - start]
            target[start:stop] = fitted
        target.flush()
        return k, len(places)


def load_mono(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Mix [C, S] down to mono by the mean and resample it (soxr, very high quality) to [S']."""
    mono = samples.mean(axis=0) if len(samples) > 1 else samples[0]
    if source_rate == rate:
        return mono
    resampled: np.ndarray = soxr.resample(mono, source_rate, rate, quality="VHQ")
    return resampled
