"""What is tried next, and what a trial's reports decide: the same whatever executes the trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.runs.clock import Clock
from orchestrator.search.study import Search

OUT_OF_TIME = "time budget"  # why a trial was stopped that the pruner did not stop


class Referee:
    """Between a study and its executor.

    Args:
        search: the study.
        total: trials in all.
        stop: what asks the run to end.
        progress: what is told.
        clock: of the time budget.
    """

    def __init__(
        self, search: Search, total: int, stop: Stop, progress: Progress, clock: Clock
    ) -> None:
        self.search, self.total, self.stop, self.progress = search, total, stop, progress
        self.clock = clock
        self._left_running = search.running()

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next trial, first those that a kill left running; ``None`` where there is none."""
        if self.stop.requested or is_over(self.search, self.clock):
            return None
        if self._left_running:
            number, params = self.search.adopt(self._left_running.pop(0))
        elif self.search.asked() < self.total:
            number, params = self.search.ask()
        else:
            return None
        published = bool(self.search.trials()[number].user_attrs.get("published"))
        self.progress.started(number, published)
        return number, params

    def goes_on(self, number: int, result: Mapping[str, Any]) -> bool:
        """Whether a trial goes on after a report: an epoch of its, or its outcome."""
        self.clock.beat()
        if "outcome" in result:
            self._settle(number, result)
            return True
        if "fold" in result:  # a later fold: alive, but never judged
            self.progress.fold(number, result["fold"], result["step"])
        else:
            self.progress.step(number, result["step"], result["metric"], result["loss"])
            if self.search.report(number, result["step"], result["metric"]):
                self.search.stop(number)
                self.progress.ended(number, "stopped")
                return False
        if self.stop.requested:
            return False
        # Without a completed trial there is nothing to refit: then the budget waits for one.
        if is_over(self.search, self.clock):
            self.search.stop(number, OUT_OF_TIME)
            self.progress.ended(number, "stopped", OUT_OF_TIME)
            return False
        return True

    def _settle(self, number: int, result: Mapping[str, Any]) -> None:
        if result["outcome"] == "complete":
            self.search.complete(number, result["value"])
            self.progress.ended(number, "complete", f"value {result['value']:.4f}")
        elif result["outcome"] == "diverged":
            self.search.diverge(number, result["cause"])
            self.progress.ended(number, "diverged", result["cause"])
        elif result["outcome"] == "halted":  # no fault of its own: it stays running, for --resume
            self.stop.fail(f"trial {number}: {result['cause']}")
        else:
            self.search.fail(number, result["cause"])
            self.progress.ended(number, "failed", result["cause"])


def is_over(search: Search, clock: Clock) -> bool:
    """Whether the search has had its time, and something to go on with."""
    return clock.search_is_over() and bool(search.best(1))
