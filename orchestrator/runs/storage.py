"""The storage root: runs, waveform stores, the ledger and the MLflow store lie below it.

It is a folder, or ``s3://bucket/prefix``, of which each machine has a copy (``mirror.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.runs.files import disk_is_full
from orchestrator.runs.mirror import mirror_at, mirror_of
from orchestrator.runs.objects import SCHEME
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


def root_of(storage: str | Path, *, runs: bool = False) -> Path:
    """The storage root as an absolute path; of one in an object store that of this machine's copy.

    Args:
        storage: a folder, or ``s3://bucket/prefix``.
        runs: whether all its runs are looked at: then those in an object store are fetched.

    Raises:
        UserError: another scheme, or an object store that cannot be reached or refuses.
    """
    scheme, _, rest = str(storage).partition(":/")
    if not rest or "/" in scheme:
        return Path(storage).expanduser().resolve()
    copy = mirror_at(str(storage))
    for run in copy.runs() if runs else ():
        copy.refresh(run)
    return copy.root


def writable(root: Path) -> None:
    """Make the storage root. Raises UserError where that cannot be, or nothing can be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the storage root {root} cannot be made: {error.strerror}.") from error
    if not os.access(root, os.W_OK):
        raise UserError(f"no permission to write in the storage root {root}.")


def find_run(name: str | Path, storage: str | Path) -> RunDir:
    """The run of this folder, address or name; of an object store as it is now.

    Raises:
        UserError: there is none, or the object store cannot be reached or refuses.
    """
    if str(name).startswith(SCHEME):
        storage, _, name = str(name).rstrip("/").rpartition("/")
    candidates = [Path(name).expanduser(), root_of(storage) / name]
    with contextlib.suppress(OSError):  # a name that no file can have: too long, say
        for path in map(Path.absolute, candidates):
            if mirror_of(path.parent) is not None or (path / "plan.json").exists():
                run = RunDir(path.resolve())
                run.refresh()
                if run.plan_file.exists():
                    return run
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
