"""What ``context.required`` loads in a training, and what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir, TrialDir
from systems import config as configs
from systems.errors import UserError
from systems.predictions import Predictions
from systems.registry import Requirement


def required(run: Path, plan: Plan, fold: int | None) -> dict[str, Any]:
    """What the context of a fold's training, or of the refit's (``None``), is given."""
    requires = plan.requires()
    loads: dict[str, Callable[[], Any]] = {}
    about: dict[str, dict[str, Any]] = {}
    for name, requirement in requires.items():
        if requirement.what == "fitted":
            loads[name] = partial(_load_fitted, plan.required[name], requirement, fold)
            about[name] = _about(plan.required[name])
        else:
            one = requirement.rows == "same_fold" and fold is not None
            file = f"fold{fold}.npz" if one else "all.npz"
            loads[name] = partial(Predictions.load, run / "required" / name / file)
    return {"required": loads, "required_about": about}


def _about(directory: str) -> dict[str, Any]:
    plan, _, config = _best(directory)
    return {"system": plan.system, "config": json.loads(configs.to_json(config))}


def _load_fitted(directory: str, requirement: Requirement, fold: int | None) -> Any:
    plan, trial, config = _best(directory)
    one = requirement.rows == "same_fold" and fold is not None
    folder = trial.model(fold) if one and fold is not None else trial.refit / "model"
    if not (folder / "model.json").exists():
        raise UserError(
            f"{requirement.address} was trained fold by fold only ({folder} is not there), so "
            "nothing can be trained on all labelled clips with it: let the folds' models predict, "
            "--final fold_mean."
        )
    return plan.entry().build(config).load(folder)


def _best(directory: str) -> tuple[Plan, TrialDir, Any]:
    """The best trial of a run: its plan, its files, its configuration."""
    run = RunDir(Path(directory))
    trial = run.trial(read_json(run.members)["members"][0]["trial"])
    return run.plan, trial, run.plan.trial_config(read_json(trial.config)["params"])
