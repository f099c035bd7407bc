"""Interruptions: SIGINT, SIGTERM and SIGUSR1 ask a run to end after the running epoch."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """The run was asked to stop; what is done stays done."""


class Stop:
    """Set by the first signal; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> Stop:
        for number in SIGNALS:
            signal.signal(number, self._handle)
        return self

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.requested:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
