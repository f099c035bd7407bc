"""The storage root: runs, waveform stores, the ledger and the MLflow store lie below it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.runs.files import disk_is_full
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


def root_of(storage: str | Path) -> Path:
    """The storage root as an absolute path."""
    return Path(storage).expanduser().resolve()


def writable(root: Path) -> None:
    """Make the storage root. Raises UserError where that cannot be, or nothing can be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the storage root {root} cannot be made: {error.strerror}.") from error
    if not os.access(root, os.W_OK):
        raise UserError(f"no permission to write in the storage root {root}.")


def find_run(name: str | Path, storage: str | Path) -> RunDir:
    """The run of this folder or name. Raises UserError where there is none."""
    candidates = [Path(name).expanduser(), Path(storage).expanduser() / name]
    with contextlib.suppress(OSError):  # a name that no file can have: too long, say
        for path in candidates:
            if (path / "plan.json").exists():
                return RunDir(path.resolve())
    raise UserError(
        f"no run '{name}': neither {candidates[0]} nor {candidates[1]} has a plan.json."
    )


@contextlib.contextmanager
def full_disk_is_told(folder: RunDir) -> Iterator[None]:
    """Turn a full disk into one message, wherever in a run it is met."""
    try:
        yield
    except OSError as error:
        full = disk_is_full(error, folder.path)
        raise UserError(full) if full else error from error
