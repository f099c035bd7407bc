"""From an MLflow run back to its run directory."""

from __future__ import annotations

from pathlib import Path

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import first_line, make_client, without_password
from orchestrator.tracking.names import TAG
from systems.errors import UserError


def locate(run_id: str, uri: str, root: Path) -> tuple[RunDir, int | None]:
    """The run directory that an MLflow run shows, and which trial, if it is one's.

    Where the directory has moved, the run of the same id below ``root``.

    Raises:
        UserError: MLflow cannot be reached, knows no such run, or its directory is gone.
    """
    try:
        client = make_client(uri)
        shown = client.get_run(run_id).data.tags
        parent = shown.get("mlflow.parentRunId")
        whole = client.get_run(parent).data.tags if parent else shown
    except Exception as error:
        raise UserError(
            f"no MLflow run {run_id} at {without_password(uri)}: {first_line(error, uri)}. "
            "Name the store with --mlflow."
        ) from error
    if TAG + "run_id" not in shown or TAG + "directory" not in whole:
        raise UserError(f"the MLflow run {run_id} is none of soundsweep's.")
    trial = shown.get(TAG + "trial")
    for path in (Path(whole[TAG + "directory"]), *(p.parent for p in root.glob("*/plan.json"))):
        plan = path / "plan.json"
        if plan.exists() and read_json(plan)["run_id"] == shown[TAG + "run_id"]:
            return RunDir(path), None if trial is None else int(trial)
    raise UserError(
        f"the run directory of the MLflow run {run_id}, {whole[TAG + 'directory']}, is not there; "
        f"nor is that run below {root}."
    )
