"""Trials that hang: they have said nothing for much longer than an epoch has ever taken."""

from __future__ import annotations

import time

FACTOR = 20.0  # times the longest epoch so far
SHORTEST = 900.0  # seconds: between two epochs a fold's predictions are made and written
UNKNOWN = 24 * 3600.0  # seconds, before any epoch has ended: nobody knows how long one takes


class Watchdog:
    """When each running trial was last heard of.

    An epoch's time is what lies between two reports, the start of the process and all that comes
    between two folds included.
    """

    def __init__(self) -> None:
        self._heard: dict[int, float] = {}
        self._longest: float | None = None

    def begins(self, number: int) -> None:
        """A process has begun to work on a trial."""
        self._heard[number] = time.monotonic()

    def hears(self, number: int, new: bool) -> None:
        """A trial has reported; ``new``: an epoch that was trained now, not one told again."""
        now = time.monotonic()
        if new:
            self._longest = max(self._longest or 0.0, now - self._heard.get(number, now))
        self._heard[number] = now

    def ends(self, number: int) -> None:
        """A trial has no process any more."""
        self._heard.pop(number, None)

    def patience(self) -> float:
        """Seconds of silence after which a trial counts as hung."""
        return UNKNOWN if self._longest is None else max(SHORTEST, FACTOR * self._longest)

    def silent(self) -> list[int]:
        """The trials that hang."""
        since = time.monotonic() - self.patience()
        return [number for number, heard in self._heard.items() if heard < since]
