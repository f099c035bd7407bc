"""What the last sync of a run left in its ``tracking.json``, so that the next one need not look.

A sync that finds the files of the run as they were, and in the store as many runs as it left with
their artifacts, opens nothing: neither mlflow nor torch is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.moved import artifacts_are_there
from orchestrator.tracking.names import TAG, table_page

FILE = "tracking.json"
SHOWN = ("*.json", "study.log", "trials/*/metrics.jsonl", "trials/*/*.json",
         "trials/*/attempts/*.json", "trials/*/refit/predictions/*", "stack/*/*",
         "stack/*/search/final/*", "report/*")  # fmt: skip


@dataclass(frozen=True)
class Synced:
    """What a sync brought up to date; ``uri`` is without a password."""

    uri: str
    experiment: str
    experiment_id: str
    parent_run_id: str
    children: int

    @property
    def page(self) -> str:
        """The address of the experiment's table; an SQLite store's once ``mlflow ui`` serves it."""
        server = self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{server.rstrip('/')}/{table_page(self.experiment_id)}"


def signature(run: RunDir) -> list[tuple[str, int, int]]:
    """Names, times and sizes of the files that are shown."""
    found = []
    for path in itertools.chain.from_iterable(map(run.path.glob, SHOWN)):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found.append((str(path.relative_to(run.path)), stat.st_mtime_ns, stat.st_size))
    return sorted(one for one in found if one[0] != FILE)


def state_of(run: RunDir, uri: str, driving: bool) -> str:
    """A digest of all that a sync depends on."""
    about = (signature(run), str(run.path.resolve()), uri, driving, _version())
    return hashlib.sha256(repr(about).encode()).hexdigest()


def note(run: RunDir, state: str, synced: Synced, models: Iterable[str]) -> None:
    """Keep what a sync of this state has shown."""
    about = {"state": state, "synced": asdict(synced), "models": sorted(models)}
    write_json(run.path / FILE, about)


def noted(run: RunDir, state: str, uri: str, models: Iterable[str]) -> Synced | None:
    """What the last sync showed, if nothing has changed since, here or in an SQLite store."""
    try:
        about = read_json(run.path / FILE)
        synced = Synced(**about["synced"])
        if about["state"] != state or not set(models) <= set(about["models"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):  # none, or one of another version
        return None
    run_id = read_json(run.plan_file)["run_id"]
    if _runs_in(uri, run_id) != 1 + synced.children or not artifacts_are_there(uri, run_id):
        return None
    return synced


def _runs_in(uri: str, run_id: str) -> int | None:
    """How many runs of a run directory an SQLite store shows; ``None`` where it cannot be told."""
    if not uri.startswith("sqlite:///"):
        return None
    question = (
        "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE tags.key = ? "
        "AND tags.value = ? AND runs.lifecycle_stage = 'active'"
    )
    try:
        file = f"file:{uri.removeprefix('sqlite:///')}?mode=ro"
        with contextlib.closing(sqlite3.connect(file, uri=True)) as store:
            found: Any = store.execute(question, (TAG + "run_id", run_id)).fetchone()
    except sqlite3.Error:
        return None
    return int(found[0])


def _version() -> str:
    try:
        return version("soundsweep")
    except PackageNotFoundError:  # a checkout that is not installed
        return ""
