"""MLflow beside a driver: kept up to date, and made up for after it could not be reached."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tracked import add_results, make_run, read_store

from orchestrator.runs.files import read_json, write_json
from orchestrator.tracking.projector import Projector, follow
from orchestrator.tracking.sync import sync
from systems.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root; its one SQLite store takes seconds to make, so that the tests share it."""
    return tmp_path_factory.mktemp("root")


def closed_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_down_costs_nothing_and_is_made_up_for(root: Path) -> None:
    run = make_run(root, "down", trials=3, mlflow=closed_port())
    add_results(run)
    with pytest.raises(UserError, match=r"soundsweep sync .*down") as caught:
        sync(run)
    assert "secret" not in str(caught.value)

    with Projector(run, interval=0.2) as projector:
        pass
    assert projector.problem is not None
    assert "soundsweep sync" in projector.problem
    assert "secret" not in projector.problem + projector.log.read_text()
    assert "\n" not in projector.problem

    write_json(run.plan_file, {**read_json(run.plan_file), "mlflow": None})
    assert sync(run).children == 4
    _, runs = read_store(run)
    assert len(runs) == 5


def test_the_following_process_ends_with_the_pipe_after_a_last_sync(root: Path) -> None:
    run = make_run(root, "follow", trials=2)
    end, pipe = os.pipe()
    os.close(pipe)
    with open(end, "rb") as stream:
        assert follow(run, pipe=stream) == 0
    _, runs = read_store(run)
    assert len(runs) == 3


def test_a_projector_that_cannot_start_only_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(root, "no start", trials=1)
    monkeypatch.setattr("sys.executable", str(root / "missing"))
    with Projector(run) as projector:
        pass
    assert projector.problem is not None
    assert "soundsweep sync" in projector.problem
