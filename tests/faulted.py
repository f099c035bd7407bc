"""Commands with injected faults (tests/faults), and what a run must be after them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from command import PATIENCE, SEARCH, on_data
from test_run import fingerprint_of_run

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

FAULTS = Path(__file__).parent / "faults"
RESUME = ("run", "--resume", "it", "--storage", "runs")
CHECKPOINT = "*/trials/*/checkpoint.pt.new"
KILLED = -signal.SIGKILL


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    output: str


def faulty(cwd: Path, arguments: tuple[str, ...], *faults: dict[str, Any]) -> Done:
    """Run the command with these faults; its output goes to a file, which no orphan holds open."""
    number = len(list(cwd.glob("faults*.json")))
    plan, output = cwd / f"faults{number}.json", cwd / f"output{number}.txt"
    plan.write_text(json.dumps(faults))
    paths = [str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(output, "w") as file:
        code = subprocess.run(
            [sys.executable, "-m", "orchestrator.run", *arguments], cwd=cwd, stdout=file,
            stderr=subprocess.STDOUT, timeout=PATIENCE, check=False, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths),
                 "SOUNDSWEEP_FAULTS": str(plan)},
        ).returncode  # fmt: skip
    return Done(code, output.read_text())


def start(data: Path, *more: str) -> tuple[str, ...]:
    """The arguments of a run like ``whole``."""
    return ("run", *on_data(data, "--name", "it", *SEARCH, *more))


def fault(file: str, nth: int, do: str, **more: Any) -> dict[str, Any]:
    return {"file": file, "nth": int(nth), "do": do, **more}


def epochs(run: RunDir) -> Counter[str]:
    """How many epochs are on record of each training: its folder in the run -> epochs."""
    found: Counter[str] = Counter()
    for trial in run.trials():
        found.update(f"{trial.path.name}/fold{line['fold']}" for line in trial.read_metrics())
        if trial.refit_metrics.exists():
            lines = trial.refit_metrics.read_text().splitlines()
            found[f"{trial.path.name}/refit"] = len(lines)
    return found


def saved(run: RunDir) -> list[Path]:
    """Every checkpoint that was begun, in order, over all commands."""
    return list(map(Path, (run.root.parent / "saves.log").read_text().splitlines()))


def repeated(run: RunDir, before: Counter[str] | None = None) -> int:
    """How many saves of an epoch were not its first, of the epochs that were not there before.

    Each epoch ends with a save: as many saves as epochs mean that none was trained twice.
    """
    saves = Counter("/".join(path.parts[-3:-1]) for path in saved(run))
    once = epochs(run) - (before or Counter())
    assert set(saves) == set(once)
    surplus = {training: saves[training] - once[training] for training in once}
    assert min(surplus.values()) >= 0, "an epoch has no checkpoint"
    return sum(surplus.values())


def openings(run: RunDir) -> int:
    return len(run.ledger.read_text().splitlines())


def assert_equal_to(whole: RunDir, run: RunDir) -> None:
    assert fingerprint_of_run(run) == fingerprint_of_run(whole)
    assert epochs(run) == epochs(whole)


def assert_one_message(done: Done, *words: str) -> None:
    """Exit code 2 and one message that says these words, without a traceback."""
    assert done.code == 2, done.output
    assert "Traceback" not in done.output
    message = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(message) == 1, done.output
    assert all(word in message[0] for word in words), message[0]


def assert_whole_journal(run: RunDir, *, torn: bool = False) -> None:
    """Every line is whole, but for the last one where the driver was killed in it."""
    *lines, last = run.study.read_bytes().split(b"\n")
    assert bool(last) == torn
    for line in lines:
        json.loads(line)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder: size in bytes and time of its last change in ns."""
    stats = {path: path.stat() for path in folder.glob("**/*") if path.is_file()}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def assert_interrupted(done: Done, run: RunDir, saves: int) -> None:
    """Exit code 3, the report so far, and how to go on; the epoch under way was the last one.

    A signal that comes late lets one more pass.
    """
    assert len(saved(run)) - saves in (0, 1)
    assert done.code == 3, done.output
    assert f"go on with: soundsweep run --resume {run.path}" in done.output
    assert "Traceback" not in done.output
    assert "running" in [trial["state"] for trial in read_json(run.results)["trials"]]
    assert (run.report / "index.html").exists()
