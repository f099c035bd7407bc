"""The whole way of a run. Each step reads the run directory, does what is missing, writes it back.

Resuming is calling it again: no step has a second path for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orchestrator.console.interrupts import Interrupted, Stop
from orchestrator.console.progress import Progress
from orchestrator.members import choose as members
from orchestrator.members.rows import Member, members_of_runs, out_of_fold, validation_targets
from orchestrator.members.trivial import TrivialRows
from orchestrator.members.trivial import note as note_trivial
from orchestrator.pipeline import teachers as required
from orchestrator.pipeline.jobs import Jobs
from orchestrator.plan.plan import IN_PROCESS
from orchestrator.report.report import write_report
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring import test_part as scoring
from orchestrator.search import sweep
from orchestrator.search.head import watched_head
from orchestrator.search.study import Search
from orchestrator.stacking import stage
from orchestrator.tracking.client import NOWHERE, seen_at
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.projector import Projector
from orchestrator.training.trial import cause_in_words
from systems.data.dataset import Dataset
from systems.data.splits import Splits


def run_job(run: RunDir, dataset: Dataset, splits: Splits, stop: Stop, progress: Progress) -> bool:
    """Search, complete, stack, score once, report. Returns whether it came to its end.

    Raises:
        UserError: what a user can mend; the run directory is whole and can be resumed.
        OSError: the disk is full, say; so too.
    """
    plan = run.plan
    finished = True
    with progress, Projector(run) as projector, watched_head(plan.ray_address, run.address):
        progress.say(f"run {run.address}")
        if projector.uri != NOWHERE:
            progress.link("MLflow", seen_at(projector.uri, experiment_name(plan)))
        try:
            _work(run, dataset, splits, stop, progress)
        except Interrupted:
            finished = False
            progress.say("interrupted: what is done is kept")
        finally:
            if plan.ray_address != IN_PROCESS:
                import ray

                ray.shutdown()
            _report_so_far(run, progress)
    if projector.problem:
        progress.say(projector.problem)
    return finished


def _report_so_far(run: RunDir, progress: Progress) -> None:
    """The report. One that cannot be written must not hide the error that ended the run."""
    ended_by = sys.exc_info()[0]
    try:
        run.check_driver()
        write_report(run)
    except Exception as error:
        if ended_by is None:
            raise
        progress.say(f"no report: {cause_in_words(error)}")


def _work(run: RunDir, dataset: Dataset, splits: Splits, stop: Stop, progress: Progress) -> None:
    plan = run.plan
    clock = Clock(run.clock, plan.search_end())
    if not run.trivial.exists():
        weights = plan.stage.row_weights
        _, targets = validation_targets(dataset, splits, plan.metric, weights)
        note_trivial(run, TrivialRows(dataset, splits), targets)
    jobs = Jobs(run, dataset, splits, stop, progress)
    with jobs:
        if plan.purpose == "stack":
            chosen = members_of_runs(plan)
            for mine in _by_run(chosen):
                if members.missing_folds(mine):
                    members.complete(jobs.driven(mine[0]), mine, stop, progress)
        else:
            job = jobs.own()
            if plan.requires():
                progress.phase("what the system learns from", None)
                required.prepare(run, jobs, stop, progress)
            clock.note()
            study = Search(
                run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial,
                may_append=run.check_driver,
            )  # fmt: skip
            sweep.search(run, job, study, stop, progress, clock)
            chosen = members.choose(run, job, study, stop, progress)
        stop.check()
        columns = jobs.columns(chosen)
        rows = out_of_fold(chosen, dataset, splits, plan, columns)
        members.note(run, rows)
        stage.fit_stage(run, rows, stop, progress)
        if plan.teaches:
            clock.note()
            return
        snapshots = stage.snapshots(run)
        for mine in _by_run(chosen):
            if tasks := members.final_tasks(plan, rows, mine[0].run, snapshots):
                members.finish(plan, jobs.driven(mine[0]), tasks, stop, progress)
        if plan.purpose != "stack":
            members.explain(run, jobs.own(), chosen[0], stop, progress)
        stop.check()
        progress.phase("score the test part", None)
        scoring.score_test_once(run, dataset, jobs.sound(chosen[0]), rows, columns)
    clock.note()


def _by_run(chosen: Sequence[Member]) -> list[list[Member]]:
    """The members of each run."""
    paths = dict.fromkeys(member.run.path for member in chosen)
    return [[member for member in chosen if member.run.path == path] for path in paths]
