"""Interruptions: SIGINT, SIGTERM, SIGUSR1 and a terminal that is closed (SIGHUP) ask a run to end
after the running epoch."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from systems.errors import UserError

WORDS = {
    signal.SIGINT: "Ctrl-C: {}; a second Ctrl-C ends it now",
    signal.SIGTERM: "SIGTERM: {}",
    signal.SIGUSR1: "SIGUSR1: {}",
    signal.SIGHUP: "the terminal was closed: {}",
}
WHAT = "the run ends after its running epoch, and can be gone on with"
SIGNALS = tuple(WORDS)


@contextlib.contextmanager
def unhung() -> Iterator[None]:
    """Processes that are started within outlive a terminal that is closed: their driver ends them,
    once it is done with what the interruption leaves to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


class Interrupted(Exception):
    """The run was asked to stop; what is done stays done."""


class Stop:
    """Set by the first signal; a second SIGINT ends the process at once."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        """Args:
        say: is told in a line what the first signal asks for, by a thread of its own: the signal
            may have come while the main thread was about to print.
        """
        self.requested = False
        self.cause: str | None = None
        self._before: dict[int, Any] = {}
        self.say = say
        self._asked: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # a handler may put there
        self._teller: threading.Thread | None = None

    def install(self) -> Stop:
        """Take the signals; what an earlier handler did with them is over until :meth:`restore`.

        Only a process's main thread may: elsewhere nothing is taken. Under ``nohup`` a closed
        terminal stays without effect.
        """
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)
            if self.say is not None and self._teller is None:
                self._teller = threading.Thread(target=self._tell, name="interrupts", daemon=True)
                self._teller.start()
        return self

    def restore(self) -> None:
        """Give the signals back to who had them."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler or signal.SIG_DFL)
        if self._teller is not None:
            self._asked.put(None)
            self._teller.join()
            self._teller = None

    def __enter__(self) -> Stop:
        return self.install()

    def __exit__(self, *about: object) -> None:
        self.restore()

    def fail(self, cause: str) -> None:
        """End the run as a signal would, but for a cause that its user must mend first."""
        self.requested = True
        self.cause = self.cause or cause

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has come, UserError if a cause is to be mended."""
        if self.cause is not None:
            raise UserError(self.cause)
        if self.requested:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self._asked.put(number)
        self.requested = True

    def _tell(self) -> None:
        while (number := self._asked.get()) is not None:
            assert self.say is not None
            self.say(WORDS[signal.Signals(number)].format(WHAT))
