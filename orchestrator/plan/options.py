"""What a person asks for; ``None`` leaves a choice to the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.plan.stage import Final, StageSettings
from systems import DEFAULT_SYSTEM

PROTOCOLS = ("honest", "paper")
SAMPLERS = ("tpe", "evolution")
Purpose = Literal["search", "train", "stack"]


@dataclass(frozen=True)
class Options:
    """A run; ``None`` leaves a choice to the plan.

    ``set``: configuration key -> value (text is read as the key's type). ``space``: key -> range:
    ``log:1e-4:1e-2``, ``float:0:1``, ``int:1:8`` or ``one-of:a,b``. ``purpose``: ``search`` sweeps
    the space; ``train`` trains the published point alone, ``trials`` times with seeds of their own,
    each once. ``repeat``: a search without a space: its trials are trainings of the published point
    that differ in their seeds. ``metric``: what judges trials, instead of the space's or the data
    set's own. ``sampler``: ``tpe`` or ``evolution``, instead of the space's.
    ``system`` may be a node, ``PAPER/SYSTEM#VARIANT``.
    ``protocol_of``: the fusion whose protocol a member takes under ``--protocol paper``.
    """

    purpose: Purpose = "search"
    system: str = DEFAULT_SYSTEM
    dataset: str | None = None
    data: str | None = None
    skip_broken: bool = False
    skip_shared: bool = False
    trials: int | None = None
    time_budget: str | None = None
    budget: str | None = None
    max_epochs: int | None = None
    metric: str | None = None
    sampler: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, str] = field(default_factory=dict)
    concurrency: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    workers_per_trial: int = 1
    seed: int = 0
    storage: str = "runs"
    name: str | None = None
    mlflow: str | None = None
    ray_address: str | None = None
    stack: str = "standard"
    top_k: int = 3
    stage_trials: int | None = None
    final: Final | None = None
    by_fold: bool | None = None
    repeat: bool = False
    protocol: str = "honest"
    protocol_of: str | None = None
    transductive: bool = False


@dataclass(frozen=True)
class StackOptions:
    """A stack over the best trials of one run, or of several; ``None``: as the run has it.

    ``runs``: folders, names below ``storage``, or MLflow run ids; ``systems``: their best trials
    over all runs below ``storage``. A stack over one run stays in it.
    """

    runs: Sequence[str] = ()
    systems: Sequence[str] = ()
    stack: str | None = None
    top_k: int | None = None
    stage_trials: int | None = None
    final: Final | None = None
    by_fold: bool | None = None
    protocol: str = "honest"
    name: str | None = None
    mlflow: str | None = None
    ray_address: str | None = None
    storage: str = "runs"


@dataclass(frozen=True)
class Changes:
    """What may change where a run is gone on with; ``None`` leaves it as it is.

    ``trials``: in all; ``more_trials``: beside those that are planned. ``data``: where the data
    set lies now, the same as its fingerprint shows.
    """

    trials: int | None = None
    more_trials: int | None = None
    data: str | None = None
    time_budget: str | None = None
    concurrency: int | None = None
    mlflow: str | None = None
    ray_address: str | None = None


def asked_stage(options: Options | StackOptions, stage: StageSettings) -> StageSettings:
    """Stage settings with what a person asks for otherwise; learners' names depend on the data."""
    given = {"top_k": options.top_k, "trials": options.stage_trials, "final": options.final,
             "by_fold": options.by_fold}  # fmt: skip
    return replace(stage, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
