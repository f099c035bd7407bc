"""Trials that compute nothing, in a module of their own: their processes import no more than it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir

STEPS = 3
KEY = "network.dropout"  # its value is the trial's
AT_ONCE = 64


def noop(
    about: tuple[str, str], number: int, params: dict[str, Any], report: Any
) -> dict[str, Any]:
    """The records and reports of a trial."""
    folder, metric = about
    trial = RunDir(Path(folder)).trial(number)
    attempt = trial.begin_attempt({"pid": os.getpid(), "device": "cpu"})
    write_json(trial.config, {"params": params, "config": {}})
    value = params[KEY]
    for step in range(1, STEPS + 1):
        trial.append_metrics(0, step, {"loss": 0.0, metric: value, "seconds": 0.0})
        report({"step": step, "metric": value, "loss": 0.0})
    outcome = {"outcome": "complete", "value": value, "best_steps": [1]}
    trial.end_attempt(attempt, outcome)
    write_json(trial.result, outcome)
    return outcome


def resting(about: tuple[str, str], number: int, params: dict[str, Any], report: Any) -> Any:
    """A no-op trial that lasts, so that many are there at once; it notes what it has loaded."""
    began = time.time()
    outcome = noop(about, number, params, report)
    while time.time() - began < 600:
        time.sleep(0.2)
        if len(list(Path(about[0], "trials").glob("*/config.json"))) >= AT_ONCE:
            break
    kept = {line.split(":")[0]: line.split()[1] for line in
            Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]}  # fmt: skip
    write_json(Path(about[0]) / f"seen{number}.json",
               {"torch": "torch" in sys.modules, "kB": int(kept["Pss"]), "began": began,
                "ended": time.time()})  # fmt: skip
    return outcome
