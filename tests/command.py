"""The real command as tests call it, and the options that make it tiny."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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
HERE = ("--ray-address", "none", "--mlflow", "none")  # one thing at a time, nothing beside it
PATIENCE = 1800  # seconds, of all that a test waits for: far more than it takes on a busy machine


def free_port() -> int:
    """A port of the loopback that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def soundsweep(
    *arguments: str, cwd: Path, check: bool = True, paths: tuple[Path, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``soundsweep ARGUMENTS`` in a folder; with ``check`` it must end well.

    ``paths``: more folders on the path of all its processes.
    """
    known = [*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.run", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(known), **environment},
    )  # fmt: skip
    return _well(done) if check else done


def _well(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def in_process(*arguments: str, cwd: Path, check: bool = False) -> subprocess.CompletedProcess[str]:
    """``soundsweep ARGUMENTS`` within this process: with ``HERE``, or for what starts no Ray.

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
    done = subprocess.CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())
    return _well(done) if check else done


def on_data(folder: Path, *more: str) -> tuple[str, ...]:
    """Options for a run over a DCASE 2018 task 4 folder, below ``runs``."""
    return ("--dataset", "dcase2018_task4", "--data", str(folder), "--storage", "runs", *more)
