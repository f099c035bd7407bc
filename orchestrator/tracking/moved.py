"""The SQLite store below a storage root, where its artifacts lie: roots may be moved.

MLflow keeps the absolute address of each artifact folder and has no way to change one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.names import TAG

ADDRESSES = (("experiments", "artifact_location"), ("runs", "artifact_uri"),
             ("logged_models", "artifact_location"), ("model_versions", "source"),
             ("model_versions", "storage_location"))  # fmt: skip
ARTIFACT = TAG + "artifact."  # and a file's name: the tag of a run that holds its digest


def own_artifacts(run: RunDir) -> str:
    """The address of all artifacts in the store below the run's storage root."""
    return (run.root.resolve() / "mlartifacts").as_uri()


def follow_root(run: RunDir) -> None:
    """Set the addresses in the store below a storage root to where the root is now."""
    path = run.root / "mlflow.db"
    if not path.exists():
        return
    here = own_artifacts(run)
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as store, store:
        question = "SELECT DISTINCT artifact_location FROM experiments WHERE name LIKE ?"
        for (there,) in store.execute(question, ("soundsweep/%",)).fetchall():
            if there == here or not there.startswith("file:") or Path(there).name != "mlartifacts":
                continue
            for table, column in ADDRESSES:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, there + "/"),
                )


def artifacts_are_there(uri: str, run_id: str) -> bool:
    """Whether every artifact that an SQLite store says it has of a run directory lies there."""
    try:
        return all(path.exists() for path in _claimed(uri, run_id))
    except sqlite3.Error:
        return False


def _claimed(uri: str, run_id: str) -> Iterator[Path]:
    """The artifacts in folders of this machine that the tags of a run directory's runs name."""
    question = (
        "SELECT runs.artifact_uri, tags.key FROM runs JOIN tags USING (run_uuid) "
        "WHERE runs.lifecycle_stage = 'active' AND run_uuid IN "
        "(SELECT run_uuid FROM tags WHERE key = ? AND value = ?)"
    )
    file = f"file:{uri.removeprefix('sqlite:///')}?mode=ro"
    with contextlib.closing(sqlite3.connect(file, uri=True)) as store:
        rows = store.execute(question, (TAG + "run_id", run_id)).fetchall()
    for address, key in rows:
        if address.startswith("file:") and key.startswith(ARTIFACT):
            yield Path(unquote(urlparse(address).path)) / key.removeprefix(ARTIFACT)
