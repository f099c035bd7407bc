"""What stands on the command line, as options of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from orchestrator.plan.options import Changes, Options
from systems.errors import UserError

CHANGES = {field.name for field in fields(Changes)}


def options_of(context: typer.Context, **more: Any) -> Options:
    """The options of a run from those of a command, each by its own name.

    Raises:
        UserError: a pair that is none, or a storage root that would not last.
    """
    given = {name.rstrip("_"): value for name, value in context.params.items()}
    _refuse_session_folder(given["storage"])
    named = {field.name for field in fields(Options)} & set(given)
    pairs = {name: _pairs(f"--{name}", given.get(name) or ()) for name in ("set", "space")}
    return Options(**{**{name: given[name] for name in named}, **pairs, **more})


def asked_by(context: typer.Context) -> dict[str, Any]:
    """The options that stand on the command line."""

    def is_written(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    written = {name.rstrip("_"): value for name, value in context.params.items()
               if is_written(name)}  # fmt: skip
    return {name: v for name, v in written.items() if name not in ("resume", "dry_run")}


def changes_of(asked: Mapping[str, Any]) -> Changes:
    """What of the options may change where a run is gone on with."""
    given = {name: value for name, value in asked.items() if name in CHANGES}
    trials = given.pop("trials", None)
    if trials is not None and trials.startswith("+") and trials[1:].isdigit():
        return Changes(more_trials=int(trials[1:]), **given)
    return Changes(trials=count_of(trials), **given)


def _refuse_session_folder(storage: str) -> None:
    """``ray job submit --working-dir`` starts a command in a folder that goes with the cluster."""
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if is_job and "runtime_resources" in Path.cwd().parts and not Path(storage).is_absolute():
        raise UserError(
            f"--storage {storage}: under `ray job submit` that is a folder of Ray's session, which "
            "ends with the cluster. Give an absolute one that all nodes share, or set "
            "SOUNDSWEEP_STORAGE on the nodes."
        )


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``key=value`` texts as a mapping. Raises UserError where one is none."""
    for text in texts:
        if "=" not in text:
            raise UserError(f"{option} {text}: write key=value.")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def count_of(trials: str | None) -> int | None:
    if trials is not None and not trials.isdigit():
        raise UserError(f"--trials takes a number (with --resume also +N), not '{trials}'.")
    return None if trials is None else int(trials)
