"""A storage root in an object store, and this machine's copy of it: a folder like any other root.

All code reads and writes the copy. What changed in it is published (:meth:`Mirror.publish`), and
what others have published is fetched (:meth:`Mirror.fetch`); a table in the copy knows what either
side was like when they were alike last.

- Of a file that is new on both sides the published one counts, but JSON lines are joined: they only
  grow, and two nodes may add to them.
- S3 renames nothing, and a kill may come between any two objects. So text (what says that something
  is whole, and the study, which tells of it) goes after all data, in the order in which it was
  written, and what is removed goes the other way round. Of a training its log goes first, which may
  be ahead of its checkpoint, and the checkpoint after what it refers to.
- A training's files are published by its own process between two epochs: at other times they do not
  belong together.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import platformdirs

from orchestrator.runs.driver import DriverFile
from orchestrator.runs.objects import LeaseObject, Objects
from systems.errors import UserError
from systems.files import lock, write_whole

FOLDER = "SOUNDSWEEP_MIRROR"  # environment: where copies lie, instead of the user's cache folder
MARK, TABLE = ".mirror.json", ".mirror.db"
OWN = ("mlflow.db", "tracking.")  # what begins so is this machine's alone
OWN_FOLDERS = ("mlartifacts", "stack.old")
TEXT = (".json", ".jsonl", ".log", ".html")
AT_ONCE = 8  # files that are sent or received at a time
LINES = ".jsonl"
LOG, CHECKPOINT = "metrics.jsonl", "checkpoint.pt"
MARKS = 4  # the turn of text that says that something is whole


class Mirror:
    """A root at ``address`` and its copy in the folder ``root``. ``id`` is the copy's own: nodes
    that share a disk have one copy."""

    def __init__(self, address: str) -> None:
        self.objects = Objects(address)
        self.address = self.objects.address
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        digest = hashlib.sha256(f"{endpoint} {self.address}".encode()).hexdigest()[:8]
        name = self.address.removeprefix("s3://").replace("/", ".")
        self.root = _folder() / f"{name[:100]}-{digest}"
        mark = self.root / MARK
        if not mark.exists():
            about = {"address": self.address, "id": uuid.uuid4().hex}
            write_whole(mark, json.dumps(about))
        self.id = str(json.loads(mark.read_text(encoding="utf-8"))["id"])

    def runs(self) -> list[str]:
        """The names of all runs that are published."""
        return [name for name in self.objects.folders() if name != "store"]

    def publish_lines(self, path: str) -> None:
        """Publish a file of JSON lines alone."""
        with self._alone(path):
            if (self.root / path).exists():
                self.join_lines(path)

    def stores(self) -> dict[str, int]:
        """The waveform stores that are published, with their bytes."""
        names = self.objects.folders("store/")
        return {name: self.objects.size(f"store/{name}/") for name in names}

    def discard(self, below: str) -> None:
        """Remove all that is published below a path, whether it is in the copy or not."""
        with self._alone(below):
            self._remove([*self.objects.tags(below)])

    def lease(self, run: str) -> LeaseObject:
        """The lease of a run's driver, by the run's name."""
        return LeaseObject(self.objects, run)

    def refresh(self, run: str) -> None:
        """Fetch a run by its name. What was written here and not published stays, unless another
        machine has driven the run since."""
        here = DriverFile(self.root / run).read().get("generation", 0)
        there = self.lease(run).read().get("generation", 0)
        self.fetch(f"{run}/", theirs=there > here)

    def fetch(self, below: str, *, theirs: bool = False) -> None:
        """Bring what is published below a path (``run/``) into the copy.

        Args:
            below: the path.
            theirs: also where the copy has changes of its own, which are lost.
        """
        with self._alone(below):
            self._fetch(below, theirs)

    def publish(self, below: str, but: str | None = None, *, training: Path | None = None) -> None:
        """Publish what has changed in the copy below a path (``run/``) since it was alike.

        Args:
            below: the path.
            but: another one, which is left out.
            training: the folder of the training that publishes. Checkpoints of others may be in the
                making: they are left to them.
        """
        with self._alone(below):
            self._publish(below, but, training)

    def _fetch(self, below: str, theirs: bool) -> None:
        there = {p: tag for p, tag in self.objects.tags(below).items() if not _is_own(p)}
        with self._table() as table:
            known = _known(table, below)
        wanted = [p for p, tag in there.items() if self._lacks(p, tag, known.get(p), theirs)]
        data, texts = _parted(wanted)
        for some in (data, texts):
            _each(self._receive, [(path, there[path]) for path in some])
        for path, (stat, _) in known.items():
            if path not in there:
                if theirs or _stat(self.root / path) == stat:
                    (self.root / path).unlink(missing_ok=True)
                self._forget([path])
        if theirs:
            for path in self._files(below):
                if path not in there:
                    (self.root / path).unlink(missing_ok=True)

    def _publish(self, below: str, but: str | None, training: Path | None) -> None:
        files = self._files(below, but)
        with self._table() as table:
            known = _known(table, below)
        if but is not None:
            known = {path: about for path, about in known.items() if not path.startswith(but)}
        changed = [p for p, (stat, _) in files.items() if known.get(p, ("", ""))[0] != stat]
        changed.sort(key=lambda path: files[path][1])
        gone = [path for path in known if path not in files]
        if training is not None:
            others = partial(self._is_anothers, training)
            changed = [path for path in changed if not others(path)]
            gone = [p for p in gone if not others(p) or not (self._folder(p) / CHECKPOINT).exists()]
        data_gone, texts_gone = _parted(gone)
        self._remove(texts_gone)
        for _, some in itertools.groupby(sorted(changed, key=_turn), _turn):
            paths = [*some]
            if _turn(paths[0]) < MARKS:
                _each(self._send, [(path,) for path in paths])
                continue
            for path in paths:
                self._send(path)
        self._remove(data_gone)

    def _folder(self, path: str) -> Path:
        return (self.root / path).parent

    def _is_anothers(self, training: Path, path: str) -> bool:
        """Whether a file is a checkpoint, and not of this training."""
        is_own = training in (self.root / path).parents
        return path.rpartition("/")[2].startswith("checkpoint") and not is_own

    def join_lines(self, path: str) -> None:
        """Make a file of JSON lines, here and there, hold the lines of both."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            found = self.objects.read(path)
            there, tag = found or (b"", None)
            with open(file, "a+b") as stream:
                lock(stream)
                stream.seek(0)
                here = stream.read()
                lines = there.splitlines(keepends=True)
                extra = list((Counter(_whole_lines(here)) - Counter(lines)).elements())
                joined = b"".join([*lines, *extra])
                if joined != here:
                    stream.truncate(0)
                    stream.write(joined)
                    stream.flush()
                stat = _stat(file)
            if extra:
                tag = self.objects.write_if(path, joined, tag)
            if tag is not None:
                self._note(path, stat, tag)
                return
            if not extra:
                return  # nothing, on either side

    def _lacks(self, path: str, tag: str, known: tuple[str, str] | None, theirs: bool) -> bool:
        """Whether an object is to be received."""
        if known is None or known[1] != tag:
            return True
        return theirs and _stat(self.root / path) != known[0]

    def _receive(self, path: str, tag: str) -> None:
        file = self.root / path
        if path.endswith(LINES) and file.exists():
            with self._table() as table:
                known = _known(table, path).get(path, ("", ""))
            if _stat(file) != known[0]:
                self.join_lines(path)
                return
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.new.{os.getpid()}.{uuid.uuid4().hex[:6]}")
        try:
            self.objects.receive(path, temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        self._note(path, _stat(file), tag)

    def _send(self, path: str) -> None:
        if path.endswith(LINES):
            self.join_lines(path)
            return
        file = self.root / path
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            stat = _stat(file)
            self._note(path, stat, self.objects.send(path, file))

    def _remove(self, paths: list[str]) -> None:
        self.objects.remove(paths)
        self._forget(paths)

    def _files(self, below: str, but: str | None = None) -> dict[str, tuple[str, int]]:
        """Path -> (state, time of the last change) of the copy's files that others may have."""
        left_out = None if but is None else str(self.root / but).rstrip("/")
        found = {}
        start = self.root / below
        for folder, folders, names in os.walk(start if below.endswith("/") else start.parent):
            folders[:] = [
                one for one in folders
                if one not in OWN_FOLDERS and str(Path(folder) / one) != left_out
            ]  # fmt: skip
            for name in names:
                file = Path(folder) / name
                path = str(file.relative_to(self.root))
                if path.startswith(below) and not _is_own(path):
                    with contextlib.suppress(FileNotFoundError):
                        found[path] = (_stat(file), file.stat().st_mtime_ns)
        return found

    @contextlib.contextmanager
    def _alone(self, below: str) -> Iterator[None]:
        """One process at a time fetches or publishes of a run: between an object and what the table
        says of it nobody may look. So the nodes' trainings fetch a store once."""
        with open(self.root / f".mirror.{below.split('/')[0]}.lock", "a") as file:
            lock(file)
            yield

    @contextlib.contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        """What was alike: path, the file's state, the object's tag. One for all processes."""
        with (
            contextlib.closing(sqlite3.connect(self.root / TABLE, timeout=60)) as table,
            table,
        ):
            table.execute(
                "CREATE TABLE IF NOT EXISTS alike (path TEXT PRIMARY KEY, state TEXT, tag TEXT)"
            )
            yield table

    def _note(self, path: str, stat: str, tag: str) -> None:
        with self._table() as table:
            table.execute("INSERT OR REPLACE INTO alike VALUES (?, ?, ?)", (path, stat, tag))

    def _forget(self, paths: Iterable[str]) -> None:
        with self._table() as table:
            table.executemany("DELETE FROM alike WHERE path = ?", [(path,) for path in paths])


@lru_cache
def mirror(address: str, folder: Path) -> Mirror:
    return Mirror(address)


def mirror_at(address: str) -> Mirror:
    """The copy of a root (``s3://bucket/prefix``) on this machine."""
    return mirror(address.rstrip("/"), _folder())


def mirror_of(root: Path) -> Mirror | None:
    """What a storage root is the copy of; ``None`` of a folder that is a root itself."""
    try:
        about = json.loads((root / MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = mirror_at(about["address"])
    if found.root != root:
        raise UserError(
            f"{root} is a copy of {found.address} that was made for another {FOLDER} or endpoint: "
            f"name --storage {found.address}."
        )
    return found


def _folder() -> Path:
    given = os.environ.get(FOLDER)
    folder = Path(given) if given else Path(platformdirs.user_cache_dir("soundsweep")) / "mirrors"
    return folder.expanduser().resolve()


def _stat(file: Path) -> str:
    """What changes with a file; nothing of one that is not there."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return ""
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ino}"


def _is_own(path: str) -> bool:
    """Whether a file is this machine's alone: locks, the lease, what is half written."""
    *folders, name = path.split("/")
    return (
        name.startswith((".mirror", "driver", *OWN))
        or name.endswith("lock")
        or ".new" in name
        or any(folder in OWN_FOLDERS for folder in folders)
    )


def _parted(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Data, and text."""
    every = list(paths)
    return [p for p in every if not p.endswith(TEXT)], [p for p in every if p.endswith(TEXT)]


def _turn(path: str) -> int:
    """When a file is published: what a training is of, its log, data, its checkpoint, marks."""
    name = path.rpartition("/")[2]
    if name == "config.json" or "/attempts/" in path:
        return 0
    return 1 if name == LOG else 3 if name == CHECKPOINT else MARKS if name.endswith(TEXT) else 2


def _known(table: sqlite3.Connection, below: str) -> dict[str, tuple[str, str]]:
    rows = table.execute(
        "SELECT path, state, tag FROM alike WHERE substr(path, 1, ?) = ?", (len(below), below)
    )
    return {path: (state, tag) for path, state, tag in rows}


def _whole_lines(text: bytes) -> list[bytes]:
    return text[: text.rfind(b"\n") + 1].splitlines(keepends=True)


def _each(function: Callable[..., None], arguments: list[tuple[str, ...]]) -> None:
    """Call a function with each, some at a time; the first error is raised."""
    if not arguments:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(arguments))) as pool:
        list(pool.map(lambda one: function(*one), arguments))
