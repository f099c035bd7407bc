"""Following a run from another terminal, and asking it to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from orchestrator.runs.rundir import RunDir
from orchestrator.watching.status import read_phase

LOOK = 0.5  # seconds between two looks at the files
INTERRUPTED = 3  # exit code of a run that can be gone on with


def follow(run: RunDir) -> Iterator[str]:
    """The lines that a run's driver prints, from its first one, until it ends; of a run that is not
    driven those of its last driver."""
    place = _begins(run)
    while True:
        driven = run.is_driven()  # before the rest is read: what it writes last is not missed
        text = _read_from(run, place)
        whole = text[: text.rfind(b"\n") + 1]
        place += len(whole)
        yield from whole.decode(errors="replace").splitlines()
        if not driven:
            return
        time.sleep(LOOK)


def _begins(run: RunDir) -> int:
    """Where the lines of the present driver begin, once it has begun."""
    while (told := read_phase(run)).get("generation") != run.about_driver().get("generation"):
        if not run.is_driven():
            break
        time.sleep(LOOK)
    return int(told.get("begins", 0))


def _read_from(run: RunDir, place: int) -> bytes:
    try:
        with open(run.console_log, "rb") as file:
            file.seek(place)
            return file.read()
    except FileNotFoundError:
        return b""


def exit_code(run: RunDir) -> int:
    """What the command of a run's last driver ended with; 3 if it was killed."""
    code = read_phase(run).get("code")
    return INTERRUPTED if code is None else int(code)


def request_stop(run: RunDir, waits: Callable[[], None] = lambda: None) -> bool:
    """Ask a run's driver, wherever it is, to end after the running epoch, and wait until it has.

    Args:
        run: the run directory.
        waits: called once the driver has been asked.

    Returns:
        whether a driver worked on it.
    """
    if not run.is_driven():
        return False
    generation = run.about_driver()["generation"]
    run.stop_request.touch()
    waits()
    while run.is_driven() and run.about_driver()["generation"] == generation:
        time.sleep(LOOK)
    if not run.is_driven():
        run.stop_request.unlink(missing_ok=True)  # of a driver that was killed before it looked
    return True
