"""A whole run within this process: the way of a run without Ray, MLflow and the page."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.console.interrupts import Stop
from orchestrator.members import choose
from orchestrator.pipeline import jobs, way
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search import sweep
from orchestrator.search.study import Search
from orchestrator.training.job import Job
from orchestrator.training.trial import run_trial
from systems.data.dataset import Dataset
from systems.data.splits import Splits


def run_in_process(options: Options) -> RunDir:
    """Plan and run, one trial after another; the run directory, scored."""
    return drive_in_process(Path(options.storage), *make_plan(options))


def drive_in_process(root: Path, plan: Plan, dataset: Dataset, splits: Splits) -> RunDir:
    """Run what is planned below a storage root."""
    run = RunDir(root / plan.name)
    with run.drive(), pytest.MonkeyPatch.context() as patch:
        write_json(run.plan, plan.to_json())
        patch.setattr(sweep, "search", _search)
        patch.setattr(choose, "in_parallel", _one_by_one)
        patch.setattr(jobs, "start_ray", lambda *about: None)
        patch.setattr(jobs, "on_ray", map)
        patch.setattr(way, "Projector", lambda *about: contextlib.nullcontext(_Unprojected()))
        patch.setattr(way, "_report_so_far", lambda *about: None)
        way.run_job(run, plan, dataset, splits, Stop())
    return run


class _Unprojected:
    problem = None


def _search(run: RunDir, plan: Plan, job: Job, study: Search, *about: Any) -> None:
    while study.asked() < plan.trials:
        number, params = study.ask()

        def report(said: dict[str, Any], number: int = number) -> None:
            if "metric" in said:
                study.report(number, said["step"], said["metric"])

        outcome = run_trial(job, number, params, report)
        assert outcome["outcome"] == "complete", outcome.get("traceback", outcome)
        study.complete(number, outcome["value"])


def _one_by_one(
    function: Callable[..., Any], job: Job, tasks: Sequence[tuple[Any, ...]], *about: Any
) -> None:
    for task in tasks:
        function(job, *task)
