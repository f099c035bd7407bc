"""Driving a run within a night: until it ends, a signal comes, or its time is up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.console.request import looking
from orchestrator.pipeline.begin import drive
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import writable
from systems.data.dataset import Dataset
from systems.data.splits import Splits

End = Literal["done", "cut off", "interrupted"]


class Limit:
    """The end of a night, or of what of it a study has: a time of the monotonic clock, s; or a
    signal between two runs (within one the run's own handlers take it)."""

    def __init__(self, seconds: float | None, stop: Stop) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds
        self.stop = stop

    def left(self) -> float | None:
        """Seconds until then; ``None`` for no end."""
        return None if self.end is None else self.end - time.monotonic()

    def is_over(self) -> bool:
        left = self.left()
        return left is not None and left <= 0

    def share(self, count: int, most: float | None) -> Limit:
        """That of one of ``count`` studies that share what is left, at most ``most`` seconds."""
        left = self.left()
        found = [one for one in (None if left is None else left / count, most) if one is not None]
        return Limit(min(found, default=None), self.stop)


def drive_until(
    limit: Limit, run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress
) -> End:
    """Drive a run with a plan; where its time is up before it ends it is asked to stop, as from
    another terminal, and can be gone on with.

    Raises:
        UserError: what a user can mend.
    """
    if limit.stop.requested:
        return "interrupted"
    if limit.is_over():
        return "cut off"
    writable(run.root)
    with looking(lambda: run.stop_request.touch() if limit.is_over() else None):
        finished = drive(run, plan, dataset, splits, progress)
    run.stop_request.unlink(missing_ok=True)  # it may have been asked when it had just ended
    if finished:
        return "done"
    return "cut off" if limit.is_over() else "interrupted"


def within(plan: Plan, run: RunDir, limit: Limit) -> Plan:
    """The plan whose search ends at its share of the time that is left, beside what the run has
    worked on earlier nights."""
    left = limit.left()
    if left is None:
        return replace(plan, time_budget=None)
    worked = float(read_json(run.clock)["seconds"]) if run.clock.exists() else 0.0
    ends = worked + plan.search_share * max(left, 1.0)
    return replace(plan, time_budget=ends / plan.search_share)
