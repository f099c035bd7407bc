"""MLflow's client, and what its errors say."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a call retries for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


NOWHERE = "none"  # as a tracking URI: the run is not shown in MLflow


def tracking_uri(run: RunDir) -> str:
    """The MLflow store of a run: what its plan names, else SQLite in the storage root."""
    return read_json(run.plan_file)["mlflow"] or f"sqlite:///{run.root.resolve() / 'mlflow.db'}"


def make_client(uri: str) -> Any:
    """A client of this store that gives up early; it imports mlflow."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # 60 lines about a new database
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def without_password(uri: str) -> str:
    """An address as it may be shown and logged."""
    return re.sub(r"(//[^/@]*):[^/]*@", r"\1:***@", uri)


def seen_at(uri: str, experiment: str) -> str:
    """How an experiment in a store is seen: the server's page, or the command for one.

    Args:
        uri: of the store, without a password.
        experiment: its name.
    """
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments (experiment {experiment})"
    return f"mlflow ui --backend-store-uri {uri} (experiment {experiment})"


def first_line(error: BaseException, uri: str) -> str:
    """What an error of a store says, in one line without a password."""
    text = str(error).replace(uri, without_password(uri)).strip() or type(error).__name__
    line = re.sub(r"0x[0-9a-f]+", "0x...", text.splitlines()[0])  # addresses differ each time
    cause = re.search(r"\(Caused by \w+\((.*)\)\)$", line)  # of requests: the rest is the address
    line = cause[1].strip("\"'") if cause else line
    return line if len(line) <= 300 else line[:300] + "..."
