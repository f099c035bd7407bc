"""Nothing leaves the machine, nothing is open to others, no secret is written down."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import HERE, TINY, in_process, on_data

from orchestrator.console.interrupts import Stop
from orchestrator.planning.checks import check_tracking
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

SECRET = "a-word-that-nobody-else-writes"
# Put on the path of all processes: notes where each wants to connect, or what it looks up.
WATCH = """
import os, socket, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["NOTED"], "a") as file:
            file.write(f"{event} {arguments[event != 'socket.getaddrinfo']}\\n")
sys.addaudithook(note)
"""


@pytest.mark.parametrize(
    "uri", ["postgresql://me:SECRET@host/db", "https://me:SECRET@host", "mysql://me:@host/db",
            "postgresql://host/db?user=me&password=SECRET"],
)  # fmt: skip
def test_an_address_with_a_password_is_refused_without_saying_it(uri: str) -> None:
    with pytest.raises(UserError, match="PGPASSWORD") as error:
        check_tracking(uri)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    "uri", [None, "none", "sqlite:////a/b.db", "http://127.0.0.1:5000", "postgresql://me@host/db"]
)
def test_an_address_without_one_is_taken(uri: str | None) -> None:
    check_tracking(uri)


def test_no_run_begins_or_goes_on_with_a_password(
    whole: RunDir, task4_folder: Path, tmp_path: Path
) -> None:
    uri = f"postgresql://me:{SECRET}@127.0.0.1/db"
    asked = on_data(task4_folder, *TINY, "--ray-address", "none", "--mlflow", uri)
    begun = in_process("run", *asked, cwd=tmp_path)
    before = whole.plan_file.read_bytes()
    gone_on = in_process("run", "--resume", str(whole.path), "--mlflow", uri, cwd=tmp_path)
    for done in (begun, gone_on):
        assert done.returncode == 2
        assert SECRET not in done.stdout + done.stderr
    assert whole.plan_file.read_bytes() == before
    assert not list((tmp_path / "runs").glob("*/plan.json"))


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def listening(number: int) -> set[str]:
    """The addresses at which a process and its children listen."""
    import ray  # noqa: F401  it brings psutil along

    # isort: split
    import psutil

    found = set()
    try:
        process = psutil.Process(number)
        for each in (process, *process.children(recursive=True)):
            sockets = each.net_connections("inet")
            found |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    except psutil.Error:  # one has just ended
        pass
    return found


def is_here(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


@pytest.mark.all
def test_a_sweep_calls_nobody_is_open_to_nobody_and_keeps_secrets(
    task4_folder: Path, tmp_path: Path
) -> None:
    """The real command, with Ray and MLflow, in a home where nothing is."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    noted = tmp_path / "noted"
    keys = ("MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY")
    secrets = dict.fromkeys(keys, SECRET)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}, **secrets,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")]),
        "NOTED": str(noted), "HOME": str(tmp_path / "home"),
    }  # fmt: skip
    asked = on_data(task4_folder, "--name", "it", *TINY, "--trials", "2", "--top-k", "1")
    with open(tmp_path / "said", "wb") as said:
        command = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.run", "run", *asked, "--stack", "logreg",
             "--ray-address", "local"],
            cwd=tmp_path, env=environment, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        open_at: set[str] = set()
        while command.poll() is None:
            open_at |= listening(command.pid)
            time.sleep(0.5)
    words = (tmp_path / "said").read_text()
    assert command.returncode == 0, words
    assert open_at, "Ray's processes listen somewhere"
    assert all(map(is_here, open_at)), open_at
    lines = noted.read_text().splitlines()
    assert lines, "the hook was not there"
    names = {line.split("'")[1] for line in lines if "'" in line}
    addresses = {name for name in names if not name.startswith("/")}
    # With its usage statistics off Ray still asks the machine's own cloud, if any, for its kind.
    known = {"localhost", os.uname().nodename, "169.254.169.254"}
    assert all(is_here(name) or name in known for name in addresses), addresses
    assert SECRET.encode() not in all_bytes(tmp_path / "runs") + words.encode()
    assert not (tmp_path / "home" / ".ray").exists(), "no token is left behind"


def test_a_head_that_is_not_there_is_told_at_once() -> None:
    """With a token at hand Ray itself tries for ever."""
    from orchestrator.search.ray_session import start_ray

    with pytest.raises(UserError, match="nothing answers"):
        start_ray(1, Stop(), "127.0.0.1:1")


@pytest.mark.all
def test_names_of_clips_and_classes_stay_within_the_storage_root(tmp_path: Path) -> None:
    """A table may name a class `../../evil`, and a clip by a path that climbs."""
    sounds, work = tmp_path / "sounds" / "below", tmp_path / "work"
    sounds.mkdir(parents=True)
    work.mkdir()
    rows = ["path,labels"]
    for i in range(16):
        name = f"../clip..{i}.wav" if i % 2 else f"..{i}.wav"
        noise = np.random.default_rng(i).normal(0, 0.1, 8_000)
        soundfile.write(sounds / name, noise * np.sin(np.arange(8_000) * (0.1 + i % 2)), 8_000)
        rows.append(f"{name},{('../../../evil', '/tmp/evil')[i % 2]}")
    (sounds / "sounds.csv").write_text("\n".join(rows) + "\n")
    before = set(tmp_path.rglob("*"))
    asked = ("--dataset", "table", "--data", str(sounds / "sounds.csv"), "--name", "it", *TINY)
    more = ("--trials", "1", "--stack", "logreg", "--top-k", "1", *HERE)
    done = in_process("run", *asked, *more, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    written = set(tmp_path.rglob("*")) - before
    assert written
    assert all(path.is_relative_to(work / "runs") for path in written)
    assert not Path("/tmp/evil").exists()
