"""The process beside the driver that keeps MLflow up to date."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import NOWHERE, tracking_uri, without_password
from orchestrator.tracking.record import signature
from orchestrator.tracking.sync import sync
from systems.errors import UserError
from systems.machine import own_code

INTERVAL = 5.0  # seconds between two syncs beside a driver
PATIENCE = 120.0  # seconds that a driver waits at its end for the last sync
SHARE, LONGEST_PAUSE = 10, 60.0  # it rests this many times as long as it worked; seconds at most


class Projector:
    """While it is entered, a process of its own keeps MLflow up to date with a run directory.

    Neither starting, failing nor ending it raises. After the end ``problem`` is one line for the
    user if MLflow is not up to date, else ``None``.
    """

    def __init__(
        self, run: RunDir, *, interval: float = INTERVAL, patience: float = PATIENCE
    ) -> None:
        """Args:
        run: the run directory, with its plan; the process writes to its ``tracking.log``.
        interval: seconds between two syncs.
        patience: seconds that the end waits for the last sync.
        """
        self.run, self.uri = run, without_password(tracking_uri(run))
        self.interval, self.patience = interval, patience
        self.log = run.path / "tracking.log"
        self.problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Projector:
        if self.uri == NOWHERE:
            return self
        try:
            with open(self.log, "ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "orchestrator.tracking", str(self.run.path),
                     "--follow", "--interval", str(self.interval)],
                    stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(),
                    start_new_session=True,  # Ctrl-C is the driver's affair
                )  # fmt: skip
        except OSError as error:
            self.problem = self._say(f"its process could not be started: {error}")
        return self

    def __exit__(self, *about: object) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it may have died
            process.stdin.write(b"end\n")  # a fork of the driver may hold the pipe open
            process.stdin.close()
        try:
            code = process.wait(self.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.problem = self._say(f"it was not done within {self.patience:g} s")
            return
        if code != 0:
            self.problem = self._say(self._last_error() or f"see {self.log}")

    def _say(self, why: str) -> str:
        return (
            f"MLflow at {self.uri} is not up to date ({why}). Nothing is lost: run "
            f"`soundsweep sync {self.run.path}`."
        )

    def _last_error(self) -> str | None:
        """Why the last sync failed, from the log."""
        text = self.log.read_bytes()[self._log_start :].decode(errors="replace")
        found = re.findall(r"could not be brought up to date: (.*?)\. Nothing is lost", text)
        return found[-1] if found else None


def _environment() -> dict[str, str]:
    paths = filter(None, [*own_code(), os.environ.get("PYTHONPATH")])
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace",
    }  # fmt: skip


def follow(run: RunDir, interval: float = INTERVAL, pipe: IO[bytes] | None = None) -> int:
    """Sync again and again until the pipe from the driver ends, then once more.

    Args:
        run: the run directory.
        interval: seconds between two syncs; after a slow one more.
        pipe: by default standard input.

    Returns:
        0 if the last sync succeeded, else 1. Errors are logged, once a change.
    """
    stream = pipe or sys.stdin.buffer
    parent, seen, problem = os.getppid(), None, None
    pause = 0.0
    while not _has_ended(stream, pause, parent):
        began, state = time.monotonic(), signature(run)
        if state != seen or problem is not None:
            problem = _try(run, None, problem)
            seen = state
        rest = min(SHARE * (time.monotonic() - began), LONGEST_PAUSE)
        pause = max(interval, rest)
    return 0 if _try(run, run.is_driven(but_by=parent), problem) is None else 1


def _has_ended(stream: IO[bytes], pause: float, parent: int) -> bool:
    """Wait; whether the driver has said that it ends, closed the pipe or died."""
    ready, _, _ = select.select([stream], [], [], pause)
    return bool(ready) or os.getppid() != parent


def _try(run: RunDir, driving: bool | None, before: str | None) -> str | None:
    """Sync and log what changed; returns the problem, if there is one."""
    try:
        sync(run, driving=driving)
    except UserError as error:
        problem, details = str(error), ""
    except Exception as error:  # also a file that is just being written: the next one may succeed
        problem, details = f"{type(error).__name__}: {error}", "\n" + traceback.format_exc()
    else:
        if before is not None:
            _log("MLflow is up to date again")
        return None
    if problem != before:
        _log(problem + details)
    return problem


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m orchestrator.tracking RUN [--follow]``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator.tracking", description=main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--follow", action="store_true", help="until standard input ends")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between syncs")
    given = parser.parse_args(arguments)
    run = RunDir(given.run.resolve())
    if given.follow:
        os.nice(10)  # the training comes first
        for number in (signal.SIGTERM, signal.SIGUSR1):  # to all of a job: it ends with its driver
            signal.signal(number, signal.SIG_IGN)
        return follow(run, given.interval)
    try:
        done = sync(run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"MLflow: {done.uri}, experiment '{done.experiment}', {done.children} runs below the run")
    return 0
