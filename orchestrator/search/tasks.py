"""Work that is no trial, on Ray: many calls of one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.console.interrupts import Interrupted, Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import IN_PROCESS, Resources
from orchestrator.training.elsewhere import hand_over, publish_first, run_there
from orchestrator.training.job import Job
from orchestrator.training.trial import cause_in_words, disk_is_full
from systems.errors import UserError


def cpus_of_tasks(count: int, resources: Resources) -> list[int]:
    """The CPUs of each of so many tasks, by their place: the last share what would lie idle.

    Of 3 tasks on 2 slots the third runs alone, so it gets both slots' CPUs. A task's CPUs are its
    torch threads, which its digits depend on: they follow from the tasks that are planned, never
    from what a kill has left of them. With GPUs, or workers within a task, all get the same.
    """
    slots, cpus = resources.concurrency, resources.cpus
    last = count % slots
    if not last or resources.gpus or resources.workers > 1:
        return [cpus] * count
    return [cpus] * (count - last) + [cpus * (slots // last)] * last


def in_parallel(
    function: Callable[..., Any],
    job: Job,
    tasks: Sequence[tuple[Any, ...]],
    cpus: Sequence[int],
    resources: Resources,
    stop: Stop,
    progress: Progress,
) -> None:
    """Run ``function(job, *task)`` for every task on Ray; each goes on from its checkpoint.

    ``cpus``: of each task (:func:`cpus_of_tasks`); the plan's where no node has so many.

    Raises:
        Interrupted: a signal came; what runs is ended, its checkpoints stay.
        UserError: a task failed, with its cause.
    """
    progress.count(0, len(tasks))
    if job.plan.ray_address == IN_PROCESS:
        _here(function, job, tasks, cpus, resources, stop, progress)
        return
    import ray

    from orchestrator.search.places import Places
    from orchestrator.search.ray_session import start_ray

    start_ray(resources.total_cpus, stop, job.plan.ray_address)
    publish_first(job)
    places = Places(resources, job.plan.ray_address, progress)
    begin = _starter(function, job, resources)
    left, waiting = list(zip(tasks, cpus, strict=True)), dict[Any, tuple[Any, ...]]()
    try:
        while left or waiting:
            while left and len(waiting) < places.count():
                task, wanted = left.pop(0)
                waiting[begin(task, wanted)] = task
            done, _ = ray.wait(list(waiting), timeout=0.5)
            for reference in done:
                task = waiting.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    raise UserError(f"trial {task[0]}: {_cause(job, error)}") from error
                hand_over(job, task[0])
                progress.count(len(tasks) - len(left) - len(waiting), len(tasks))
            if stop.requested:
                raise Interrupted
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _here(
    function: Callable[..., Any], job: Job, tasks: Sequence[tuple[Any, ...]],
    cpus: Sequence[int], resources: Resources, stop: Stop, progress: Progress,
) -> None:  # fmt: skip
    """One after another in this process, each with the threads that it would have on Ray."""
    for done, (task, wanted) in enumerate(zip(tasks, cpus, strict=True), 1):
        try:
            run_there(function, _with_cpus(job, resources, wanted), *task)
        except Exception as error:
            raise UserError(f"trial {task[0]}: {_cause(job, error)}") from error
        progress.count(done, len(tasks))
        if stop.requested:
            raise Interrupted


def _with_cpus(job: Job, resources: Resources, cpus: int) -> Job:
    return replace(job, plan=replace(job.plan, resources=replace(resources, cpus=cpus)))


def _starter(
    function: Callable[..., Any], job: Job, resources: Resources
) -> Callable[[tuple[Any, ...], int], Any]:
    """What starts a task with so many CPUs and torch threads; the job is sent once for each."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = max((node.get("CPU", 0) for node in nodes), default=0)
    sent: dict[int, tuple[Any, Any]] = {}

    def begin(task: tuple[Any, ...], wanted: int) -> Any:
        cpus = wanted if wanted <= most else resources.cpus
        if cpus not in sent:
            own = _with_cpus(job, resources, cpus)
            num_cpus, num_gpus = own.plan.resources.of_process()
            remote = ray.remote(run_there).options(
                num_cpus=num_cpus, num_gpus=num_gpus, max_retries=2
            )
            sent[cpus] = remote, ray.put(own)
        remote, shared = sent[cpus]
        return remote.remote(function, shared, *task)

    return begin


def _cause(job: Job, error: BaseException) -> str:
    inner = getattr(error, "cause", None)
    if inner is None and job.plan.ray_address != IN_PROCESS:
        from orchestrator.search.last_words import last_words

        return f"its process was lost: {last_words(str(error))}"
    inner = inner or error
    return disk_is_full(inner, Path(job.run)) or cause_in_words(inner)


def on_ray(function: Callable[[Any], Any], items: Sequence[Any], stop: Stop) -> Iterable[Any]:
    """A ``map`` over Ray tasks; results come as they are done.

    Raises:
        UserError: what a task raises that its user can mend, or its process was lost.
        Interrupted: a signal came; tasks that wait for a node are as if never asked for.
    """
    import ray

    from orchestrator.search.last_words import last_words

    remote: Any = ray.remote(lambda shared, item: shared(item))
    shared = ray.put(function)
    waiting = [remote.remote(shared, item) for item in items]
    while waiting:
        done, waiting = ray.wait(waiting, timeout=0.5)
        stop.check()
        for reference in done:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, FileNotFoundError):
                    cause = UserError(
                        f"a node does not see {cause.filename}: mount the storage root and the "
                        "data on each under the same path, then resume the run."
                    )
                raise cause if isinstance(cause, UserError) else error from None
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a process that reads the sound was lost: {last_words(str(error))}. What is "
                    "done is kept: resume the run."
                ) from error
