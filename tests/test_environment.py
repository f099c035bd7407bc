"""What a machine, a job or a shell gives a run: none of it changes what is trained."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.outlet import Outlet
from orchestrator.console.interrupts import Stop
from orchestrator.planning.checks import check_stage
from orchestrator.runs.storage import find_run
from orchestrator.search import ray_session
from systems import machine
from systems.data import load
from systems.data.store import open_store
from systems.errors import UserError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without what this module is about; what is set in it goes with the test."""
    user = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", *machine.CACHES)
    job = ("TMPDIR", "RAY_TMPDIR", "RAY_AUTH_TOKEN", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
    for name in (*user, *job):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_cores_are_those_of_the_job(bare: pytest.MonkeyPatch) -> None:
    every = sorted(os.sched_getaffinity(0))
    assert machine.cores() <= len(every)
    try:
        os.sched_setaffinity(0, every[:1])
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, every)
    bare.setattr("joblib.cpu_count", lambda: 64)
    bare.setenv("SLURM_CPUS_ON_NODE", "8")
    assert machine.cores() == 8
    bare.setenv("SLURM_CPUS_PER_TASK", "4")
    assert machine.cores() == 4
    bare.setenv("SLURM_CPUS_PER_TASK", "128")
    assert machine.cores() == 64


@pytest.mark.parametrize("home", [None, "/", "/nonexistent", "home"])
def test_a_user_without_home_or_name_gets_both(
    home: str | None, bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Caches of third parties find a place; a home that can only be read stays the home."""
    (tmp_path / "home").mkdir()
    places = {"/", str(tmp_path / "home")}
    allowed = os.access
    bare.setattr("os.access", lambda path, mode: str(path) not in places and allowed(path, mode))
    bare.setattr("tempfile.tempdir", str(tmp_path))
    bare.setattr("getpass.getuser", nobody)
    bare.setattr("os.path.expanduser", lambda path: path)  # as for a user whom nobody knows
    if home is not None:
        bare.setenv("HOME", os.path.join(tmp_path, home))
    machine.settle()
    assert os.environ["LOGNAME"]
    for name in machine.CACHES:
        assert Path(os.environ[name]).is_relative_to(tmp_path)
        assert allowed(os.environ[name], os.W_OK)
    assert Path(os.environ["HOME"]).is_relative_to(tmp_path)
    assert (os.environ["HOME"] == str(tmp_path / "home")) == (home == "home")
    before = dict(os.environ)
    machine.settle()
    assert dict(os.environ) == before


def nobody() -> str:
    raise KeyError("getpwuid(): uid not found: 12345")


def test_a_home_that_can_be_written_is_left_alone(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("HOME", str(tmp_path))
    bare.setenv("LOGNAME", "somebody")
    before = dict(os.environ)
    machine.settle()
    assert dict(os.environ) == before


def test_sockets_of_ray_find_a_short_folder(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ray_session.temp_folder() in ("/tmp/ray", f"/tmp/ray-{os.getuid()}")
    usual = tmp_path / "job"
    usual.mkdir()
    bare.setenv("TMPDIR", str(usual))
    bare.setattr(ray_session, "LONGEST", 1000)
    assert ray_session.temp_folder() == str(usual / "ray")
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    bare.setenv("TMPDIR", str(deep))
    bare.setattr(ray_session, "LONGEST", 107)
    folder = ray_session.temp_folder()
    assert len(folder + ray_session.SOCKET) <= 107
    assert os.access(os.path.dirname(folder), os.W_OK)
    bare.setattr(ray_session, "LONGEST", len(ray_session.SOCKET))
    with pytest.raises(UserError, match="RAY_TMPDIR"):
        ray_session.temp_folder()


def test_workers_do_not_import_from_the_folder_one_stands_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What Ray sends to workers as the driver's path; its own choice has the current folder."""
    from ray.job_config import JobConfig

    monkeypatch.chdir(tmp_path)
    config: JobConfig = ray_session._OwnCode()
    config._py_driver_sys_path.extend(["/usr/local/bin", str(tmp_path)])
    sent = config._get_proto_job_config().py_driver_sys_path if config._serialize() else []
    assert list(sent) == machine.own_code()


def test_a_failure_elsewhere_is_not_told_of_the_store(tmp_path: Path) -> None:
    dataset = load("synthetic", None, False)

    def fail(function: Any, items: Sequence[Any]) -> Iterator[Any]:
        raise PermissionError(13, "Permission denied", "/.ray")
        yield

    with pytest.raises(PermissionError, match="Permission denied"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path, fail)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the waveform store"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path / "file", fail)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_fails_on_no_encoding(encoding: str) -> None:
    raw = io.BytesIO()
    outlet = Outlet(io.TextIOWrapper(raw, encoding=encoding))
    print("Dog 猫 \udcff", file=outlet, flush=True)
    assert raw.getvalue().decode(encoding) == "Dog \\u732b \\udcff\n"


def test_output_outlasts_its_reader() -> None:
    """As under ``| head``: the process goes on and ends well, with nothing on standard error."""
    code = (
        "import sys\n"
        "from rich.console import Console\n"
        "from orchestrator.cli.outlet import outlets\n"
        "with outlets():\n"
        "    console = Console()\n"
        "    for i in range(5_000):\n"
        "        console.print('line', i); print('line', i)\n"
        "print('done', file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == "done\n"
    assert process.wait() == 0


def test_a_closed_terminal_interrupts_unless_it_is_to_be_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.requested
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_name_that_no_folder_can_have_is_one_message(tmp_path: Path) -> None:
    for name in ("n" * 256, "é" * 120):
        with pytest.raises(UserError, match="--name"):
            check_stage(name, "honest", None, None)
    check_stage("n" * 100, "honest", None, None)
    with pytest.raises(UserError, match="no run"):
        find_run("n" * 256, tmp_path)
