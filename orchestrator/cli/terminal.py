"""What the command line shows while a run goes on: a live table in a terminal, lines in a log."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from orchestrator.cli.words import outcome_lines, plan_lines
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir


@dataclass
class Row:
    """One trial as the table shows it."""

    state: str = "running"
    step: int = 0
    metric: float = math.nan
    best: float = math.nan
    loss: float = math.nan
    ended: bool = False


class Terminal(Progress):
    """Progress on the standard output: a live table in a terminal, else plain lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.metric, self.mode, self.steps = "", "max", 1
        self.rows: dict[int, Row] = {}
        self._began = time.monotonic()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("", total=None)
        self._live: Live | None = None
        self._counted = -1

    def planned(self, plan: Plan) -> None:
        """The plan in words; what follows is of its run."""
        for line in plan_lines(plan):
            self.console.print(line, markup=False)
        self.metric, self.mode, self.steps = plan.metric, plan.mode, plan.steps()
        self.rows = {}
        self._began = time.monotonic()

    def done(self, run: RunDir, finished: bool) -> None:
        """Where results and report lie, and the scores or how to go on."""
        lines = [f"results: {run.results}", f"report:  {run.report / 'index.html'}"]
        if finished:
            lines += outcome_lines(read_json(run.results))
        else:
            lines.append(f"go on with: soundsweep run --resume {run.path}")
        for line in lines:
            self.console.print(line, markup=False)

    def __enter__(self) -> Progress:
        if _is_watched(self.console):
            self._live = Live(
                console=self.console, get_renderable=self._render, refresh_per_second=4
            )
            self._live.start()
        return self

    def __exit__(self, *about: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(f"[{self._clock()}] {text}", markup=False)

    def phase(self, text: str, total: int | None = None) -> None:
        """A new step of the run; ``total`` is how many things it does."""
        self._bar.reset(self._task, description=text, total=total)
        self._counted = -1
        self.say(text)

    def count(self, done: int, total: int) -> None:
        """How many of a phase's things are done; a log gets a line every tenth."""
        self._bar.update(self._task, completed=done, total=total)
        tenth = 10 * done // max(total, 1)
        if self._live is None and tenth > self._counted:
            self._counted = tenth
            self.say(f"  {done}/{total}")

    def started(self, number: int, published: bool) -> None:
        self.rows[number] = Row()
        self.say(f"trial {number} started{' (the published point)' if published else ''}")

    def step(self, number: int, step: int, metric: float, loss: float) -> None:
        row = self.rows.setdefault(number, Row())
        if step <= row.step and row.state == "running":
            return
        row.step, row.metric, row.loss = step, metric, loss
        better = metric > row.best if self.mode == "max" else metric < row.best
        row.best = metric if better or math.isnan(row.best) else row.best
        tenth = max(1, self.steps // 8)
        if self._live is None and (step % tenth == 0 or step == 1):
            self.say(f"trial {number} epoch {step}/{self.steps}  loss {loss:.3f}  "
                     f"{self.metric} {metric:.3f}  best {row.best:.3f}")  # fmt: skip

    def fold(self, number: int, fold: int, step: int) -> None:
        """An epoch of a fold after the first, which is not judged."""
        row = self.rows.setdefault(number, Row())
        if self._live is None and row.state != f"fold {fold}":
            self.say(f"trial {number} trains fold {fold}")
        row.state, row.step = f"fold {fold}", step

    def ended(self, number: int, state: str, detail: str = "") -> None:
        row = self.rows.setdefault(number, Row())
        row.state = state
        row.ended = True
        ended = sum(other.ended for other in self.rows.values())
        self._bar.update(self._task, completed=ended)
        epochs = f" after epoch {row.step}  best {row.best:.3f}" if row.step else ""
        self.say(f"trial {number} {state}{epochs}  {detail}".rstrip())

    def counter(self, text: str, total: int) -> Callable[[int, int], None]:
        """Start a phase and return what reports its count."""
        self.phase(text, total)
        return self.count

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("trial", "state", "epoch", "loss", self.metric, "best"):
            table.add_column(name, justify="left" if name == "state" else "right")
        for number in sorted(self.rows)[-20:]:
            row = self.rows[number]
            table.add_row(
                str(number), row.state, f"{row.step}/{self.steps}", _number(row.loss),
                _number(row.metric), _number(row.best),
            )  # fmt: skip
        return Group(table, self._bar)


def _is_watched(console: Console) -> bool:
    """Whether a person sees a table change there. ``ray submit`` gives its command a terminal even
    where it writes to a file; without one at its other end that has no size. ``TERM=dumb`` asks for
    lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        return False
    try:
        return os.get_terminal_size(console.file.fileno()).columns > 0
    except OSError:  # no terminal of the system's, but it is to be taken for one
        return True


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
