"""A sweep whose trials compute nothing, for faults of clusters: their processes load no torch.

``python clusterwork.py FOLDER ADDRESS [DOG [fit]]`` drives it, or goes on with it; ``fit``: nobody
said how many at once, and one fitted when it was planned. Each epoch leaves what one leaves: a
checkpoint, then a line in metrics.jsonl, then a report.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.runs.files import append_line, read_json, write_json
from orchestrator.runs.rundir import RunDir

TRIALS, EPOCHS, PAUSE = 6, 6, 0.4


def train(folder: str, number: int, params: dict[str, Any], report: Any) -> dict[str, Any]:
    """A trial, from its checkpoint on."""
    trial = RunDir(Path(folder)).trial(number)
    for line in trial.read_metrics():
        report({"step": line["step"], "metric": line["metric"], "loss": 1.0})
    if trial.result.exists():
        return dict(read_json(trial.result))
    attempt = trial.begin_attempt({"pid": os.getpid()})
    checkpoint = trial.path / "fold0" / "checkpoint.json"
    done = read_json(checkpoint)["step"] if checkpoint.exists() else 0
    for step in range(done + 1, EPOCHS + 1):
        append_line(Path(folder) / "trained.jsonl", {"trial": number, "step": step})
        time.sleep(PAUSE)
        value = params["x"] * step / EPOCHS
        write_json(checkpoint, {"step": step})
        trial.append_metrics(0, step, {"metric": value, "loss": 1.0})
        report({"step": step, "metric": value, "loss": 1.0})
    outcome = {"outcome": "complete", "value": params["x"]}
    trial.end_attempt(attempt, outcome)
    write_json(trial.result, outcome)
    return outcome


def search_in(folder: RunDir) -> Any:
    """The study: what is drawn follows from the seed and the trial's number alone."""
    from orchestrator.plan.search import SamplerSettings
    from orchestrator.search.study import Search
    from search_spaces import SearchSpace, parse_parameter

    space = SearchSpace("metric", "max", (parse_parameter("x=float:0:1"),))
    return Search(folder.study, space, SamplerSettings(7, 1000), None, {"x": 0.5})


def main(path: str, address: str, patience: str = "900", at_once: str = "") -> None:
    """Drive the sweep; exit code 3 where it was interrupted."""
    from rich.console import Console

    from orchestrator.cli.terminal import Terminal
    from orchestrator.console.interrupts import Stop
    from orchestrator.plan.plan import IN_PROCESS, Resources
    from orchestrator.runs.clock import Clock
    from orchestrator.search import sweep, watchdog
    from orchestrator.search.head import watched_head
    from orchestrator.search.referee import Referee

    watchdog.SHORTEST = watchdog.UNKNOWN = float(patience)
    progress = Terminal(Console(highlight=False, soft_wrap=True))
    count = 1 if address == IN_PROCESS or at_once == "fit" else 2
    resources = Resources(count, 1, 0, as_fit=at_once == "fit")
    with RunDir(Path(path)).drive() as run, Stop() as stop, watched_head(address, run.path):
        clock = Clock(run.clock, None)
        referee = Referee(search_in(run), TRIALS, stop, progress, clock)
        sweep.sweep(train, path, referee, resources, address, run.path)
        clock.note()
        if stop.requested:
            sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
