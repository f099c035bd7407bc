"""Time budgets: how long a run has worked, over all its drivers, and when its search ends."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.runs.files import read_json, write_json

_BEAT = 10.0  # seconds between two notes of the time used


class Clock:
    """Seconds that a run has worked; a later driver goes on from what an earlier one noted.

    Args:
        path: where the time used is noted.
        search_end: the run's time at which its search ends, in seconds; ``None`` for never.
    """

    def __init__(self, path: Path, search_end: float | None) -> None:
        self.path, self.search_end = path, search_end
        self._before = float(read_json(path)["seconds"]) if path.exists() else 0.0
        self._began = self._noted = time.monotonic()

    def seconds(self) -> float:
        """How long the run has worked."""
        return self._before + time.monotonic() - self._began

    def beat(self) -> None:
        """Note the time used, at most every ten seconds."""
        if time.monotonic() - self._noted > _BEAT:
            self.note()

    def note(self) -> None:
        """Note the time used now."""
        self._noted = time.monotonic()
        write_json(self.path, {"seconds": self.seconds()})

    def search_is_over(self) -> bool:
        """Whether the search has used its share of the time budget."""
        return self.search_end is not None and self.seconds() >= self.search_end
