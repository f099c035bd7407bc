"""Beginning a planned run, and going on with one that is there."""

from __future__ import annotations

from orchestrator.console.interrupts import Stop
from orchestrator.console.log import Both, logged
from orchestrator.console.progress import Progress
from orchestrator.console.request import stoppable
from orchestrator.pipeline.way import run_job
from orchestrator.plan.options import Changes
from orchestrator.plan.plan import Plan
from orchestrator.planning.changes import changed
from orchestrator.planning.checks import check_address, check_tracking
from orchestrator.planning.resolve import reload
from orchestrator.runs.lease import Superseded
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import full_disk_is_told, writable
from orchestrator.search.capacity import capacity, check_fits
from orchestrator.search.nodes import check_nodes
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
    check_tracking(plan.mlflow)
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
    check_tracking(plan.mlflow)
    progress.planned(plan)
    check_address(plan.ray_address)
    check_fits(plan.resources, capacity(plan.ray_address))
    with full_disk_is_told(folder):
        check_nodes(plan, folder.root)
    with full_disk_is_told(folder), folder.drive(), Stop(progress.say) as stop:
        if folder.note:
            progress.say(folder.note)
        if plan.mlflow is None and folder.address != str(folder.path):
            progress.say("MLflow's store is this machine's own (--mlflow names a server for all)")
        folder.write_plan(plan)
        with (
            logged(folder, plan) as log,
            full_disk_is_told(folder),
            stoppable(folder.stop_request, stop),
        ):
            both = Both(progress, log)
            stop.say = both.say  # what ended a run stands in its directory
            try:
                log.finished = run_job(folder, dataset, splits, stop, both)
            except Superseded:
                folder.check_driver()  # tells it
                raise
            except KeyboardInterrupt:
                both.say(f"ended at once; go on with: soundsweep run --resume {folder.address}")
                raise
    progress.done(folder, log.finished)
    return log.finished
