"""What is tried next, and what a trial's reports decide: the same whatever executes the trials."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.runs.clock import Clock
from orchestrator.search.gpu_share import share_in_words
from orchestrator.search.study import MOST_ATTEMPTS, Search

SAME = 3  # trials that one error ends at their first step before the machine is blamed
MEASURED = 3  # trials whose memory says what share of a GPU is enough
OUT_OF_TIME = "time budget"  # why a trial was stopped that the pruner did not stop


class Referee:
    """Between a study and its executor.

    Args:
        search: the study.
        total: trials in all.
        stop: what asks the run to end.
        progress: what is told.
        clock: of the time budget.
        gpus: of a trial.
        arrived: called with a trial that has ended, before that is noted: its files may have to be
            fetched.
    """

    def __init__(
        self, search: Search, total: int, stop: Stop, progress: Progress, clock: Clock,
        gpus: float = 0, arrived: Callable[[int], None] = lambda number: None,
    ) -> None:  # fmt: skip
        self.search, self.total, self.stop, self.progress = search, total, stop, progress
        self.clock, self.gpus, self.arrived = clock, gpus, arrived
        self._memory: list[list[int]] = []  # of a GPU, that trials have taken
        self._left_running = search.running()
        self._works = False  # whether a trial has come to a report now, of no earlier driver's
        self._lost: dict[int, str] = {}  # what the last lost process of a trial ended with
        self._hung: dict[int, int] = {}  # how often a trial has hung
        self.held: dict[int, str] = {}  # causes of trials that failed before any report

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next trial, first those that a kill left running; ``None`` where there is none."""
        if self.stop.requested or is_over(self.search, self.clock):
            return None
        if self._left_running:
            number, params = self.search.adopt(self._left_running.pop(0))
        elif self.search.asked() < self.total and not self.waits():
            number, params = self.search.ask()
        else:
            return None
        self.progress.queued(number)
        return number, params

    def waits(self) -> bool:
        """Whether there will be a next trial once some of those that run have ended.

        If all that run have failed and are held, they end here: nothing else would end them.
        """
        if self.stop.requested or self._left_running or self.search.asked() >= self.total:
            return False
        if self.search.waits() and set(self.search.running()) <= set(self.held):
            self.release()
        return self.search.waits() and not is_over(self.search, self.clock)

    def begins(self, number: int) -> None:
        """A process begins to work on a trial."""
        published = bool(self.search.trials()[number].user_attrs.get("published"))
        self.progress.started(number, published)

    def goes_on(self, number: int, result: Mapping[str, Any]) -> bool:
        """Whether a trial goes on after a report: an epoch of its, or its outcome."""
        self.clock.beat()
        if "outcome" in result:
            self._settle(number, result)
            return True
        if not self._works and self.is_new(number, result):
            self._works = True
            self.release()
        if "fold" in result:  # a later fold: alive, but never judged
            self.progress.fold(number, result["fold"], result["step"])
        else:
            self.progress.step(number, result["step"], result["metric"], result["loss"])
            if self.search.report(number, result["step"], result["metric"]):
                self.arrived(number)
                self.search.stop(number)
                self.progress.ended(number, "stopped")
                return False
        if self.stop.requested:
            return False
        # Without a completed trial there is nothing to refit: then the budget waits for one.
        if is_over(self.search, self.clock):
            self.arrived(number)
            self.search.stop(number, OUT_OF_TIME)
            self.progress.ended(number, "stopped", OUT_OF_TIME)
            return False
        return True

    def _propose(self, memory: list[int]) -> None:
        """After the first trials, tell what share of a GPU would have been enough."""
        self._memory.append(memory)
        text = share_in_words(self._memory, self.gpus)
        if len(self._memory) == min(MEASURED, self.total) and text:
            self.progress.say(text)

    def _settle(self, number: int, result: Mapping[str, Any]) -> None:
        self.arrived(number)
        if "gpu_memory" in result:
            self._propose(result["gpu_memory"])
        if result["outcome"] == "complete":
            self.search.complete(number, result.get("score", result["value"]))
            score = f", score {result['score']:.4f}" if "score" in result else ""
            self.progress.ended(number, "complete", f"value {result['value']:.4f}{score}")
        elif result["outcome"] == "diverged":
            self.search.diverge(number, result["cause"])
            self.progress.ended(number, "diverged", result["cause"])
        elif result["outcome"] == "halted":  # no fault of its own: it stays running, for --resume
            self.stop.fail(f"trial {number}: {result['cause']}")
        else:
            self._fail(number, result["cause"])

    def is_new(self, number: int, result: Mapping[str, Any]) -> bool:
        """Whether a report is of an epoch that was trained now; a resumed trial first tells again
        what it had."""
        if "outcome" in result:
            return False
        known = self.search.trials()[number].intermediate_values
        return "fold" in result or result["step"] not in known

    def lost(self, number: int, cause: str) -> None:
        """A process of a trial was lost; another one may follow."""
        self._lost[number] = cause
        self.progress.say(f"trial {number} lost its process: {cause}")

    def hung(self, number: int, silence: float) -> bool:
        """A trial has said nothing for so many seconds; returns whether it is tried again."""
        self._hung[number] = 1 + self._hung.get(number, 0)
        cause = f"it hung: it said nothing for {silence / 60:.0f} min"
        if self._hung[number] == 1:
            self.lost(number, f"{cause}, and is begun again from its checkpoint")
            return True
        self._fail(number, f"{cause}, twice")
        return False

    def gave_up(self, number: int) -> None:
        """A trial's process was lost as often as may be; of an interrupted run it was ended."""
        if not self.stop.requested:
            cause = self._lost.get(number, "no cause is known")
            self._fail(number, f"its process was lost {MOST_ATTEMPTS} times: {cause}")

    def _fail(self, number: int, cause: str) -> None:
        """A trial failed; before any trial has come to a report, that may be the machine's fault.

        Then it is held. The same error in all trials is none of theirs: it ends the search, as a
        full disk does, and they stay running, for ``--resume``.
        """
        self.progress.ended(number, "failed", cause)
        if self._works:
            self.search.fail(number, cause)
            return
        self.held[number] = cause
        alike = [n for n, other in self.held.items() if _kind(other) == _kind(cause)]
        if len(alike) >= min(SAME, self.total):
            who = f"trial{'s' if len(alike) > 1 else ''} {', '.join(map(str, alike))}"
            self.stop.fail(
                f"{who} ended before the first epoch, each with the same error: {cause}. It is "
                "taken for a fault of the machine or its set-up, and of no trial: mend it, then "
                "resume the run."
            )

    def release(self) -> None:
        """What was held counts as the trials' own failure."""
        for number in sorted(self.held):
            self.search.fail(number, self.held[number])
        self.held.clear()


def _kind(cause: str) -> str:
    """A cause without the numbers in it: process ids, sizes, addresses."""
    return re.sub(r"(0x)?[0-9a-f]*[0-9][0-9a-f]*", "#", cause)


def is_over(search: Search, clock: Clock) -> bool:
    """Whether the search has had its time, and something to go on with."""
    return clock.search_is_over() and bool(search.best(1))
