"""A job on a node that has no disk with its driver: what it reads is fetched from the object store
of the root into the node's own copy, once a node, and what it writes is published from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.runs.lease import Superseded
from orchestrator.runs.mirror import LOG, mirror_at
from orchestrator.runs.objects import ObjectsError, patiently
from orchestrator.runs.rundir import RunDir
from orchestrator.training.job import Job

NONE = Path("none")  # for the folder of a training that has ended
PAUSE = 5.0  # seconds, at least, between two publications of a trial that is being trained


class Node:
    """The node that a trial of a job is trained on.

    ``job``: the job with the node's own paths, and its trainings publish what they have written
    every few seconds. Of a root that is a folder it is the job as it is.
    """

    def __init__(self, job: Job, number: int) -> None:
        """Raises UserError where the object store cannot be reached, OSError where the node's disk
        is full, Superseded where another driver has taken the run over."""
        self.job = job
        self._mirror = mirror_at(job.address) if job.address else None
        if self._mirror is None:
            return
        self._below, self._published = _below(job, number), time.monotonic()
        here = Path(job.run).parent
        moved = job if here == self._mirror.root else _moved(job, here, self._mirror.root)
        self.job = replace(moved, published=self._publish_now_and_then)
        patiently(self._fetch)

    def end(self) -> None:
        """Publish what the trial has written."""
        if self._mirror is not None:
            patiently(partial(self._publish, NONE))

    def _publish_now_and_then(self, training: Path) -> None:
        assert self._mirror is not None
        with suppress(ObjectsError):  # it will be later
            if time.monotonic() - self._published > PAUSE:
                self._published = time.monotonic()
                self._publish(training)
            elif self._mirror.id != self.job.copy:  # the driver may stop the trial at any report
                self._mirror.publish_lines(f"{self._below}{LOG}")

    def _fetch(self) -> None:
        """The trial as it was left; on a node that has not the driver's copy also what the system
        learns from, and the sound, which the first of its trials fetches."""
        assert self._mirror is not None
        self._check()
        self._mirror.fetch(self._below)
        if self._mirror.id == self.job.copy:
            return
        stores, run = self._mirror.root / "store", Path(self.job.run).name
        for below in (
            f"{run}/required/",
            *(f"{Path(other).name}/" for other in {*self.job.plan.required.values()}),
            *{f"store/{Path(f).relative_to(stores).parts[0]}/" for f in _folders(self.job)},
        ):  # fmt: skip
            self._mirror.fetch(below)

    def _publish(self, training: Path) -> None:
        assert self._mirror is not None
        self._check()
        self._mirror.publish(self._below, training=training)

    def _check(self) -> None:
        """Raise Superseded where another driver has taken the run over."""
        assert self._mirror is not None
        name = Path(self.job.run).name
        if self._mirror.lease(name).read().get("generation") != self.job.generation:
            raise Superseded(f"generation {self.job.generation} of {name} has ended")


def run_there(function: Callable[..., None], job: Job, number: int, *more: Any) -> None:
    """``function(job, number, *more)``, a training say, on whatever node this is."""
    node = Node(job, number)
    function(node.job, number, *more)
    node.end()


def lend(job: Job, number: int) -> None:
    """Let workers, wherever they are, have what a trial has written so far."""
    if job.address:
        copy, below = mirror_at(job.address), _below(job, number)
        patiently(lambda: copy.publish(below, training=NONE))


def hand_over(job: Job, number: int) -> None:
    """Let the driver's copy and the object store have what a trial has written that has ended,
    wherever that was."""
    if job.address:
        copy, below = mirror_at(job.address), _below(job, number)
        patiently(lambda: copy.fetch(below))
        patiently(lambda: copy.publish(below, training=NONE))


def publish_first(job: Job) -> None:
    """Publish what nodes are to read, before they are told to."""
    if job.address:
        patiently(RunDir(Path(job.run)).publish)


def _below(job: Job, number: int) -> str:
    """Where a trial's files lie below the root."""
    return f"{job.trial(number).path.relative_to(Path(job.run).parent)}/"


def _moved(value: Any, old: Path, new: Path) -> Any:
    """A value of dataclasses with all paths below one folder as they are below another."""
    if isinstance(value, str):
        return str(new) + value.removeprefix(str(old)) if value.startswith(f"{old}/") else value
    if isinstance(value, Job):
        plan = replace(value.plan, required=_moved(value.plan.required, old, new))
        stores = _moved(dict(value.stores), old, new)
        return replace(value, run=_moved(value.run, old, new), plan=plan, stores=stores)
    if isinstance(value, dict):
        return {key: _moved(one, old, new) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {n: _moved(v, old, new) for n, v in own.items() if _holds_paths(v)}
        return replace(value, **changed)
    return value


def _holds_paths(value: Any) -> bool:
    return isinstance(value, str) or is_dataclass(value)


def _folders(value: Any) -> set[str]:
    """The folders of stores: of a job's sounds, and of what they are made of."""
    if isinstance(value, Job):
        return {one for sound in value.stores.values() for one in _folders(sound)}
    found = {value.folder} if hasattr(value, "folder") else set()
    for name in ("store", "sound"):
        if hasattr(value, name):
            found |= _folders(getattr(value, name))
    return found
