"""The real command as tests call it, and the options that make it tiny."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

TINY = (
    "--max-epochs", "6", "--set", "training.steps_per_epoch=2", "--set", "network.width=8",
    "--set", "network.recurrent_units=8", "--set", "front_end.hop=664", "--set",
    "front_end.bands=64", "--concurrency", "1",
)  # fmt: skip
SEARCH = (
    *TINY, "--set", "training.labelled=15", "--set", "training.unlabelled=5",
    "--space", "front_end.window=one-of:512,1024,2048", "--trials", "5", "--top-k", "2",
    "--stack", "logreg,genetic", "--final", "refit",
)  # fmt: skip


def soundsweep(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``soundsweep ARGUMENTS`` in a folder; with ``check`` it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.run", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def in_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``soundsweep ARGUMENTS`` within this process: for what starts no Ray, or must end before.

    A process of its own takes ten seconds and more to import what a run needs.
    """
    from orchestrator.cli.app import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setattr(sys, "argv", ["soundsweep", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())


def on_data(folder: Path, *more: str) -> tuple[str, ...]:
    """Options for a run over a DCASE 2018 task 4 folder, below ``runs``."""
    return ("--dataset", "dcase2018_task4", "--data", str(folder), "--storage", "runs", *more)
