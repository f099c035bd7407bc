"""What a run tells, kept in its directory for other terminals: ``console.log`` and ``phase``.

``phase`` is JSON: ``phase`` and since when, ``links`` (where something of the run is seen),
``begins`` (where in console.log the present driver's lines begin), its ``generation``, and, once
that driver has ended, the exit ``code`` of its command and ``why``. Nothing that goes wrong in
writing either ends a run: on a full disk the run itself says so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from orchestrator.console.lines import Lines
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

INTERRUPTED = 3  # exit code of a run that can be gone on with


class Log(Lines):
    """The lines of a run in its console.log, its phase in ``phase``."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run, self.finished = run, False
        path = run.console_log
        self._about: dict[str, Any] = {
            "generation": run.generation, "phase": "begins", "since": time.time(), "links": {},
            "begins": path.stat().st_size if path.exists() else 0, "code": None, "why": "",
        }  # fmt: skip
        self._note()

    def line(self, text: str) -> None:
        with (
            contextlib.suppress(OSError),
            open(self.run.console_log, "a", encoding="utf-8") as file,
        ):
            file.write(text + "\n")

    def link(self, what: str, address: str) -> None:
        super().link(what, address)
        self._note(links={**self._about["links"], what: address})

    def phase(self, text: str, total: int | None = None) -> None:
        super().phase(text, total)
        self._note(phase=text, since=time.time())

    def end(self, code: int, why: str = "") -> None:
        """The driver ends with this exit code."""
        self._note(code=code, why=why, since=time.time())

    def _note(self, **changes: Any) -> None:
        self._about |= changes
        with contextlib.suppress(OSError):
            write_json(self.run.phase, self._about)


@contextlib.contextmanager
def logged(run: RunDir, plan: Plan) -> Iterator[Log]:
    """While it is entered what the log is told is kept; then, how the run ended.

    It ended well if ``finished`` was set, else it was interrupted.
    """
    log = Log(run)
    log.planned(plan)
    try:
        yield log
    except BaseException as error:
        log.end(_code_of(error), str(error) or type(error).__name__)
        raise
    log.end(0 if log.finished else INTERRUPTED)


def _code_of(error: BaseException) -> int:
    """The exit code of a command that an error ends."""
    if isinstance(error, UserError):
        return 2
    return 130 if isinstance(error, KeyboardInterrupt) else 1


class Both(Progress):
    """Tells two."""

    def __init__(self, first: Progress, second: Progress) -> None:
        self.each = (first, second)

    def __enter__(self) -> Progress:
        for one in self.each:
            one.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        for one in self.each:
            one.__exit__(*about)

    def say(self, text: str) -> None:
        for one in self.each:
            one.say(text)

    def link(self, what: str, address: str) -> None:
        for one in self.each:
            one.link(what, address)

    def phase(self, text: str, total: int | None = None) -> None:
        for one in self.each:
            one.phase(text, total)

    def count(self, done: int, total: int) -> None:
        for one in self.each:
            one.count(done, total)

    def queued(self, number: int) -> None:
        for one in self.each:
            one.queued(number)

    def started(self, number: int, published: bool) -> None:
        for one in self.each:
            one.started(number, published)

    def step(self, number: int, step: int, metric: float, loss: float) -> None:
        for one in self.each:
            one.step(number, step, metric, loss)

    def fold(self, number: int, fold: int, step: int) -> None:
        for one in self.each:
            one.fold(number, fold, step)

    def ended(self, number: int, state: str, detail: str = "") -> None:
        for one in self.each:
            one.ended(number, state, detail)
