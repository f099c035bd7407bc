"""What the command line shows while a run goes on: a live table in a terminal, lines in a log."""

from __future__ import annotations

import math
import os

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from orchestrator.cli.words import ending_lines, plan_lines
from orchestrator.console.lines import Lines
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan
from orchestrator.runs.rundir import RunDir


class Terminal(Lines):
    """Progress on the standard output: a live table in a terminal, else plain lines."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("", total=None)
        self._live: Live | None = None

    def line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def often(self, text: str) -> None:
        if self._live is None:
            self.say(text)

    def planned(self, plan: Plan) -> None:
        """The plan in words; what follows is of its run."""
        for line in plan_lines(plan):
            self.line(line)
        super().planned(plan)

    def done(self, run: RunDir, finished: bool) -> None:
        """Where results and report lie, and the scores or how to go on."""
        for line in ending_lines(run, finished):
            self.line(line)

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

    def phase(self, text: str, total: int | None = None) -> None:
        self._bar.reset(self._task, description=text, total=total)
        super().phase(text, total)

    def count(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        super().count(done, total)

    def ended(self, number: int, state: str, detail: str = "") -> None:
        super().ended(number, state, detail)
        ended = sum(other.ended for other in self.rows.values())
        self._bar.update(self._task, completed=ended)

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
    return "" if math.isnan(value) else f"{value:z.3f}"
