"""The whole way of a run. Each step reads the run directory, does what is missing, writes it back.

Resuming is calling it again: no step has a second path for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ray

from orchestrator import members, scoring, stacking, sweep
from orchestrator.interrupts import Interrupted, Stop
from orchestrator.plan import Plan, stored_clips
from orchestrator.progress import Progress
from orchestrator.report import html, results
from orchestrator.rundir import RunDir, write_json
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
    store = _store(run, plan, dataset, splits, stop, progress)
    clock.note()
    stop.check()
    job = Job.of(run, plan, dataset, splits, store)
    study = Search(run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial)
    sweep.search(run, plan, job, study, stop, progress, clock)
    groups = {clip.clip_id: clip.group for clip in dataset.clips}
    rows = members.choose(run, plan, job, study, groups, stop, progress)
    stop.check()
    for name in plan.stack:
        if not (run.stack(name) / "scores.json").exists():
            stop.check()
            progress.phase(f"stage two: {name}", None)
            stacking.fit_learner(name, run, plan, dataset, rows)
    members.finish(run, plan, job, rows, stop, progress)
    stop.check()
    progress.phase("score the test part", None)
    scoring.score_test_once(run, plan, dataset, store, rows)
    clock.note()


def _store(
    run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, stop: Stop, progress: Progress
) -> WaveformStore:
    """The one store of the sound that this run needs, test part included."""
    ids = stored_clips(plan, dataset, splits)
    rate = plan.entry().build(plan.trial_config(plan.first_trial)).inputs()["audio"].rate
    # Noted first: `clean` leaves alone what a run reads, also while it is being built.
    write_json(run.store, {"store": store_key(dataset, ids, rate)})

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
