"""One process drives a run, and every node sees that it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import wait_until

from orchestrator.runs import driver
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


def elsewhere(path: Path, age: float) -> RunDir:
    """A run as a driver on another node left it; ``age`` seconds ago was its last heartbeat."""
    run = RunDir(path)
    run.drive().close()
    about = json.loads((path / "driver").read_text())
    about |= {"host": "another-node", "pid": 1, "heartbeat": int(time.time() - age)}
    (path / "driver").write_text(json.dumps(about))
    return run


def test_a_driver_on_another_node_is_alive_as_long_as_it_beats(tmp_path: Path) -> None:
    run = elsewhere(tmp_path / "fresh", age=5)
    assert run.is_driven()
    with pytest.raises(UserError, match="another-node"):
        RunDir(run.path).drive()
    assert not elsewhere(tmp_path / "stale", age=3600).is_driven()


def test_a_run_whose_driver_on_another_node_died_is_gone_on_with(tmp_path: Path) -> None:
    run = elsewhere(tmp_path, age=3600)
    with run.drive():
        assert run.generation == 2
        assert run.is_driven()


def test_a_driver_beats_until_it_gives_the_run_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "BEAT", 0.01)
    run = RunDir(tmp_path)
    with run.drive():
        old = json.loads((tmp_path / "driver").read_text())
        (tmp_path / "driver").write_text(json.dumps({**old, "heartbeat": 1}))
        wait_until(lambda: json.loads((tmp_path / "driver").read_text())["heartbeat"] > 1)
    about = json.loads((tmp_path / "driver").read_text())
    (tmp_path / "driver").write_text(json.dumps({**about, "host": "another-node"}))
    assert not run.is_driven()  # given up: no node waits for its heartbeat to grow old


def test_a_driver_of_this_machine_is_alive_while_it_holds_the_lock(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert not run.is_driven()
    with run.drive():
        assert run.is_driven()
        assert not run.is_driven(but_by=os.getpid())
        with pytest.raises(UserError, match=str(os.getpid())):
            RunDir(tmp_path).drive()
    assert not run.is_driven()


def test_a_killed_driver_drives_no_more(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from orchestrator.runs.rundir import RunDir; "
        "RunDir(pathlib.Path(sys.argv[1])).drive(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    run = RunDir(tmp_path)
    assert not run.is_driven()  # at once: its machine is this one, and the lock is free
    assert run.drive().generation == 2
    run.close()


def test_a_superseded_driver_writes_nothing_more(tmp_path: Path) -> None:
    old = RunDir(tmp_path).drive()
    about = json.loads((tmp_path / "driver").read_text())
    taken = {**about, "generation": 7, "host": "another-node", "heartbeat": int(time.time())}
    (tmp_path / "driver").write_text(json.dumps(taken))
    old.close()
    assert json.loads((tmp_path / "driver").read_text()) == taken
