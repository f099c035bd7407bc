"""What was trained on what, and by which code: parameters and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.names import TAG, as_text, flat, metric_name, texts
from orchestrator.tracking.trials import Trial


def system_of(plan: Plan) -> str:
    """What a run trains, or the fusion that it is."""
    return (plan.fusion or "stack") if plan.purpose == "stack" else plan.system


def label(plan: Plan) -> str:
    """The run's name, which begins with its system's: all systems stand in one table."""
    paper, _, name = system_of(plan).partition("/")
    short = paper if name in ("", paper) else f"{paper}/{name}"
    return plan.name if plan.name.startswith(short) else f"{short} {plan.name}"


def plan_params(plan: Plan) -> dict[str, str]:
    # The number of trials is a tag: `--trials +N` raises it, and a parameter cannot change.
    return texts(
        {
            ("system",): system_of(plan),
            ("dataset",): plan.dataset,
            ("budget",): plan.budget.text,
            ("seed",): plan.seed,
            ("metric",): plan.metric,
            ("mode",): plan.mode,
            ("protocol",): plan.splits["protocol"],
            ("stack",): ",".join(plan.stage.learners) or "none",
            ("top_k",): plan.stage.top_k,
            ("cpus",): plan.resources.cpus,
            ("gpus",): plan.resources.gpus,
            **{("config", key): value for key, value in flat(plan.config)},
            **{("space", p.key): p.text() for p in plan.space},
            **{("scaled", k): f"{old} -> {new}" for k, (old, new) in plan.scaled.items()},
        }
    )


def plan_tags(run: RunDir) -> dict[str, str]:
    """Tags of the parent alone."""
    plan = run.plan
    about = {
        "data": plan.data,
        "created": plan.created,
        "trials": plan.trials,
        "transductive": plan.transductive,
        "directory": run.path.resolve(),
    }
    tags = {TAG + key: as_text(value) for key, value in about.items() if value is not None}
    return tags | shared_tags(plan)


def shared_tags(plan: Plan) -> dict[str, str]:
    """Tags of the parent and its children: what was trained on what, and by which code."""
    about = {
        "system": system_of(plan),
        "paper": plan.system.split("/")[0],
        "dataset": plan.dataset,
        "fingerprint": plan.fingerprint,
        "protocol": plan.splits["protocol"],
        "splits": plan.splits["digest"],
        "scored_by": plan.protocol,  # honest, or as the paper did
        "fitted_on": plan.stage.fitted_on,
        "fusion": plan.fusion,
        "git_commit": plan.git_commit,
        "seed": plan.seed,
    }
    tags = {TAG + key: as_text(value) for key, value in about.items() if value is not None}
    tags |= {metric_name(f"{TAG}version.{name}"): v for name, v in plan.versions.items()}
    source = {"mlflow.source.name": "soundsweep", "mlflow.source.git.commit": plan.git_commit}
    return tags | {key: value for key, value in source.items() if value}


def night_tags(made: Mapping[str, Any] | None) -> dict[str, str]:
    """The night that a trial is of, and the code that trained it; nothing outside nights."""
    if made is None:
        return {}
    tags = {TAG + "night": str(made["night"])}
    if made["git_commit"]:
        tags |= dict.fromkeys((TAG + "git_commit", "mlflow.source.git.commit"), made["git_commit"])
    return tags


def device_tag(trials: Iterable[Trial]) -> dict[str, str]:
    devices = {a["device"] for trial in trials for a in trial.attempts if "device" in a}
    return {TAG + "device": ",".join(sorted(devices))} if devices else {}
