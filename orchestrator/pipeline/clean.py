"""What of a storage root can go: checkpoints of ended trials, and stores that no run reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.planning.gather import study_of
from orchestrator.runs.files import read_json
from orchestrator.runs.mirror import mirror_of
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import TrialState

ENDED = (TrialState.PRUNED, TrialState.FAIL)  # a complete one may have folds under way


@dataclass(frozen=True)
class Removable:
    """Something that can be removed: where, why, and its size in bytes."""

    path: Path
    why: str
    size: int


def removable(root: Path, *, stores: bool = False) -> list[Removable]:
    """What can go from a storage root without losing a result.

    Args:
        root: the storage root.
        stores: every waveform store too; they are built anew when they are needed.

    Runs that are being driven, and the stores they read, are left alone.
    """
    runs = [RunDir(plan.parent) for plan in sorted(root.glob("*/plan.json"))]
    with ThreadPoolExecutor(max_workers=max(1, len(runs))) as pool:  # each may take a minute
        driven = list(pool.map(RunDir.is_driven, runs))
    idle = [run for run, by in zip(runs, driven, strict=True) if not by]
    found = [item for run in idle for item in _checkpoints(run)]
    kept = runs if not stores else [run for run in runs if run not in idle]
    read = {key for run in kept if run.store.exists() for key in read_json(run.store)["stores"]}
    copy = mirror_of(root)
    sizes = {folder.name: _size(folder) for folder in (root / "store").glob("*/")}
    for name, size in sorted({**sizes, **(copy.stores() if copy else {})}.items()):
        if name not in read:
            why = "a waveform store that can be built anew" if stores else "no run reads it"
            found.append(Removable(root / "store" / name, why, size))
    return found


def remove(root: Path, items: list[Removable]) -> None:
    """Remove them, in an object store too."""
    copy = mirror_of(root)
    for item in items:
        if item.path.parent == root / "store":
            shutil.rmtree(item.path, ignore_errors=True)
            item.path.with_name(item.path.name + ".lock").unlink(missing_ok=True)
            if copy is not None:
                copy.discard(f"store/{item.path.name}/")
        else:
            item.path.unlink(missing_ok=True)
    for name in {item.path.relative_to(root).parts[0] for item in items} - {"store"}:
        RunDir(root / name).publish()


def _checkpoints(run: RunDir) -> Iterator[Removable]:
    """Checkpoints that nothing will go on from."""
    if not run.study.exists():
        return
    for trial in study_of(run).trials():
        folder = run.trial(trial.number)
        if trial.state in ENDED:
            for path in sorted(folder.path.glob("fold*/checkpoint*")):
                why = f"trial {trial.number} of {run.path.name} has ended"
                yield Removable(path, why, path.stat().st_size)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
