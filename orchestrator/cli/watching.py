"""``soundsweep status``, ``stop`` and ``attach``: a run from another terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument

from orchestrator.cli.commands import say
from orchestrator.cli.shared import Run, Storage
from orchestrator.cli.words import duration, ending_lines
from orchestrator.runs.lease import machine
from orchestrator.runs.mirror import mirror_of
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import find_run, root_of
from systems.errors import UserError

if TYPE_CHECKING:
    from orchestrator.watching.status import Status

DETACHED = 130  # exit code after Ctrl-C


def status(
    run: Annotated[
        str | None, Argument(metavar="[RUN]", help="A run's folder or name; none: all of the root.")
    ] = None,
    storage: Storage = "runs",
) -> None:
    """How a run stands, or all runs of a root: driver, phase, trials, the best so far."""
    from orchestrator.watching.status import read_status

    if run is not None:
        say(*status_lines(read_status(find_run(run, storage))))
        return
    root = root_of(storage, runs=True)
    if not root.is_dir():
        raise UserError(f"there is no storage root {root}.")
    paths = sorted(path.parent for path in root.glob("*/plan.json"))
    rows = [_row(read_status(RunDir(path))) for path in paths]
    if not rows:
        say(f"no runs in {root}")
        return
    header = ("run", "system", "data set", "state", "trials", "best")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(found: Status) -> tuple[str, ...]:
    plan = found.plan
    best = "" if found.best is None else f"{plan['metric']} {found.best[1]:.4f}"
    done = sum(n for state, n in found.trials.items() if state not in ("running", "interrupted"))
    return (found.run.path.name, plan["system"], plan["dataset"], found.state,
            f"{done}/{plan['trials']}", best)  # fmt: skip


def status_lines(found: Status) -> list[str]:
    """The status of a run in words."""
    plan, driver = found.plan, found.driver
    rows = [("run", found.run.address), ("system", f"{plan['system']} on {plan['dataset']}")]
    rows.append(("state", found.state + (f": {found.why}" if found.why else "")))
    if found.state == "running":
        rows.append(("driven by", f"process {driver['pid']} on {driver['host']}, last heard of "
                     f"{_ago(driver['heartbeat'])}"))  # fmt: skip
    elif driver:
        rows.append(("last driver", f"process {driver['pid']} on {driver['host']}"))
    if found.phase:
        rows.append(("phase", f"{found.phase}, since {_ago(found.since, '')}".rstrip()))
    counts = ", ".join(f"{count} {state}" for state, count in sorted(found.trials.items()))
    rows.append(("trials", f"{counts or 'none yet'}, of {plan['trials']}"))
    if found.best is not None:
        number, value = found.best
        rows.append(("best", f"trial {number}, {plan['metric']} {value:.4f}"))
    rows.append(("time worked", duration(found.seconds)))
    rows += found.links.items()
    if found.state in ("interrupted", "failed"):
        rows.append(("go on with", f"soundsweep run --resume {found.run.address}"))
    return [f"{name:<14} {value}" for name, value in rows]


def _ago(when: float | None, ago: str = " ago") -> str:
    """How long ago; the clocks of other machines may be ahead of ours."""
    return duration(max(0.0, time.time() - (when or time.time()))) + ago


def _of_this_machine(folder: RunDir) -> RunDir:
    """A run whose driver reads and writes the same files as we.

    Raises:
        UserError: of a root in an object store each machine has files of its own, and the run is
            driven on another one.
    """
    copy = mirror_of(folder.root)
    if copy is not None and folder.is_driven():
        about = copy.lease(folder.path.name).read()
        if about.get("machine", machine()) != machine():
            raise UserError(
                f"{folder.address} is driven on {about['host']}: follow it, or stop it, from "
                "there. `soundsweep status` tells here how far it has been published."
            )
    return folder


def stop(
    run: Run,
    storage: Storage = "runs",
) -> None:
    """Ask a run's driver, on any machine, to end after the running epoch; wait, say the outcome."""
    from orchestrator.watching.follow import request_stop
    from orchestrator.watching.status import read_status

    folder = _of_this_machine(find_run(run, storage))

    def waits() -> None:
        about = folder.about_driver()
        say(f"asked process {about['pid']} on {about['host']} to end {folder.path.name} after the "
            "running epoch; waiting (Ctrl-C ends the waiting, not the request)")  # fmt: skip

    try:
        asked = request_stop(folder, waits)
    except KeyboardInterrupt:
        raise typer.Exit(DETACHED) from None
    found = read_status(folder)
    said = found.state + (f": {found.why}" if found.why else "")
    if not asked:
        say(f"nothing drives {folder.address}: it is {said}")
        return
    say(f"{folder.address} is {said}")
    if found.state != "done":
        say(f"go on with: soundsweep run --resume {folder.address}")


def attach(
    run: Run,
    storage: Storage = "runs",
) -> None:
    """Follow what a run tells until it ends, with its exit code; Ctrl-C leaves the run alone."""
    from orchestrator.watching.follow import exit_code, follow
    from orchestrator.watching.status import read_status

    folder = _of_this_machine(find_run(run, storage))
    try:
        for line in follow(folder):
            say(line)
    except KeyboardInterrupt:
        say(f"detached; {folder.address} goes on")
        raise typer.Exit(DETACHED) from None
    code = exit_code(folder)
    if code in (0, 3) and folder.results.exists():
        say(*ending_lines(folder, code == 0))
    else:
        say(*status_lines(read_status(folder)))
    raise typer.Exit(code)
