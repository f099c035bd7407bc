"""Who drives a run: a lease with a generation, which its holder renews.

It is written where several machines read it: in the run's ``driver`` file, or as an object
(``objects.py``). Clocks of two machines are never compared. Whoever wants a lease that another
machine holds watches it: a holder that is alive renews it every ten seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from systems.errors import UserError

BEAT = 10.0  # seconds between two renewals
LAPSE = 60.0  # seconds that a lease must stay as it is until its holder counts as dead
LOOK = 1.0  # seconds between two looks at it

# generation (how many drivers there have been), host, machine, pid, beats (how often it was
# renewed) and heartbeat (Unix time of that in s, for people; 0 once the run has been given up).
Record = dict[str, Any]


class Superseded(BaseException):
    """Another driver has taken the run over; what runs for the old one must write nothing more."""


class Slate(Protocol):
    """What a lease is written on."""

    def read(self) -> Record:
        """What stands there; nothing where there never was a driver."""
        ...

    def replace(self, old: Record, new: Record) -> bool:
        """Write ``new`` where ``old`` stands still; whether it did. Of several at once one does."""
        ...


def machine() -> str:
    """This machine (its kernel, its process ids), whatever it is called: two may share a name."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def is_alive(slate: Slate) -> bool:
    """Whether the lease's holder is alive; where only time can tell, it is watched for a minute."""
    first = slate.read()
    if not first.get("heartbeat"):
        return False
    if first.get("machine") == machine() and not _is_running(first["pid"]):
        return False
    deadline = time.monotonic() + LAPSE
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        now = slate.read()
        if now != first:
            return bool(now.get("heartbeat"))
    return False


class Lease:
    """A lease that is held, and renewed by a thread of its own until :meth:`close`.

    Raises:
        UserError: its holder is alive, or another process was faster.
    """

    def __init__(self, slate: Slate, what: object, *, above: int = 0, alone: bool = False) -> None:
        """Args:
        slate: what it is written on.
        what: the run, to be named in messages.
        above: the generation is above this one.
        alone: it is known that nobody holds it.
        """
        self.slate, self.what = slate, what
        old = slate.read()
        if not alone and is_alive(slate):
            raise UserError(driven_by(what, slate.read()))
        self.generation = 1 + max(above, old.get("generation", 0))
        self._record = self._next(time.time(), 0)
        if not slate.replace(old, self._record):
            raise UserError(driven_by(what, slate.read()))
        self.renewed = time.monotonic()  # when it was last known to be held
        self.lost = False
        self.on_loss: Callable[[], None] = lambda: None
        self._closing, self._renewing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give it up: who comes next need not wait."""
        self._closing.set()
        self._thread.join()
        with contextlib.suppress(OSError, UserError):
            self._renew(0)

    def _beat(self) -> None:
        while not self._closing.wait(BEAT) and not self.lost:
            with contextlib.suppress(OSError, UserError):  # a full disk, say, or no answer
                self.renew()

    def renew(self) -> None:
        """Renew it now; ``lost`` says whether another has it."""
        with self._renewing:
            self._renew(time.time())

    def _renew(self, heartbeat: float) -> None:
        if self.lost:
            return
        record = self._next(heartbeat, self._record["beats"] + 1)
        if self.slate.replace(self._record, record):
            self._record, self.renewed = record, time.monotonic()
            return
        self.lost = True
        self.on_loss()

    def _next(self, heartbeat: float, beats: int) -> Record:
        return {
            "generation": self.generation, "pid": os.getpid(), "host": socket.gethostname(),
            "machine": machine(), "beats": beats, "heartbeat": int(heartbeat),
        }  # fmt: skip


def driven_by(what: object, record: Record) -> str:
    """That a run is being driven, and by whom."""
    who = f"process {record['pid']} on {record['host']}" if record else "it has only just begun"
    return (
        f"the run {what} is being driven by another process ({who}); wait for it or end it. One "
        f"that was killed counts as ended after {LAPSE:g} s without a sign of it."
    )


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
