"""The waveform store: every clip decoded, mixed down and resampled once, for all trials of a node.

One flat float32 array on disk, memory-mapped, so that trials share it through the page cache.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from systems.data.dataset import Dataset, Source
from systems.data.files import MEND, broken_lines, fault
from systems.errors import UserError
from systems.files import write_whole
from systems.machine import cores

# Like ``map``, but results may come in any order: each says what it is of.
Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
CHUNK = 16  # clips a worker decodes before it says so
BYTES = 4  # of a float32 sample


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

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        """What is heard of a clip: all of it."""
        return (self[clip_id],)

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        """Of that what lies at ``start``, at most ``length`` samples."""
        return self[clip_id][start : start + length]


def process_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """The default ``map``: a pool of processes, one a core that this one may use."""
    with ProcessPoolExecutor(cores()) as pool:
        yield from pool.map(function, items)


def store_key(dataset: Dataset, clip_ids: Sequence[str], rate: int) -> str:
    """What a store is known by: sound, clips, rate, channels. Labels are no part of it."""
    digest = hashlib.sha256(f"{rate}|mono|float32\n".encode())
    for line in (*dataset.source.identity(), *clip_ids):
        digest.update(line.encode() + b"\n")
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
        UserError: clips that are silent or cannot be decoded (one error names all, and nothing of
            the store is kept), or a full disk (what is done is kept).
    """
    folder = root / store_key(dataset, clip_ids, rate)
    if not (folder / "index.json").exists():
        length = {clip.clip_id: clip.duration for clip in dataset.clips}
        places = _layout([(clip_id, length[clip_id]) for clip_id in clip_ids], rate)
        with _writing(folder, places):
            root.mkdir(parents=True, exist_ok=True)
            lock = open(root / f"{folder.name}.lock", "w")  # noqa: SIM115
        with lock:
            with _writing(folder, places):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "index.json").exists():
                _build(dataset, places, rate, folder, map_, progress)
    return WaveformStore(str(folder), rate)


class Place(NamedTuple):
    """Where a clip lies in the store: samples ``start`` to ``stop``; its length in seconds."""

    clip_id: str
    start: int
    stop: int
    seconds: float


def _layout(clips: Sequence[tuple[str, float]], rate: int) -> list[Place]:
    ends = np.cumsum([round(seconds * rate) for _, seconds in clips], dtype=np.int64).tolist()
    starts = [0, *ends[:-1]]
    return [Place(i, a, b, s) for (i, s), a, b in zip(clips, starts, ends, strict=True)]


def _build(
    dataset: Dataset, places: list[Place], rate: int, folder: Path, map_: Map, progress: Any
) -> None:
    flat, done_log = folder / "waveforms.f32", folder / "done.txt"
    with _writing(folder, places):
        folder.mkdir(exist_ok=True)
        with open(flat, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, places[-1].stop) * BYTES)
        log = open(done_log, "a")  # noqa: SIM115
    chunks = _missing_chunks(places, done_log)
    finished = len(places) - sum(len(chunk) for _, chunk in chunks)
    progress(finished, len(places))
    broken: list[tuple[str, str]] = []
    with log:
        for decoded in map_(_Decode(dataset.source, rate, str(flat)), chunks):
            broken += decoded.broken
            if not decoded.broken:
                with _writing(folder, places):
                    log.write(f"<{decoded.chunk}>\n")
                    log.flush()
            finished += decoded.clips
            progress(finished, len(places))
    if broken:
        done_log.unlink()  # first: no later build may believe it
        shutil.rmtree(folder)
        raise UserError(
            f"{len(broken)} of {len(places)} clips of {dataset.name} cannot be used:\n"
            f"{broken_lines(sorted(broken))}\n{MEND}"
        )
    clips = [place[:3] for place in places]
    with _writing(folder, places):
        write_whole(folder / "index.json", json.dumps({"rate": rate, "clips": clips}))
        done_log.unlink()


def _missing_chunks(places: list[Place], done_log: Path) -> list[tuple[int, list[Place]]]:
    """The numbered chunks that an earlier build did not finish."""
    # "<k>", not a line: nothing is read of an entry that a kill or a full disk has cut.
    done = set(re.findall(r"<(\d+)>", done_log.read_text())) if done_log.exists() else set()
    return [
        (k, places[start : start + CHUNK])
        for k, start in enumerate(range(0, len(places), CHUNK))
        if str(k) not in done
    ]


@contextlib.contextmanager
def _writing(folder: Path, places: list[Place]) -> Iterator[None]:
    """Only what writes the store is told as such: what the map fails with is another's fault."""
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, error, places[-1].stop * BYTES) from error


def _unwritable(folder: Path, error: OSError, needed: int) -> UserError:
    """The error for a store that cannot be written; ``needed`` is its whole size in bytes.

    Workers raise it themselves: an OSError that comes from a Ray task has lost its ``errno``.
    """
    what = f"the waveform store {folder} cannot be written: {error.strerror or error}."
    if error.errno != errno.ENOSPC:
        return UserError(what)
    return UserError(
        f"{what} It needs {needed:,} bytes in all. Make room, or name another --storage; what is "
        "decoded is kept."
    )


class Decoded(NamedTuple):
    """What a worker did: a chunk, how many clips it has, and those that are broken, with why."""

    chunk: int
    clips: int
    broken: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Decode:
    source: Source
    rate: int
    flat: str

    def __call__(self, chunk: tuple[int, list[Place]]) -> Decoded:
        k, places = chunk
        broken: list[tuple[str, str]] = []
        try:
            # Not a memory map: there a full disk would kill the process.
            with open(self.flat, "r+b") as file:
                for place in places:
                    waveform, why = self._waveform(place)
                    if why:
                        broken.append((self.source.where(place.clip_id), why))
                    file.seek(place.start * BYTES)
                    file.write(waveform.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            needed = os.path.getsize(self.flat)
            raise _unwritable(Path(self.flat).parent, error, needed) from error
        return Decoded(k, len(places), tuple(broken))

    def _waveform(self, place: Place) -> tuple[np.ndarray, str]:
        """The waveform [S] of a clip, and why it cannot be used, or an empty string."""
        fitted = np.zeros(place.stop - place.start, np.float32)
        try:
            samples, rate = self.source.read(place.clip_id)
        except UserError as error:
            return fitted, str(error).removeprefix(f"{self.source.where(place.clip_id)} ")
        why = fault(samples, rate, place.seconds)
        if not why:
            waveform = load_mono(samples, rate, self.rate)[: len(fitted)]
            fitted[: len(waveform)] = waveform
        return fitted, why


def load_mono(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Mix [C, S] down to mono by the mean and resample it (soxr, very high quality) to [S']."""
    mono = samples.mean(axis=0) if len(samples) > 1 else samples[0]
    if source_rate == rate:
        return mono
    resampled: np.ndarray = soxr.resample(mono, source_rate, rate, quality="VHQ")
    return resampled
