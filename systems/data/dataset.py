"""What a data set is: clips in parts and roles, labels of a stated kind, and a source of sound.

A reader turns a public archive, as it lies on users' disks, into a :class:`Dataset`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from systems.errors import UserError

LabelKind = Literal[
    "none",
    "class",
    "tags",
    "events",
    "sequence",
    "values",
    "series",
    "direction",
    "relevance",
    "withheld",
]
Role = Literal["labelled", "unlabelled", "out_of_domain", "query", "gallery", "template"]
AUDIO = "audio"  # the track that is a clip itself
SEARCHED: tuple[Role, ...] = (
    "gallery",
    "template",
)  # roles whose clips are the columns of the answers, all of them


class Event(NamedTuple):
    """A sound event: onset and offset in seconds, and its class."""

    onset: float
    offset: float
    label: str


# Published tables round to the millisecond, and some clips are cut a frame short.
EVENT_TOLERANCE = 0.1  # s


def event_fault(onset: str, offset: str, duration: float) -> str:
    """Why the times of an event, as a table has them (s), cannot be right, or an empty string."""
    try:
        start, stop = float(onset), float(offset)
    except (TypeError, ValueError):
        return f"onset '{onset}' or offset '{offset}' is no number of seconds"
    if start >= stop:
        return f"onset {onset} does not come before offset {offset}"
    if not 0 <= start < stop <= duration + EVENT_TOLERANCE:
        return f"event {onset} to {offset} s does not lie in its clip of {duration:.3f} s"
    return ""


@dataclass(frozen=True)
class Clip:
    """One item of a data set.

    ``group`` (speaker, location, recording) is never split over folds; ``duration`` is in seconds;
    ``columns`` carries free columns such as ``manually_verified`` or ``device``.
    """

    clip_id: str
    part: str
    role: Role
    group: str
    duration: float
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """The labels of one part.

    ``values[clip_id]`` is, by kind: ``class`` a name; ``tags`` a tuple of names; ``events`` a tuple
    of :class:`Event`; ``sequence`` a tuple of names in order (or several such references);
    ``values`` a number or D of them; ``series`` an array [T, D]; ``direction`` degrees;
    ``relevance`` a tuple of item ids of all that are searched, or item id -> 1 or 0 of those that
    this query searches. ``columns[clip_id]`` holds columns that are published with
    the labels and no earlier, such as ``usage`` (the public or private part of a leaderboard).
    """

    kind: LabelKind
    values: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def tag_matrix(self, clip_ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
        """Clip-level targets [N, K] in {0, 1}, from a class, tags or events."""
        column = {name: k for k, name in enumerate(classes)}
        matrix = np.zeros((len(clip_ids), len(classes)), dtype=np.float32)
        for row, clip_id in enumerate(clip_ids):
            for name in self._names(clip_id):
                matrix[row, column[name]] = 1.0
        return matrix

    def _names(self, clip_id: str) -> Iterable[str]:
        value = self.values[clip_id]
        if self.kind == "class":
            return (value,)
        if self.kind == "events":
            return {event.label for event in value}
        if self.kind in ("tags", "sequence"):
            return value
        raise UserError(f"labels of kind '{self.kind}' have no tags.")


class Source(Protocol):
    """Where the sound of a clip comes from: a file, a rendering, released embeddings.

    It is picklable, since the waveform store reads it from several processes. A clip may have
    further tracks, each as long as itself: the sound of one source of a scene, or what is known of
    the clip at each moment (where events lie, what listeners said), as samples at some rate.
    """

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Return samples [C, S] as float32 in -1..1 and their rate in Hz."""
        ...

    def identity(self) -> Iterable[str]:
        """One line per item (name, size, time of change) for the fingerprint."""
        ...

    def where(self, clip_id: str) -> str:
        """What a message calls the sound of a clip, such as its path."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Clips, their labels and their sound.

    ``sealed`` holds the labels of test parts as functions: they are opened by
    :meth:`open_sealed` alone, which records each opening before it returns. ``tables`` has a line
    (name, size, time of change) for each file that labels were read from. ``folds[clip_id]`` names
    the fold of each labelled training clip, where the user made folds. ``label_hop``: seconds a
    step of a series, step t starting at ``t * label_hop``; 0 where labels are of whole clips.
    ``skipped`` are the broken files that were left out (path, why) and ``notes`` what the reader
    decided by itself. ``calibration``: dB SPL of sound whose RMS is 1; ``None``: nobody knows.

    ``test_part`` may be ``None``: then what was predicted out of fold is the result.
    ``also_tested`` are further parts that are predicted and scored, each by itself. The labels of a
    test part may be withheld (``sealed_kind[part] == "withheld"``): it is predicted, and the
    reader's ``write_submission(dataset, predictions, folder)`` writes what the organisers score.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    labels: Mapping[str, Labels]
    sealed: Mapping[str, Callable[[], Labels]]
    sealed_kind: Mapping[str, LabelKind]
    source: Source
    test_part: str | None = "test"
    also_tested: tuple[str, ...] = ()
    official_validation: str | None = None
    tables: tuple[str, ...] = ()
    folds: Mapping[str, str] | None = None
    label_hop: float = 0.0
    calibration: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def part(self, name: str) -> tuple[Clip, ...]:
        """The clips of one part, in order."""
        return tuple(clip for clip in self.clips if clip.part == name)

    def parts(self) -> tuple[str, ...]:
        """The names of the parts in order of appearance."""
        return tuple(dict.fromkeys(clip.part for clip in self.clips))

    def role(self, name: str) -> tuple[Clip, ...]:
        """The training clips of one role (test parts have roles too and are left out)."""
        held_back = {*self.sealed, *self.sealed_kind, *self.test_parts, self.official_validation}
        return tuple(c for c in self.clips if c.role == name and c.part not in held_back)

    @property
    def test_parts(self) -> tuple[str, ...]:
        """The parts that final models predict, the main one first."""
        return () if self.test_part is None else (self.test_part, *self.also_tested)

    def test_clips(self) -> tuple[Clip, ...]:
        """The clips of these parts, part after part."""
        return tuple(clip for part in self.test_parts for clip in self.part(part))

    def withholds(self, part: str) -> bool:
        """Whether a part's labels are the organisers' alone."""
        return self.sealed_kind.get(part) == "withheld"

    def label_kind(self, part: str) -> LabelKind:
        """The kind of a part's labels; known without opening them."""
        if part in self.sealed_kind:
            return self.sealed_kind[part]
        return self.labels[part].kind if part in self.labels else "none"

    def open_sealed(self, part: str, record: Callable[[], None]) -> Labels:
        """Open a test part's labels. ``record`` writes the ledger entry and is called first."""
        if part not in self.sealed:
            raise UserError(f"{self.name} has no sealed part '{part}'.")
        record()
        return self.sealed[part]()

    def sealed_digest(self, part: str, sound: Callable[[str], str]) -> str:
        """A digest of what a sealed part is: its sound, of which ``sound`` gives a clip's digest,
        and its labels, whatever the clips are called and wherever they lie. Nothing else of the
        labels leaves."""
        labels = self.sealed[part]()
        lines = [f"{sound(c.clip_id)}|{_canonical(labels.values[c.clip_id], labels.kind)}"
                 for c in self.part(part)]  # fmt: skip
        return hashlib.sha256("\n".join((labels.kind, *sorted(lines))).encode()).hexdigest()[:32]

    def fingerprint(self) -> str:
        """A digest of classes, parts, and name, size and time of change of each item and table."""
        digest = hashlib.sha256()
        for line in (self.name, *self.classes, *self.tables, *self.source.identity()):
            digest.update(line.encode() + b"\n")
        for clip in self.clips:
            digest.update(f"{clip.clip_id}|{clip.part}|{clip.role}\n".encode())
        return digest.hexdigest()[:16]


def _canonical(value: Any, kind: LabelKind) -> str:
    """A label as text: the order of tags or events tells nothing."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.asarray(value, float).tobytes()).hexdigest()
    if isinstance(value, tuple) and kind != "sequence":
        return repr(sorted(value))
    return repr(value)


def rows_of_clips(clips: np.ndarray, lengths: Sequence[int] | None) -> np.ndarray:
    """The rows [n] of some clips, by place; ``lengths`` are T of every clip, ``None``: all 1."""
    if lengths is None:
        return clips
    first = np.cumsum([0, *lengths])
    rows = [np.arange(first[clip], first[clip + 1]) for clip in clips]
    return np.concatenate([np.zeros(0, int), *rows])


@dataclass(frozen=True)
class ClipSet:
    """Some clips and, where they may be seen, their targets: clip-level [N, K], or of series.

    Rows of a series are the steps of its clips: ``targets`` [ΣT, D], ``lengths`` T of each clip
    (``None``: a row a clip). ``columns`` are the clips' free columns, N. ``judged`` [N]: the clips
    that metrics are of and that choose epochs; ``None``: all. ``events``: of each clip, where the
    labels are timed. ``weights`` [N]: of a clip in the loss; ``None``: all count the same.
    ``groups``: of each clip, N, which intervals draw whole.
    """

    clip_ids: tuple[str, ...]
    targets: np.ndarray | None = None
    lengths: tuple[int, ...] | None = None
    columns: tuple[Mapping[str, Any], ...] = ()
    judged: np.ndarray | None = None
    events: tuple[tuple[Event, ...], ...] | None = None
    weights: np.ndarray | None = None
    groups: tuple[str, ...] = ()

    def counting(self) -> np.ndarray:
        """The places [n] of the clips that metrics are of."""
        every = np.arange(len(self.clip_ids))
        return every if self.judged is None else every[self.judged]

    def some(self, where: np.ndarray) -> ClipSet:
        """Some of the clips, by place [n], with all that is known of them."""

        def of(values: Any, places: np.ndarray = where) -> Any:
            if values is None or not len(values):
                return values
            if isinstance(values, np.ndarray):
                return values[places]
            return tuple(values[i] for i in places)

        return ClipSet(
            of(self.clip_ids), of(self.targets, rows_of_clips(where, self.lengths)),
            of(self.lengths), of(self.columns), of(self.judged), of(self.events), of(self.weights),
            of(self.groups),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.clip_ids)


class Reader(Protocol):
    """Reads a data set from a folder (``None``: the set is embedded).

    ``skip_broken`` leaves broken files out and lists them in ``Dataset.skipped``.
    """

    def __call__(self, folder: str | None, skip_broken: bool = False) -> Dataset: ...
