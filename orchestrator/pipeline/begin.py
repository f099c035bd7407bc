"""Beginning a planned run, and going on with one that is there."""

from __future__ import annotations

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.pipeline.way import run_job
from orchestrator.plan.options import Changes
from orchestrator.plan.plan import Plan
from orchestrator.planning.changes import changed
from orchestrator.planning.checks import check_address
from orchestrator.planning.resolve import reload
from orchestrator.runs.lease import Superseded
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import full_disk_is_told, writable
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.machine import settle


def begin(folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress) -> bool:
    """Write a plan and run it; returns whether it came to its end, else it was interrupted.

    Raises:
        UserError: a run of this name exists, or what a user can mend.
    """
    folder.refresh()
    if folder.plan_file.exists():
        raise UserError(
            f"a run named '{plan.name}' exists in {folder.root}: give another --name, or go on "
            f"with --resume {plan.name}."
        )
    check_address(plan.ray_address)
    writable(folder.root)
    return drive(folder, plan, dataset, splits, progress)


def go_on(folder: RunDir, changes: Changes, progress: Progress) -> bool:
    """Go on with a run, perhaps with more trials; returns whether it came to its end.

    Raises:
        UserError: a change that cannot be, or data that is not what it was.
    """
    plan = changed(folder.plan, changes)
    dataset, splits = reload(plan)
    return drive(folder, plan, dataset, splits, progress)


def drive(folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress) -> bool:
    """Drive a run with this plan, whatever of it is there; returns whether it came to its end."""
    settle()
    progress.planned(plan)
    check_address(plan.ray_address)
    with full_disk_is_told(folder), folder.drive(), Stop() as stop:
        if folder.note:
            progress.say(folder.note)
        if plan.mlflow is None and folder.address != str(folder.path):
            progress.say("MLflow's store is this machine's own (--mlflow names a server for all)")
        folder.write_plan(plan)
        try:
            finished = run_job(folder, dataset, splits, stop, progress)
        except Superseded:
            folder.check_driver()  # tells it
            raise
    progress.done(folder, finished)
    return finished
