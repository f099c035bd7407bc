"""The one driver of a run: a lease on its ``driver`` file, and a lock where there are locks.

All processes of a machine see a lock at once. Other machines may not see it, and some file systems
have none: there the lease decides (``lease.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from orchestrator.runs import lease
from orchestrator.runs.lease import Lease, Record, Superseded, driven_by, is_alive
from systems.errors import UserError
from systems.files import NO_LOCKS

TRIES, PAUSE = 10, 0.05  # of the lock: whoever looks whether a run is driven holds it for a moment
_SIZE = 400  # bytes of the file, so that it is written over at once


class Driver:
    """The driver of a run until :meth:`close` or the end of the process.

    ``note``: what a user should know about the file system; or an empty text.

    Raises:
        UserError: another process drives the run.
    """

    def __init__(self, run: Path, above: int = 0) -> None:
        """Args:
        run: the run directory.
        above: its generation is above this one.
        """
        slate = DriverFile(run)
        self._file = os.open(slate.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(self._file)
            if locked is False:
                raise UserError(driven_by(run, slate.read()))
            mine = slate.read().get("machine") == lease.machine()
            self.lease = Lease(slate, run, above=above, alone=bool(locked) and mine)
        except BaseException:
            os.close(self._file)
            raise
        self.generation = self.lease.generation
        self.note = (
            "" if locked else f"no locks on the file system of {run}: a lease in their place"
        )

    def close(self) -> None:
        """Give the run up."""
        self.lease.close()
        os.close(self._file)


class DriverFile:
    """A run's ``driver`` file, as what a lease is written on."""

    def __init__(self, run: Path) -> None:
        self.path = run / "driver"

    def read(self) -> Record:
        """What the file says; nothing if it is not there, or has only just been made."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        return dict(json.loads(text)) if text.strip() else {}

    def replace(self, old: Record, new: Record) -> bool:
        """See :class:`orchestrator.runs.lease.Slate`.

        Of several that want the same generation one makes the file that stands for it: every file
        system can do that, also one that has no locks.
        """
        if old.get("generation") == new["generation"]:  # renewed: nobody else has this one
            return self.read().get("generation") == new["generation"] and self._write(new)
        claim = self.path.with_name(f"driver.{new['generation']}")
        if not _made(claim):
            return False
        try:
            return self.read() == old and self._write(new)
        finally:
            claim.unlink(missing_ok=True)

    def _write(self, record: Record) -> bool:
        # Over the old text in one write: cut off first, a kill would set the generation back.
        with open(self.path, "r+b", buffering=0) as file:
            file.write(json.dumps(record).ljust(_SIZE).encode())
        return True


def is_driven(run: Path, but_by: int | None = None) -> bool:
    """Whether a process drives a run now, on this machine or another.

    Args:
        run: the run directory.
        but_by: a process of this machine that does not count.
    """
    slate = DriverFile(run)
    about = slate.read()
    if about and (about["host"], about["pid"]) == (socket.gethostname(), but_by):
        return False
    try:
        file = os.open(slate.path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if about.get("machine") == lease.machine():
            return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            return True
    finally:
        os.close(file)
    return is_alive(slate)


def check_generation(path: Path, generation: int) -> None:
    """Raise :class:`Superseded` if the run's driver is no longer the one of this generation."""
    record = DriverFile(path).read()
    if record and record["generation"] != generation:
        raise Superseded(f"generation {generation} of {path} has ended")


def _lock(file: int) -> bool | None:
    """Whether the lock was got; ``None`` where the file system has none."""
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            time.sleep(PAUSE)
        else:
            return True
    return False


def _made(claim: Path) -> bool:
    """Whether this process made the file. One that a kill has left is removed after a while."""
    deadline = time.monotonic() + lease.LAPSE
    while True:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return True
        if time.monotonic() > deadline:
            claim.unlink(missing_ok=True)
            deadline += lease.LAPSE
        time.sleep(lease.LOOK)
