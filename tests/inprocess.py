"""A whole run within this process: the real way of a run, without Ray and MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from systems.data.dataset import Dataset
from systems.data.splits import Splits


def run_in_process(options: Options) -> RunDir:
    """Plan and run, one trial after another; the run directory, scored."""
    return drive_in_process(Path(options.storage), *make_plan(options))


def drive_in_process(root: Path, plan: Plan, dataset: Dataset, splits: Splits) -> RunDir:
    """Run what is planned below a storage root."""
    run = RunDir(root / plan.name)
    here = replace(plan, ray_address="none", mlflow="none")
    assert begin(run, here, dataset, splits, Progress())
    return run
