"""A run by its folder or name."""

from __future__ import annotations

from pathlib import Path

from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


def find(name: str, storage: str) -> RunDir:
    """The run of this folder, or of this name below the storage root.

    Raises:
        UserError: there is none.
    """
    candidates = [Path(name).expanduser(), Path(storage).expanduser() / name]
    for path in candidates:
        if (path / "plan.json").exists():
            return RunDir(path.resolve())
    raise UserError(
        f"no run '{name}': neither {candidates[0]} nor {candidates[1]} has a plan.json."
    )
