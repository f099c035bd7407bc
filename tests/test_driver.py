"""One process drives a run, and every node sees that it does: with locks and without, whatever the
clocks say."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import wait_until

from orchestrator.runs import driver, lease
from orchestrator.runs.lease import Superseded
from orchestrator.runs.rundir import RunDir
from orchestrator.search.journal import Journal
from systems.errors import UserError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LAPSE", 2.0)
    monkeypatch.setattr(lease, "LOOK", 0.02)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks, as an NFS server without its lock daemon."""

    def refuse(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def other_machine() -> Iterator[Any]:
    """Drives runs as another machine would: no lock of its is seen here, its lease is."""
    ends: list[Any] = []

    def drive(path: Path, clock: float = 0.0) -> lease.Lease:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lease, "machine", lambda: "another")
            patch.setattr(lease.socket, "gethostname", lambda: "another-node")
            path.mkdir(exist_ok=True)
            (path / "driver").touch()
            held = lease.Lease(driver.DriverFile(path), path)
        beat = held._next
        held._next = lambda heartbeat, beats: {  # type: ignore[method-assign]
            **beat(heartbeat and max(1, heartbeat + clock), beats),
            "machine": "another", "host": "another-node",
        }  # fmt: skip
        ends.append(held)
        return held

    yield drive
    for held in ends:
        held.close()


def kill(held: lease.Lease) -> None:
    """Let a driver end as a kill would: without a word."""
    held._closing.set()
    held._thread.join()
    held.lost = True


def record(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "driver").read_text()))


def test_a_driver_on_another_node_is_alive_as_long_as_it_beats(
    tmp_path: Path, other_machine: Any
) -> None:
    run = RunDir(tmp_path / "it")
    held = other_machine(run.path)
    assert run.is_driven()
    with pytest.raises(UserError, match="another-node"):
        run.drive()
    kill(held)
    assert not run.is_driven()
    with run.drive():
        assert run.generation == 2


@pytest.mark.parametrize("clock", [-1e9, 1e9])
def test_the_clock_of_another_node_neither_steals_nor_locks(
    tmp_path: Path, other_machine: Any, clock: float
) -> None:
    run = RunDir(tmp_path / "it")
    held = other_machine(run.path, clock)
    assert run.is_driven()
    kill(held)
    assert not run.is_driven()


def test_a_clock_that_goes_back_takes_no_run_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_locks: None
) -> None:
    monkeypatch.setattr(lease, "LAPSE", 1.0)
    with RunDir(tmp_path).drive() as run:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        assert RunDir(tmp_path).is_driven()
        wait_until(lambda: record(tmp_path)["heartbeat"] < now - 3000)  # it goes on beating
        assert RunDir(tmp_path).is_driven()
        run.check_driver()
    assert not RunDir(tmp_path).is_driven()


def test_a_run_that_was_given_up_is_free_at_once(
    tmp_path: Path, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_machine(tmp_path).close()
    monkeypatch.setattr(lease, "LAPSE", 3600.0)  # nobody waits for its beat
    assert not RunDir(tmp_path).is_driven()
    with RunDir(tmp_path).drive() as run:
        assert run.generation == 2


def test_a_driver_of_this_machine_is_alive_while_it_holds_the_lock(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert not run.is_driven()
    with run.drive():
        assert not run.note
        assert run.is_driven()
        assert not run.is_driven(but_by=os.getpid())
        with pytest.raises(UserError, match=str(os.getpid())):
            RunDir(tmp_path).drive()
    assert not run.is_driven()


def test_without_locks_a_lease_stands_in_their_place(tmp_path: Path, without_locks: None) -> None:
    run = RunDir(tmp_path)
    with run.drive():
        assert "no locks" in run.note
        assert RunDir(tmp_path).is_driven()
        with pytest.raises(UserError, match=str(os.getpid())):
            RunDir(tmp_path).drive()
    assert not run.is_driven()
    with RunDir(tmp_path).drive() as again:
        assert again.generation == 2


def test_without_locks_one_of_several_at_once_drives(tmp_path: Path, without_locks: None) -> None:
    (tmp_path / "driver").touch()
    old = driver.DriverFile(tmp_path).read()
    barrier, won = threading.Barrier(8), []

    def take(number: int) -> None:
        barrier.wait()
        new = {"generation": 1, "pid": number, "host": "x", "heartbeat": 1}
        if driver.DriverFile(tmp_path).replace(old, new):
            won.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert record(tmp_path)["pid"] == won[0]
    assert [path.name for path in tmp_path.iterdir()] == ["driver"]


@pytest.mark.parametrize("locks", [True, False])
def test_a_killed_driver_drives_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any, locks: bool
) -> None:
    code = (
        "import os, pathlib, sys; from orchestrator.runs.rundir import RunDir; "
        "RunDir(pathlib.Path(sys.argv[1])).drive(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    monkeypatch.setattr(lease, "LAPSE", 3600.0)
    if not locks:
        request.getfixturevalue("without_locks")
    run = RunDir(tmp_path)
    assert not run.is_driven()  # at once: its process was on this machine, and is no more
    assert run.drive().generation == 2
    run.close()


def test_a_superseded_driver_writes_nothing_more(tmp_path: Path, other_machine: Any) -> None:
    run = RunDir(tmp_path).drive()
    journal = Journal(run.study, may_append=run.check_driver)
    journal.append_logs([{"before": 1}])
    about = {**record(tmp_path), "generation": 7, "host": "another-node", "machine": "another"}
    (tmp_path / "driver").write_text(json.dumps(about))
    with pytest.raises(UserError, match="taken the run"):
        journal.append_logs([{"after": 1}])
    assert run.study.read_text() == '{"before":1}\n'
    with pytest.raises(Superseded):
        driver.check_generation(tmp_path, run.generation)
    run.close()
    assert record(tmp_path) == about
