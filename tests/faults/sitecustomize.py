"""Faults injected into every Python process of a command: put this folder on PYTHONPATH.

``SOUNDSWEEP_FAULTS`` names a JSON file, a list of faults::

    {"file": "*/fold0/checkpoint.pt.new", "nth": 3, "do": "full"}

At the ``nth`` opening to write of a file that matches, counted over all processes, half of the data
goes to the disk and then happens what ``do`` says (``"when": "closed"``: all of it, first):

    full            no space is left, now and at every later such file
    raise           the code has an error
    kill            SIGKILL to this process, with ``"always": true`` at every later such file too
    kill driver     SIGKILL to the run's driver
    kill both       SIGKILL to the driver, then to this process
    freeze          SIGKILL to the driver and to this process, which leaves a stopped copy of
                    itself; Ray, which would end it, has no thread in the copy
    kill node       SIGKILL to the raylet that started this process, then to this process
    terminate       SIGTERM to this process, as a machine that is taken back sends it
    terminate node  SIGTERM to the raylet that started this process
    hang            this process does nothing any more
    eat             this process takes 6 GiB of memory, and holds them
    clock back      this process's clock goes back by two hours
    SIGINT, ...     that signal to the driver; SIGINT to its whole group, as Ctrl-C sends it

Every opening of a checkpoint is noted in ``saves.log`` beside the JSON file.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any


class FaultyFile(io.FileIO):
    """A file that writes half of what it is given, then does what its fault says."""

    def __init__(self, path: str, mode: str, fault: dict[str, Any]) -> None:
        super().__init__(path, mode)
        self.path, self.fault, self.acted = Path(path).absolute(), fault, False

    def write(self, data: Any) -> int:
        if self.fault.get("when") == "closed":
            return super().write(data)
        if self.acted and self.fault["do"] == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.acted:
            return super().write(data)
        self.acted = True
        written = super().write(memoryview(data)[: len(data) // 2])
        act(self.fault["do"], self.path)
        return written

    def close(self) -> None:
        first = not self.closed
        super().close()
        if first and self.fault.get("when") == "closed":
            act(self.fault["do"], self.path)


def act(what: str, path: Path) -> None:
    """Do what a fault says; ``full`` is the file's own."""
    if what == "raise":
        raise RuntimeError("an injected error")
    if what in ("kill driver", "kill both", "freeze"):
        os.kill(driver_of(path), signal.SIGKILL)
    if what == "freeze" and os.fork() == 0:
        os.setsid()  # else the kernel wakes it when its group is orphaned
        note(str(Path(PLAN).parent / "frozen.pid"), str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if what in ("kill", "kill both", "freeze"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill node":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if what in ("terminate", "terminate node"):
        os.kill(os.getpid() if what == "terminate" else os.getppid(), signal.SIGTERM)
    if what == "hang":
        time.sleep(10**6)
    if what == "eat":
        EATEN.append(b"x" * (6 * 2**30))
        time.sleep(60)
    if what == "clock back":
        real_time = time.time
        time.time = lambda: real_time() - 7200
    if what.startswith("SIG"):
        send = os.killpg if what == "SIGINT" else os.kill
        send(driver_of(path), signal.Signals[what])


def driver_of(path: Path) -> int:
    """The process that drives the run in which a file lies."""
    folder = next(parent for parent in path.parents if (parent / "driver").is_file())
    return int(json.loads((folder / "driver").read_text())["pid"])


def due(path: str) -> dict[str, Any] | None:
    """The fault that an opening of a file meets, if any."""
    for number, fault in enumerate(FAULTS):
        if fnmatch(path, fault["file"]):
            count = note(f"{PLAN}.{number}", ".")
            always = fault.get("always") or fault["do"] == "full"
            if count == fault["nth"] or (always and count > fault["nth"]):
                return fault
    return None


def note(file: str, text: str) -> int:
    """Append to a file that all processes share; its length then."""
    descriptor = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def open_or_fail(
    file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
    errors: str | None = None, newline: str | None = None, *more: Any, **other: Any,
) -> Any:  # fmt: skip
    """``open``, with the faults that are due."""
    if isinstance(file, str | os.PathLike) and set(mode) & set("wax+"):
        path = str(Path(os.fsdecode(file)).absolute())
        if path.endswith("checkpoint.pt.new"):
            note(str(Path(PLAN).parent / "saves.log"), path + "\n")
        fault = due(path)
        if fault is not None:
            raw = FaultyFile(path, mode.replace("t", ""), fault)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            binary = "b" in mode
            return buffered if binary else io.TextIOWrapper(buffered, encoding, errors, newline)
    return real_open(file, mode, buffering, encoding, errors, newline, *more, **other)


EATEN: list[bytes] = []
PLAN = os.environ.get("SOUNDSWEEP_FAULTS", "")
FAULTS: list[dict[str, Any]] = []
real_open = io.open
if PLAN:
    FAULTS += json.loads(Path(PLAN).read_text(encoding="utf-8"))
    builtins.open = io.open = open_or_fail
