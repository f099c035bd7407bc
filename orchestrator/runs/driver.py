"""The one driver of a run: a lock on its ``driver`` file, and a heartbeat for other machines.

The file holds ``generation`` (how many drivers there have been), ``host``, ``pid`` and
``heartbeat``, the Unix time in seconds that its driver renews; 0 once the run has been given up.
A lock is seen at once by all processes of a machine, but not by other nodes on every file system
that they share: there a heartbeat that is younger than a minute is believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from systems.errors import UserError

BEAT = 10.0  # seconds between two heartbeats
LAPSE = 60.0  # seconds after which a driver on another machine counts as dead
TRIES, PAUSE = 10, 0.05  # of the lock: whoever looks whether a run is driven holds it for a moment
_SIZE = 400  # bytes of the file, so that it is written over at once


class Driver:
    """The driver of a run until :meth:`close` or the end of the process.

    Raises:
        UserError: another process drives the run.
    """

    def __init__(self, run: Path) -> None:
        """Args:
        run: the run directory.
        """
        self.path = run / "driver"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        about = _read(self.path)
        if not _lock(self._file) or _beats_elsewhere(about):
            os.close(self._file)
            who = _in_words(_read(self.path))
            raise UserError(
                f"the run {run} is being driven by another process ({who}); wait for it or end it."
            )
        self.generation = 1 + _read(self.path).get("generation", 0)
        self._closing = threading.Event()
        self._write(time.time())
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the run up."""
        self._closing.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._write(0)
        os.close(self._file)

    def _beat(self) -> None:
        while not self._closing.wait(BEAT):
            with contextlib.suppress(OSError):  # a full disk, say: others then see an old beat
                self._write(time.time())

    def _write(self, heartbeat: float) -> None:
        # Over the old text in one write: cut off first, a kill would set the generation back.
        # Once another driver has taken the run over, the file is that one's.
        if _read(self.path).get("generation", 0) > self.generation:
            return
        about = {
            "generation": self.generation,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "heartbeat": int(heartbeat),
        }
        os.pwrite(self._file, json.dumps(about).ljust(_SIZE).encode(), 0)


def is_driven(run: Path, but_by: int | None = None) -> bool:
    """Whether a process drives a run now, on this machine or another.

    Args:
        run: the run directory.
        but_by: a process of this machine that does not count.
    """
    about = _read(run / "driver")
    if about and (about["host"], about["pid"]) == (socket.gethostname(), but_by):
        return False
    try:
        file = os.open(run / "driver", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return _beats_elsewhere(about)


def about_driver(run: Path) -> dict[str, Any]:
    """What the ``driver`` file of a run directory says; nothing if there is none."""
    return _read(run / "driver")


def _read(path: Path) -> dict[str, Any]:
    """What the file says; nothing if it is not there, or has only just been made."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict(json.loads(text)) if text.strip() else {}


def _lock(file: int) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(PAUSE)
        else:
            return True
    return False


def _beats_elsewhere(about: dict[str, Any]) -> bool:
    elsewhere = about.get("host") != socket.gethostname()
    return elsewhere and time.time() - about.get("heartbeat", 0) < LAPSE


def _in_words(about: dict[str, Any]) -> str:
    if not about:
        return "it has only just begun"
    words = f"process {about['pid']} on {about['host']}"
    if not _beats_elsewhere(about):
        return words
    ago = max(0, round(time.time() - about["heartbeat"]))
    return f"{words}, heard of {ago} s ago; one that was killed counts as ended after {LAPSE:g} s"
