"""How the trials of a study ended, in the words of report, MLflow and status; without torch."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

STUDY_NAME = "soundsweep"  # samplers and pruners may hang on it: never change it
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def state_name(trial: FrozenTrial) -> str:
    """How a trial ended, as the report says it: a diverged one is told as pruned with a cause."""
    return "diverged" if "diverged" in trial.user_attrs else _STATES[trial.state]


def cause_of(trial: FrozenTrial) -> str | None:
    """Why a trial diverged, failed, or was stopped by other than the pruner."""
    found = (trial.user_attrs.get(key) for key in ("diverged", "error", "stopped"))
    return next((cause for cause in found if cause), None)
