"""The waveform store: every clip decoded, mixed and resampled once, for all trials of a node.

One flat float32 array on disk, memory-mapped, so that trials share it through the page cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soxr

from systems.data.dataset import AUDIO, Dataset, Source
from systems.data.files import MEND, broken_lines, fault
from systems.data.sharing import sound_digest
from systems.errors import UserError
from systems.files import lock, write_whole
from systems.machine import cores

# Like ``map``, but results may come in any order: each says what it is of.
Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
CHUNK = 16  # clips a worker decodes before it says so
FLAT = "waveforms.f32"
BYTES = 4  # of a float32 sample
Channels = Literal["mono", "stereo"]
COUNT: dict[Channels, int] = {"mono": 1, "stereo": 2}


@dataclass(frozen=True)
class WaveformStore:
    """Read access to a finished store. ``rate`` is in Hz; waveforms are float32, mono [S] or stereo
    [2, S]."""

    folder: str
    rate: int
    channels: Channels = "mono"

    # Opened when it is first read: where a task arrives, the folder may still have to be fetched.
    @cached_property
    def _index(self) -> dict[str, tuple[int, int, str]]:
        index = json.loads((Path(self.folder) / "index.json").read_text())
        places = zip(index["clips"], index["digests"], strict=True)
        return {i: (a, b, digest) for (i, a, b), digest in places}

    @cached_property
    def _flat(self) -> np.ndarray:
        return np.memmap(Path(self.folder) / FLAT, dtype=np.float32, mode="r")

    def __getitem__(self, clip_id: str) -> np.ndarray:
        """The waveform [S] or [2, S] of a clip."""
        start, stop, _ = self._index[clip_id]
        waveform: np.ndarray = self._flat[start:stop]
        return waveform if self.channels == "mono" else waveform.reshape(COUNT[self.channels], -1)

    def __reduce__(self) -> tuple[Any, ...]:
        return WaveformStore, (self.folder, self.rate, self.channels)

    def duration(self, clip_id: str) -> float:
        """Length of a clip in seconds."""
        return self[clip_id].shape[-1] / self.rate

    def digest(self, clip_id: str) -> str:
        """A digest of a clip's decoded sound, before it was resampled."""
        return self._index[clip_id][2]

    def parts(self, clip_id: str) -> tuple[np.ndarray, ...]:
        """What is heard of a clip: all of it."""
        return (self[clip_id],)

    def piece(self, clip_id: str, part: int, start: int, length: int) -> np.ndarray:
        """Of that what lies at ``start``, at most ``length`` samples."""
        return self[clip_id][..., start : start + length]


def process_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """The default ``map``: a pool of processes, one a core that this one may use."""
    with ProcessPoolExecutor(cores()) as pool:
        yield from pool.map(function, items)


def store_key(
    dataset: Dataset, clip_ids: Sequence[str], rate: int, channels: Channels = "mono",
    track: str = AUDIO,
) -> str:  # fmt: skip
    """What a store is known by: sound, clips, rate, channels, track. Labels are no part of it."""
    of = "" if track == AUDIO else f"|{track}"
    digest = hashlib.sha256(f"{rate}|{channels}|float32|digests{of}\n".encode())
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
    channels: Channels = "mono",
    track: str = AUDIO,
) -> WaveformStore:
    """Open the store of these clips, building what is missing of it.

    Args:
        dataset: the data set whose source is read.
        clip_ids: the clips to hold.
        rate: sampling rate in Hz.
        root: folder of all stores.
        map_: runs the decoding in parallel; a process pool unless told otherwise.
        progress: called with the number of clips done and the total.
        channels: ``stereo`` keeps both channels; a mono file gives both.
        track: of the clips. One that is not the clip itself may be silent.

    A killed build goes on where it stopped; of two builds at once the second waits for the first.

    Raises:
        UserError: clips that are silent or cannot be decoded (one error names all, and nothing of
            the store is kept), or a full disk (what is done is kept).
    """
    folder = root / store_key(dataset, clip_ids, rate, channels, track)
    if not (folder / "index.json").exists():
        length = {clip.clip_id: clip.duration for clip in dataset.clips}
        places = _layout([(i, length[i]) for i in clip_ids], rate, COUNT[channels])
        with _writing(folder, places):
            root.mkdir(parents=True, exist_ok=True)
            guard = open(root / f"{folder.name}.lock", "w")  # noqa: SIM115
        with guard:
            with _writing(folder, places):
                lock(guard)
            if not (folder / "index.json").exists():
                decode = _Decode(dataset.source, rate, channels, str(folder / FLAT), track)
                _build(dataset, places, decode, folder, map_, progress)
    return WaveformStore(str(folder), rate, channels)


class Place(NamedTuple):
    """Where a clip lies in the store: samples ``start`` to ``stop``, channel after channel; its
    length in seconds."""

    clip_id: str
    start: int
    stop: int
    seconds: float


def _layout(clips: Sequence[tuple[str, float]], rate: int, channels: int) -> list[Place]:
    sizes = [round(seconds * rate) * channels for _, seconds in clips]
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    starts = [0, *ends[:-1]]
    return [Place(i, a, b, s) for (i, s), a, b in zip(clips, starts, ends, strict=True)]


def _build(
    dataset: Dataset, places: list[Place], decode: _Decode, folder: Path, map_: Map, progress: Any
) -> None:
    flat, done_log = folder / FLAT, folder / "done.txt"
    with _writing(folder, places):
        folder.mkdir(exist_ok=True)
        with open(flat, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, places[-1].stop) * BYTES)
        log = open(done_log, "a")  # noqa: SIM115
    digests = _done(done_log)
    chunks = _missing_chunks(places, digests)
    finished = len(places) - sum(len(chunk) for _, chunk in chunks)
    progress(finished, len(places))
    broken: list[tuple[str, str]] = []
    with log:
        for decoded in map_(decode, chunks):
            broken += decoded.broken
            if not decoded.broken:
                with _writing(folder, places):
                    log.write(f"<{decoded.chunk} {','.join(decoded.digests)}>\n")
                    log.flush()
                digests[decoded.chunk] = decoded.digests
            finished += decoded.clips
            progress(finished, len(places))
    if broken:
        done_log.unlink()  # first: no later build may believe it
        shutil.rmtree(folder)
        raise UserError(
            f"{len(broken)} of {len(places)} clips of {dataset.name} cannot be used:\n"
            f"{broken_lines(sorted(broken))}\n{MEND}"
        )
    index = {"rate": decode.rate, "clips": [place[:3] for place in places],
             "digests": [digest for k in sorted(digests) for digest in digests[k]]}  # fmt: skip
    with _writing(folder, places):
        write_whole(folder / "index.json", json.dumps(index))
        done_log.unlink()


def _done(done_log: Path) -> dict[int, tuple[str, ...]]:
    """The numbered chunks that an earlier build finished, with their clips' digests."""
    # "<k ...>", not a line: nothing is read of an entry that a kill or a full disk has cut.
    found = re.findall(r"<(\d+) ([0-9a-f,]+)>", done_log.read_text())
    return {int(k): tuple(digests.split(",")) for k, digests in found}


def _missing_chunks(places: list[Place], done: Collection[int]) -> list[tuple[int, list[Place]]]:
    return [
        (k, places[start : start + CHUNK])
        for k, start in enumerate(range(0, len(places), CHUNK))
        if k not in done
    ]


@contextlib.contextmanager
def _writing(folder: Path, places: list[Place]) -> Iterator[None]:
    """Only what writes the store is told as such: what the map fails with is another's fault."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error, places[-1].stop * BYTES) from error


def unwritable(folder: Path, error: OSError, needed: int = 0) -> UserError:
    """The error for a store that cannot be written; ``needed`` is its size in bytes, if known.

    Workers raise it themselves: an OSError that comes from a Ray task has lost its ``errno``.
    """
    what = f"the waveform store {folder} cannot be written: {error.strerror or error}."
    if error.errno != errno.ENOSPC:
        return UserError(what)
    size = f" It needs {needed:,} bytes in all." if needed else ""
    return UserError(f"{what}{size} Make room, or name another --storage; what is decoded is kept.")


class Decoded(NamedTuple):
    """What a worker did: a chunk, how many clips it has, those that are broken, with why, and the
    digest of each clip's sound."""

    chunk: int
    clips: int
    broken: tuple[tuple[str, str], ...]
    digests: tuple[str, ...]


@dataclass(frozen=True)
class _Decode:
    source: Source
    rate: int
    channels: Channels
    flat: str
    track: str

    def __call__(self, chunk: tuple[int, list[Place]]) -> Decoded:
        k, places = chunk
        broken: list[tuple[str, str]] = []
        digests = []
        try:
            # Not a memory map: there a full disk would kill the process.
            with open(self.flat, "r+b") as file:
                for place in places:
                    waveform, digest, why = self._waveform(place)
                    digests.append(digest)
                    if why:
                        of = "" if self.track == AUDIO else f" ({self.track})"
                        broken.append((f"{self.source.where(place.clip_id)}{of}", why))
                    file.seek(place.start * BYTES)
                    file.write(waveform.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            needed = os.path.getsize(self.flat)
            raise unwritable(Path(self.flat).parent, error, needed) from error
        return Decoded(k, len(places), tuple(broken), tuple(digests))

    def _waveform(self, place: Place) -> tuple[np.ndarray, str, str]:
        """The waveform of a clip, the digest of its sound as it was decoded, and why it cannot be
        used, or an empty string."""
        channels = COUNT[self.channels]
        fitted = np.zeros((channels, (place.stop - place.start) // channels), np.float32)
        try:
            samples, rate = self.source.read(place.clip_id, self.track)
        except UserError as error:
            return fitted, "", str(error).removeprefix(f"{self.source.where(place.clip_id)} ")
        mono, silence = self.channels == "mono", self.track != AUDIO
        why = fault(samples, rate, place.seconds, mono, silence)
        why = why or too_many(samples, self.channels)
        if why:
            return fitted, "", why
        waveform = mixed(samples, rate, self.rate, self.channels)[..., : fitted.shape[1]]
        fitted[:, : waveform.shape[-1]] = waveform
        return fitted, sound_digest(samples, rate), ""


def too_many(samples: np.ndarray, channels: Channels) -> str:
    """Why sound [C, S] cannot be stereo, or an empty string."""
    if channels == "mono" or len(samples) <= 2:
        return ""
    return f"has {len(samples)} channels: the system hears the two of stereo"


def mixed(samples: np.ndarray, source_rate: int, rate: int, channels: Channels) -> np.ndarray:
    """Sound [C, S] as a system takes it: mono [S'] or stereo [2, S'] at another rate."""
    if channels == "mono":
        return load_mono(samples, source_rate, rate)
    both = [load_mono(samples[c : c + 1], source_rate, rate) for c in (0, len(samples) - 1)]
    return np.stack(both)


def to_mono(waveform: np.ndarray) -> np.ndarray:
    """A waveform [S] or [2, S] of a store as mono [S]."""
    return waveform.mean(axis=0) if waveform.ndim > 1 else waveform


def load_mono(samples: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Mix [C, S] down to mono by the mean and resample it (soxr, very high quality) to [S']."""
    mono = samples.mean(axis=0) if len(samples) > 1 else samples[0]
    if source_rate == rate:
        return mono
    resampled: np.ndarray = soxr.resample(mono, source_rate, rate, quality="VHQ")
    return resampled
