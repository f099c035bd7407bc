"""What may change where a run is gone on with, and what its plan cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.plan.options import Changes
from orchestrator.plan.plan import Plan
from orchestrator.planning.duration import parse_duration
from systems import registry
from systems.config import short
from systems.errors import UserError

# What goes beside --resume, as the command line calls it.
CHANGEABLE = ("trials", "data", "storage", "time_budget", "concurrency", "mlflow", "ray_address")


def changed(plan: Plan, changes: Changes) -> Plan:
    """The plan with what may change.

    Raises:
        UserError: fewer trials than there are, or a value that there is not.
    """
    new: dict[str, Any] = {}
    if changes.trials is not None or changes.more_trials is not None:
        total = plan.trials + changes.more_trials if changes.more_trials else changes.trials
        assert total is not None
        if total < plan.trials:
            raise UserError(f"--trials {total}: the run has {plan.trials} trials already.")
        new["trials"] = total
    if changes.data is not None:
        new["data"] = str(Path(changes.data).expanduser().absolute())
    if changes.time_budget is not None:
        new["time_budget"] = parse_duration(changes.time_budget)
    if changes.concurrency is not None:
        if changes.concurrency < 1:
            raise UserError(f"--concurrency takes 1 or more, not {changes.concurrency}.")
        new["resources"] = replace(plan.resources, concurrency=changes.concurrency, as_fit=False)
    if changes.mlflow is not None:
        new["mlflow"] = changes.mlflow
    if changes.ray_address is not None:
        new["ray_address"] = changes.ray_address
    return replace(plan, **new)


def refuse_other(plan: Plan, asked: Mapping[str, Any]) -> None:
    """Refuse options, by name, that were planned otherwise.

    Raises:
        UserError: names the option and what was planned.
    """
    for option, value in asked.items():
        if option not in CHANGEABLE and not _is_planned(plan, option, value):
            raise UserError(
                f"the run '{plan.name}' was planned with {_flag(option)} "
                f"{short(_planned(plan, option))}, not {short(value)}: start a new run for that. "
                f"Beside --resume go {', '.join(map(_flag, CHANGEABLE))}."
            )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _planned(plan: Plan, option: str) -> Any:
    r, caps = plan.resources, list(plan.budget.caps.values())
    stage = plan.stage
    asked = {"budget": plan.budget.text, "stack": ",".join(stage.learners) or "none",
             "top_k": stage.top_k, "final": stage.final, "by_fold": stage.by_fold,
             "stage_trials": stage.trials, "sampler": plan.sampler.kind,
             "cpus_per_trial": r.cpus, "gpus_per_trial": r.gpus, "workers_per_trial": r.workers,
             "max_epochs": caps[0] if caps else None}  # fmt: skip
    return asked.get(option, getattr(plan, option, "its own"))


def _is_planned(plan: Plan, option: str, value: Any) -> bool:
    if option == "system":
        return registry.get(value).address == plan.system
    return bool(value == _planned(plan, option))
