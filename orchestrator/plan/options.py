"""What a person asks for; ``None`` leaves a choice to the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from systems import DEFAULT_SYSTEM

PROTOCOLS = ("honest", "paper")


Purpose = Literal["search", "train", "stack"]


Final = Literal["refit", "fold_mean", "fold_geometric"]


FINALS: tuple[Final, ...] = ("refit", "fold_mean", "fold_geometric")


FittedOn = Literal["out_of_fold", "validation", "test"]


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line; ``None`` leaves a choice to the plan.

    ``purpose``: ``search`` sweeps the space; ``train`` trains the published point alone, ``trials``
    times with seeds of their own, each once. ``repeat``: a search without a space: its trials are
    trainings of the published point that differ in their seeds.
    """

    purpose: Purpose = "search"
    system: str = DEFAULT_SYSTEM
    dataset: str | None = None
    data: str | None = None
    skip_broken: bool = False
    trials: int | None = None
    time_budget: str | None = None
    budget: str | None = None
    max_epochs: int | None = None
    set: Sequence[str] = ()
    space: Sequence[str] = ()
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
    final: str | None = None
    by_fold: bool | None = None
    repeat: bool = False
    protocol: str = "honest"
    transductive: bool = False
