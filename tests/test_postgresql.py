"""A real MLflow server over a real PostgreSQL, both on the loopback: what a sweep shows there, and
what is shown after either was down."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import SEARCH, free_port, on_data, wait_until
from tracked import forget, read_store, snapshot

from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.models import LOGGED
from orchestrator.tracking.sync import sync

pytestmark = pytest.mark.all


class PostgreSQL:
    """A database server of its own: it refuses to run as root, so then it is nobody's."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port = folder / "data", free_port()
        self.user: Any = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "nobody", "nogroup")
        self._call("initdb", "-D", self.data, "-U", "mlflow", "-A", "trust", "-E", "UTF8")
        options = f"-p {self.port} -h 127.0.0.1 -k {folder} -c fsync=off"
        self._start = ("pg_ctl", "-D", self.data, "-o", options, "-l", folder / "log", "-w")
        self._call(*self._start, "start")
        self._call("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "mlflow", "mlflow")
        self.uri = f"postgresql://mlflow@127.0.0.1:{self.port}/mlflow"

    def restart(self) -> None:
        """Cut off whoever is connected."""
        self._call(*self._start, "-m", "immediate", "restart")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def _call(self, *arguments: object) -> None:
        with tempfile.TemporaryFile() as said:  # the server keeps a pipe open
            done = subprocess.run([*map(str, arguments)], stdout=said, stderr=said, check=False,
                                  cwd="/", **self.user)  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read().decode()


class Server:
    """``mlflow server`` over a store; it keeps its port over a stop."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        with open(self.folder / "mlflow.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port",
                 str(self.port), "--backend-store-uri", self.store, "--workers", "1",
                 "--artifacts-destination", str(self.folder / "artifacts")],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "mlflow.log").read_text()[-3000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health") as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg", reason="needs psycopg[binary]")
    if not all(map(shutil.which, ("initdb", "pg_ctl", "createdb"))):
        pytest.skip("no PostgreSQL on this machine")
    with tempfile.TemporaryDirectory(prefix="pg_", dir="/tmp") as folder:
        database = PostgreSQL(Path(folder))
        yield database
        database.stop()


@pytest.fixture(scope="module")
def server(database: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), database.uri)
    yield server
    server.kill()


def test_a_sweep_is_shown_whole_though_database_and_server_were_down(
    database: PostgreSQL, server: Server, tmp_path: Path, task4_folder: Path
) -> None:
    """The database restarts in the second trial, the server is away from the third to the fifth:
    then both show what a store shows that nothing befell."""
    asked = on_data(task4_folder, "--name", "it", *SEARCH, "--ray-address", "none",
                    "--mlflow", server.uri)  # fmt: skip
    run = RunDir(tmp_path / "runs" / "it")
    with open(tmp_path / "printed.txt", "wb") as printed:
        sweep = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.run", "run", *asked], cwd=tmp_path,
            stdout=printed, stderr=printed,
        )  # fmt: skip

    def begun(trial: int) -> bool:
        return sweep.poll() is not None or run.trial(trial).metrics.exists()

    wait_until(lambda: begun(1))
    database.restart()
    wait_until(lambda: begun(2))
    server.kill()
    wait_until(lambda: begun(4))
    server.start()
    assert sweep.wait() == 0, (tmp_path / "printed.txt").read_text()[-3000:]
    assert "Traceback" not in (tmp_path / "printed.txt").read_text()
    sync(run)  # nothing, unless the last one beside the driver fell into a pause
    _, runs = read_store(run)
    assert len(runs) == 1 + 5 + 2  # the run, its trials, its meta-learners
    shown = snapshot(run)

    write_json(run.plan_file, {**read_json(run.plan_file), "mlflow": None})
    forget(run)
    sync(run)
    assert without_ids(shown) == without_ids(snapshot(run))


def without_ids(shown: Any) -> Any:
    """Without what a store makes up itself: MLflow's tags, ids, and when it was told. Of what is
    told again as it changes (what a run has cost so far) the last value."""
    return {
        name: (*rest, {k: v for k, v in tags.items() if own(k)},
               {k: values(k, history) for k, history in points.items()})
        for name, (*rest, tags, points) in shown.items()
    }  # fmt: skip


def values(key: str, history: Any) -> Any:
    told = [(step, value) for step, _, value in history]
    return told if key.startswith(("epoch/", "fold")) else told[-1]


def own(tag: str) -> bool:
    """Not the digests of artifacts: the plan, which is one, names the store."""
    return not tag.startswith(("mlflow.", "soundsweep.artifact.", LOGGED, "soundsweep.best_model"))


def test_a_restart_between_two_syncs_is_not_noticed(
    database: PostgreSQL, server: Server, tmp_path: Path
) -> None:
    from tracked import add_results, add_steps, make_run, open_search

    run = make_run(tmp_path, "restarted", trials=2, mlflow=server.uri)
    sync(run)
    database.restart()
    add_steps(run, open_search(run, run.plan), 1, range(5, 7))
    add_results(run)
    sync(run)
    client, runs = read_store(run)
    assert len(runs) == 4
    history = client.get_metric_history(runs["trial 00001"].info.run_id, "epoch/clip_macro_f1")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]
