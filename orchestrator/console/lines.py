"""What a run tells, as lines of text."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan


@dataclass
class Row:
    """One trial as a table shows it."""

    state: str = "running"
    step: int = 0
    metric: float = math.nan
    best: float = math.nan
    loss: float = math.nan
    ended: bool = False


class Lines(Progress):
    """Phases and trials of a run in lines, with the minutes and seconds since it began or went on.

    What takes them has :meth:`line`; :meth:`often` are those that a live table shows better.
    """

    def __init__(self) -> None:
        self.metric, self.mode, self.steps = "", "max", 1
        self.rows: dict[int, Row] = {}
        self._began = time.monotonic()
        self._counted = -1

    def line(self, text: str) -> None:
        """A line that stays."""
        raise NotImplementedError

    def often(self, text: str) -> None:
        """A line about something that goes on."""
        self.say(text)

    def planned(self, plan: Plan) -> None:
        """What follows is of a run with this plan."""
        self.metric, self.mode, self.steps = plan.metric, plan.mode, plan.steps()
        self.rows = {}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.line(f"[{self._clock()}] {text}")

    def link(self, what: str, address: str) -> None:
        """Where something of the run is seen."""
        self.say(f"{what}: {address}")

    def phase(self, text: str, total: int | None = None) -> None:
        """A new step of the run; ``total`` is how many things it does."""
        self._counted = -1
        self.say(text)

    def count(self, done: int, total: int) -> None:
        """How many of a phase's things are done; a line every tenth."""
        tenth = 10 * done // max(total, 1)
        if tenth > self._counted:
            self._counted = tenth
            self.often(f"  {done}/{total}")

    def queued(self, number: int) -> None:
        self.rows[number] = Row(state="queued")

    def started(self, number: int, published: bool) -> None:
        again = number in self.rows and self.rows[number].state != "queued"
        row = self.rows.setdefault(number, Row())
        word, row.state = "goes on" if again else "started", "running"
        self.say(f"trial {number} {word}{' (the published point)' if published else ''}")

    def step(self, number: int, step: int, metric: float, loss: float) -> None:
        row = self.rows.setdefault(number, Row())
        if step <= row.step and row.state == "running":
            return
        row.step, row.metric, row.loss = step, metric, loss
        better = metric > row.best if self.mode == "max" else metric < row.best
        row.best = metric if better or math.isnan(row.best) else row.best
        tenth = max(1, self.steps // 8)
        if step % tenth == 0 or step == 1:
            self.often(f"trial {number} epoch {step}/{self.steps}  loss {loss:.3f}  "
                       f"{self.metric} {metric:z.3f}  best {row.best:z.3f}")  # fmt: skip

    def fold(self, number: int, fold: int, step: int) -> None:
        """An epoch of a fold after the first, which is not judged."""
        row = self.rows.setdefault(number, Row())
        if row.state != f"fold {fold}":
            self.often(f"trial {number} trains fold {fold}")
        row.state, row.step = f"fold {fold}", step

    def ended(self, number: int, state: str, detail: str = "") -> None:
        row = self.rows.setdefault(number, Row())
        row.state = state
        row.ended = True
        epochs = f" after epoch {row.step}  best {row.best:z.3f}" if row.step else ""
        self.say(f"trial {number} {state}{epochs}  {detail}".rstrip())

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"
