"""A request to stop that comes through a file: from another terminal, or another machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from orchestrator.console.interrupts import Stop

LOOK = 1.0  # seconds between two looks at whether the file is there


@contextlib.contextmanager
def stoppable(request: Path, stop: Stop) -> Iterator[None]:
    """While it is entered the file asks the run to end after the running epoch, as a signal does.

    A file and no signal: the driver may be on another machine, or a thread of a program that takes
    no signals; and a process id may by then be another's. One that is there already asked an
    earlier driver.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK):
            if request.exists():
                stop.requested = True
                return

    with contextlib.suppress(OSError):
        request.unlink(missing_ok=True)
    thread = threading.Thread(target=look, name="stop request", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            request.unlink(missing_ok=True)
