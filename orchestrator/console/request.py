"""A request to stop that comes through a file: from another terminal, or another machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.console.interrupts import Stop

LOOK = 1.0  # seconds between two looks


@contextlib.contextmanager
def looking(look: Callable[[], None], every: float = LOOK) -> Iterator[None]:
    """While it is entered a thread of its own calls ``look``, ``every`` so many seconds."""
    ended = threading.Event()

    def go() -> None:
        while not ended.wait(every):
            with contextlib.suppress(OSError):  # of a file system that is away for a moment
                look()

    thread = threading.Thread(target=go, name="looking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def stoppable(request: Path, stop: Stop) -> Iterator[None]:
    """While it is entered the file asks the run to end after the running epoch, as a signal does.

    A file and no signal: the driver may be on another machine, or a thread of a program that takes
    no signals; and a process id may by then be another's. One that is there already asked an
    earlier driver.
    """

    def look() -> None:
        stop.requested = stop.requested or request.exists()

    with contextlib.suppress(OSError):
        request.unlink(missing_ok=True)
    try:
        with looking(look):
            yield
    finally:
        with contextlib.suppress(OSError):
            request.unlink(missing_ok=True)
