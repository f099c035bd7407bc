"""What a run tells while it goes on. This one tells nobody; the command line has one that shows."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan.plan import Plan
from orchestrator.runs.rundir import RunDir


class Progress:
    """Phases, trials and counts of a run. All methods are called from the driver's thread, but
    ``say`` also from one that tells of an interruption.

    As a context manager it is entered when a run begins to work, and left when it ends.
    """

    def planned(self, plan: Plan) -> None:
        """A run is about to begin, or to go on, with this plan."""

    def done(self, run: RunDir, finished: bool) -> None:
        """A run has ended, or was interrupted; its results.json and report are there."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *about: object) -> None:
        """The run has ended."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def link(self, what: str, address: str) -> None:
        """Where something of the run is seen: the page of a dashboard, or the command for one."""

    def phase(self, text: str, total: int | None = None) -> None:
        """A new step of the run; ``total`` is how many things it does."""

    def count(self, done: int, total: int) -> None:
        """How many of a phase's things are done."""

    def queued(self, number: int) -> None:
        """A trial is next, and waits for a place."""

    def started(self, number: int, published: bool) -> None:
        """A trial has begun, or begins again after its process was lost."""

    def step(self, number: int, step: int, metric: float, loss: float) -> None:
        """An epoch of a trial."""

    def fold(self, number: int, fold: int, step: int) -> None:
        """An epoch of a fold after the first, which is not judged."""

    def ended(self, number: int, state: str, detail: str = "") -> None:
        """A trial has ended, how, and why."""

    def counter(self, text: str, total: int) -> Callable[[int, int], None]:
        """Start a phase and return what reports its count."""
        self.phase(text, total)
        return self.count
