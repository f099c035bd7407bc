"""What ``context.required`` loads in a training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems.predictions import Predictions
from systems.registry import Requirement


def loaders(
    run: Path, requires: dict[str, Requirement], directories: dict[str, str], fold: int | None
) -> dict[str, Callable[[], Any]]:
    """What ``context.required`` loads in the training of a fold, or of the refit (``None``)."""
    found: dict[str, Callable[[], Any]] = {}
    for name, requirement in requires.items():
        if requirement.what == "fitted":
            found[name] = partial(_load_fitted, directories[name], requirement, fold)
        else:
            one = requirement.rows == "same_fold" and fold is not None
            file = f"fold{fold}.npz" if one else "all.npz"
            found[name] = partial(Predictions.load, run / "required" / name / file)
    return found


def _load_fitted(directory: str, requirement: Requirement, fold: int | None) -> Any:
    run = RunDir(Path(directory))
    plan, best = run.plan, read_json(run.members)["members"][0]["trial"]
    trial = run.trial(best)
    config = plan.trial_config(read_json(trial.config)["params"])
    one = requirement.rows == "same_fold" and fold is not None
    folder = trial.model(fold) if one and fold is not None else trial.refit / "model"
    return plan.entry().build(config).load(folder)
