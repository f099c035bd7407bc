"""Work that is no trial, on Ray: many calls of one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.console.interrupts import Interrupted, Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import IN_PROCESS, Resources
from orchestrator.training.job import Job
from orchestrator.training.trial import cause_in_words, disk_is_full
from systems.errors import UserError


def in_parallel(
    function: Callable[..., Any],
    job: Job,
    tasks: Sequence[tuple[Any, ...]],
    resources: Resources,
    stop: Stop,
    progress: Progress,
) -> None:
    """Run ``function(job, *task)`` for every task on Ray; each goes on from its checkpoint.

    Raises:
        Interrupted: a signal came; what runs is ended, its checkpoints stay.
        UserError: a task failed, with its cause.
    """
    progress.count(0, len(tasks))
    if job.plan.ray_address == IN_PROCESS:
        _here(function, job, tasks, stop, progress)
        return
    import ray

    from orchestrator.search.ray_session import start_ray

    start_ray(resources.total_cpus, stop, job.plan.ray_address)
    cpus, gpus = resources.of_process()
    remote = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
    shared = ray.put(job)
    left, waiting = list(tasks), dict[Any, tuple[Any, ...]]()
    try:
        while left or waiting:
            while left and len(waiting) < resources.concurrency:
                task = left.pop(0)
                waiting[remote.remote(shared, *task)] = task
            done, _ = ray.wait(list(waiting), timeout=0.5)
            for reference in done:
                task = waiting.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    raise UserError(f"trial {task[0]}: {_cause(job, error)}") from error
                progress.count(len(tasks) - len(left) - len(waiting), len(tasks))
            if stop.requested:
                raise Interrupted
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _here(
    function: Callable[..., Any], job: Job, tasks: Sequence[tuple[Any, ...]], stop: Stop,
    progress: Progress,
) -> None:  # fmt: skip
    for done, task in enumerate(tasks, 1):
        try:
            function(job, *task)
        except Exception as error:
            raise UserError(f"trial {task[0]}: {_cause(job, error)}") from error
        progress.count(done, len(tasks))
        if stop.requested:
            raise Interrupted


def _cause(job: Job, error: BaseException) -> str:
    inner = getattr(error, "cause", None) or error
    return disk_is_full(inner, Path(job.run)) or cause_in_words(inner)


def on_ray(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
    """A ``map`` over Ray tasks; results come as they are done."""
    import ray

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
