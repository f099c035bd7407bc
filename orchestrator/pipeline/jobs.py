"""The jobs of the runs that members come from, and the stores of their sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.rows import Member
from orchestrator.plan.plan import IN_PROCESS, Plan
from orchestrator.planning.sound import stored_clips, stored_inputs
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.mirror import mirror_of
from orchestrator.runs.objects import patiently
from orchestrator.runs.rundir import RunDir
from orchestrator.search.tasks import on_ray
from orchestrator.stacking.families import learner
from orchestrator.stacking.statistics import clip_statistics
from orchestrator.training.job import Job
from systems.data.dataset import Dataset
from systems.data.prepare import Sound
from systems.data.splits import Splits
from systems.data.store import Map, store_key
from systems.machine import cores
from systems.sounds import heard_by, open_sounds


class Jobs:
    """The jobs of the runs that members come from: the run's own, or those that a stack combines.

    A run whose members lack a fold or a final model is driven from then on. As a context manager it
    gives these runs up again.
    """

    def __init__(
        self, run: RunDir, dataset: Dataset, splits: Splits, stop: Stop,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.run, self.plan = run, run.plan
        self.dataset, self.splits = dataset, splits
        self.stop, self.progress = stop, progress
        self._jobs: dict[tuple[Path, tuple[str, ...]], Job] = {}
        self._driven: dict[Path, RunDir] = {}

    def own(self) -> Job:
        """The job of the run itself."""
        return self._job(self.run, self.plan)

    def read(self, member: Member, roles: tuple[str, ...] = ()) -> Job:
        """The job of the run that a member is a trial of, for its models and their sound.

        ``roles``: whose clips' sound is asked for beside what the run itself needs.
        """
        return self._job(member.run, member.plan, roles)

    def sound(self, member: Member) -> Sound:
        """The sound that a member's models take."""
        job = self.read(member)
        return next(iter(job.sounds(job.config(job.trial(member.number))).values()))

    def driven(self, member: Member) -> Job:
        """The same, in a run that this process drives: its trials may be trained.

        Raises:
            UserError: another process drives the run.
        """
        run = member.run
        if run.path != self.run.path and run.path not in self._driven:
            self._driven[run.path] = run.drive()
            self._jobs = {of: job for of, job in self._jobs.items() if of[0] != run.path}
        return self._job(self._driven.get(run.path, run), member.plan)

    def columns(self, chosen: Sequence[Member]) -> dict[str, np.ndarray] | None:
        """Clip statistics by clip, where a meta-learner uses them; kept in the run directory."""
        asked = [learner(name, None, self.plan.stage.manner) for name in self.plan.stage.learners]
        if not any("columns" in {*one.takes, *one.uses} for one in asked):
            return None
        ids = [i for fold in self.splits.folds for i in fold.validation]
        ids += [clip.clip_id for clip in self.dataset.test_clips()]
        self.progress.phase(f"clip statistics: {len(ids)} clips", None)
        sound = self.sound(chosen[0])
        path = self.run.statistics
        if len(self.read(chosen[0]).stores) > 1:  # another first member may take another rate
            path = path.with_name(f"{path.stem}_{sound.rate}.npz")
        return clip_statistics(path, sound, ids)

    def _job(self, run: RunDir, plan: Plan, roles: tuple[str, ...] = ()) -> Job:
        if (run.path, roles) not in self._jobs:
            plan = replace(plan, resources=self.plan.resources, ray_address=self.plan.ray_address)
            ids = stored_clips(plan, self.dataset, self.splits, roles)
            stores = _stores(run, plan, self.dataset, ids, self.stop, self.progress)
            self.stop.check()
            self._jobs[run.path, roles] = Job.of(run, plan, self.dataset, self.splits, stores)
        return self._jobs[run.path, roles]

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *about: object) -> None:
        for run in self._driven.values():
            run.close()


def _stores(
    run: RunDir, plan: Plan, dataset: Dataset, ids: tuple[str, ...], stop: Stop, progress: Progress
) -> dict[str, Sound]:
    """The sound of some clips as each input of a run's trials takes it."""
    inputs = stored_inputs(plan)
    wanted = {*ids}
    clips = [clip for clip in dataset.clips if clip.clip_id in wanted]
    asked = dict.fromkeys(
        (heard_by(one, inputs.values(), clips), one.rate, one.channels, one.track)
        for one in inputs.values()
    )
    # Noted first: `clean` leaves alone what a run reads, also while it is being built.
    key = {"stores": [store_key(dataset, *one) for one in asked]}
    if not run.store.exists() or read_json(run.store) != key:
        write_json(run.store, key)

    def ray_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        if plan.ray_address == IN_PROCESS:
            mapped: Iterable[Any] = map(function, items)
        else:
            from orchestrator.search.ray_session import start_ray

            start_ray(plan.resources.total_cpus, stop, plan.ray_address)
            mapped = on_ray(function, items, stop)
        for result in mapped:
            stop.check()
            yield result

    copy, root = mirror_of(run.root), run.root / "store"
    if copy is None:
        return open_sounds(dataset, ids, inputs, root, ray_map, progress.counter)
    # This machine reads the data, which others may not have; nodes fetch what was made of it.
    for name in key["stores"]:
        patiently(partial(copy.fetch, f"store/{name}/"))
    mapped = ray_map if plan.ray_address == IN_PROCESS else _own_map(stop)
    sounds = open_sounds(dataset, ids, inputs, root, mapped, progress.counter)
    for name in key["stores"]:
        patiently(partial(copy.publish, f"store/{name}/"))
    return sounds


def _own_map(stop: Stop) -> Map:
    """A ``map`` in processes of this machine. They inherit no lock of the driver."""
    import joblib

    def mapped(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        work = joblib.Parallel(n_jobs=cores(), return_as="generator_unordered")
        for result in work(joblib.delayed(function)(item) for item in items):
            stop.check()
            yield result

    return mapped
