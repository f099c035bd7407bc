"""The whole way of a run. Each step reads the run directory, does what is missing, writes it back.

Resuming is calling it again: no step has a second path for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from orchestrator import members, required, scoring, sweep
from orchestrator.interrupts import Interrupted, Stop
from orchestrator.plan import Plan, stored_clips
from orchestrator.progress import Progress
from orchestrator.report import html, results
from orchestrator.rundir import RunDir, read_json, write_json
from orchestrator.stacking import stage
from orchestrator.stacking.families import learner
from orchestrator.stacking.rows import Member, members_of_runs, out_of_fold
from orchestrator.stacking.statistics import clip_statistics
from orchestrator.study import Search
from orchestrator.timing import Clock
from orchestrator.tracking import Projector
from orchestrator.training import Job
from orchestrator.trial import cause_in_words
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.data.store import WaveformStore, open_store, store_key
from systems.errors import UserError


def run_job(run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, stop: Stop) -> bool:
    """Search, complete, stack, score once, report. Returns whether it came to its end.

    Raises:
        UserError: what a user can mend; the run directory is whole and can be resumed.
        OSError: the disk is full, say; so too.
    """
    finished = True
    with (
        Progress(plan.metric, plan.mode, plan.steps()) as progress,
        Projector(run, plan) as projector,
    ):
        progress.say(f"run {run.path}")
        try:
            _work(run, plan, dataset, splits, stop, progress)
        except Interrupted:
            finished = False
            progress.say("interrupted: what is done is kept")
        finally:
            ray.shutdown()
            _report_so_far(run, progress)
    if projector.problem:
        progress.say(projector.problem)
    return finished


def write_report(run: RunDir) -> Path:
    """results.json and the report of a run as far as it has come."""
    return html.write(results.collect(run), run.report)


def _report_so_far(run: RunDir, progress: Progress) -> None:
    """The report. One that cannot be written must not hide the error that ended the run."""
    ended_by = sys.exc_info()[0]
    try:
        write_report(run)
    except Exception as error:
        if ended_by is None:
            raise
        progress.say(f"no report: {cause_in_words(error)}")


def _work(
    run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, stop: Stop, progress: Progress
) -> None:
    clock = Clock(run.clock, plan.search_end())
    jobs = Jobs(run, plan, dataset, splits, stop, progress)
    with jobs:
        if plan.purpose == "stack":
            chosen = members_of_runs(plan)
            for mine in _by_run(chosen):
                if missing := members.missing_folds(mine):
                    members.complete(jobs.driven(mine[0]), missing, stop, progress)
        else:
            job = jobs.own()
            if plan.entry().requires:
                progress.phase("what the system learns from", None)
                required.prepare(run, plan, dataset, splits, jobs.read)
            clock.note()
            study = Search(
                run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial
            )
            sweep.search(run, plan, job, study, stop, progress, clock)
            chosen = members.choose(run, plan, job, study, stop, progress)
        stop.check()
        columns = jobs.columns(chosen)
        rows = out_of_fold(chosen, dataset, splits, plan, columns)
        members.note(run, plan, rows)
        stage.fit_stage(run, plan, rows, stop, progress)
        snapshots = stage.snapshots(run, plan)
        for mine in _by_run(chosen):
            if tasks := members.final_tasks(plan, rows, mine[0].run, snapshots):
                members.finish(plan, jobs.driven(mine[0]), tasks, stop, progress)
        stop.check()
        progress.phase("score the test part", None)
        scoring.score_test_once(run, plan, dataset, jobs.read(chosen[0]).store, rows, columns)
    clock.note()


def _by_run(chosen: Sequence[Member]) -> list[list[Member]]:
    """The members of each run."""
    paths = dict.fromkeys(member.run.path for member in chosen)
    return [[member for member in chosen if member.run.path == path] for path in paths]


class Jobs:
    """The jobs of the runs that members come from: the run's own, or those that a stack combines.

    A run whose members lack a fold or a final model is driven from then on. As a context manager it
    gives these runs up again.
    """

    def __init__(
        self, run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, stop: Stop,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.run, self.plan = run, plan
        self.dataset, self.splits = dataset, splits
        self.stop, self.progress = stop, progress
        self._jobs: dict[Path, Job] = {}
        self._driven: dict[Path, RunDir] = {}

    def own(self) -> Job:
        """The job of the run itself."""
        return self._job(self.run, self.plan)

    def read(self, member: Member) -> Job:
        """The job of the run that a member is a trial of, for its models and their sound."""
        return self._job(member.run, member.plan)

    def driven(self, member: Member) -> Job:
        """The same, in a run that this process drives: its trials may be trained.

        Raises:
            UserError: another process drives the run.
        """
        run = member.run
        if run.path != self.run.path and run.path not in self._driven:
            self._driven[run.path] = run.drive()
            self._jobs.pop(run.path, None)  # of an earlier generation
        return self._job(self._driven.get(run.path, run), member.plan)

    def columns(self, chosen: Sequence[Member]) -> dict[str, np.ndarray] | None:
        """Clip statistics by clip, where a meta-learner uses them; kept in the run directory."""
        asked = [learner(name, None, self.plan.manner()) for name in self.plan.stack]
        if not any("columns" in {*one.takes, *one.uses} for one in asked):
            return None
        ids = [i for fold in self.splits.folds for i in fold.validation]
        ids += [clip.clip_id for clip in self.dataset.part(self.dataset.test_part)]
        self.progress.phase(f"clip statistics: {len(ids)} clips", None)
        return clip_statistics(self.run.statistics, self.read(chosen[0]).store, ids)

    def _job(self, run: RunDir, plan: Plan) -> Job:
        if run.path not in self._jobs:
            plan = replace(plan, resources=self.plan.resources, ray_address=self.plan.ray_address)
            store = _store(run, plan, self.dataset, self.splits, self.stop, self.progress)
            self.stop.check()
            self._jobs[run.path] = Job.of(run, plan, self.dataset, self.splits, store)
        return self._jobs[run.path]

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *about: object) -> None:
        for run in self._driven.values():
            run.close()


def _store(
    run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, stop: Stop, progress: Progress
) -> WaveformStore:
    """The one store of the sound that this run needs, test part included."""
    ids = stored_clips(plan, dataset, splits)
    rate = plan.entry().build(plan.trial_config(plan.first_trial)).inputs()["audio"].rate
    # Noted first: `clean` leaves alone what a run reads, also while it is being built.
    key = {"store": store_key(dataset, ids, rate)}
    if not run.store.exists() or read_json(run.store) != key:
        write_json(run.store, key)

    def ray_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        sweep.start_ray(plan.resources.total_cpus, stop, plan.ray_address)
        for result in on_ray(function, items):
            stop.check()
            yield result

    counter = progress.counter(f"waveform store: {len(ids)} clips at {rate} Hz", len(ids))
    return open_store(dataset, ids, rate, run.root / "store", ray_map, counter)


def on_ray(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
    """A ``map`` over Ray tasks; results come as they are done."""
    remote: Any = ray.remote(lambda shared, item: shared(item))
    shared = ray.put(function)
    waiting = [remote.remote(shared, item) for item in items]
    while waiting:
        done, waiting = ray.wait(waiting)
        for reference in done:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, UserError) else error from None
