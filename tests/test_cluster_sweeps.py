"""Faults of clusters during a sweep of trials that compute nothing, compared with none.

What whole runs make of such faults, with real trainings, is in test_cluster_faults.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import clusterwork
import pytest
from clusters import Nodes
from command import PATIENCE, wait_until
from faulted import KILLED, Done, fault

from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.rundir import RunDir

pytestmark = pytest.mark.all
CHECKPOINT = "*/fold0/checkpoint.json.new"


class Drive:
    """A driver in a process of its own; what it prints goes to a file."""

    def __init__(self, folder: Path, address: str, patience: float = 900, *more: str) -> None:
        self.output = folder / f"output{len(list(folder.glob('output*.txt')))}.txt"
        with open(self.output, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, clusterwork.__file__, str(folder / "it"), address, str(patience),
                 *more],
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def end(self) -> Done:
        return Done(self.process.wait(timeout=PATIENCE), self.output.read_text())


class State(NamedTuple):
    """What is left of a trial."""

    params: dict[str, Any]
    state: str
    value: float | None
    told: dict[int, float]
    epochs: list[tuple[int, float]]


def states(folder: Path) -> list[State]:
    run = RunDir(folder / "it")
    return [
        State(t.params, t.state.name, t.value, dict(t.intermediate_values),
              [(line["step"], line["metric"]) for line in run.trial(t.number).read_metrics()])
        for t in clusterwork.search_in(run).trials()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = Drive(folder, "none").end()
    assert done.code == 0, done.output
    return states(folder)


def assert_same(folder: Path, undisturbed: list[State], attempts: int = 1) -> None:
    """Trial by trial the same; none completed twice, and at most one epoch of each lost process
    was trained again."""
    assert states(folder) == undisturbed
    run = RunDir(folder / "it")
    tries = [run.trial(number).attempts() for number in range(clusterwork.TRIALS)]
    assert [sum("outcome" in one for one in of) for of in tries] == [1] * clusterwork.TRIALS
    assert sum(len(of) - 1 for of in tries) <= attempts
    trained = Counter((e["trial"], e["step"]) for e in read_lines(run.path / "trained.jsonl"))
    repeated = sum(trained.values()) - len(trained)
    assert repeated <= attempts
    print(f"FAULTS trials {len(tries)}, lost 0, repeated 0, epochs repeated {repeated}")


CASES: dict[str, tuple[dict[str, Any], int, int]] = {  # fault, exit code, processes lost
    "worker": (fault(CHECKPOINT, 5, "kill"), 0, 1),
    "worker, its checkpoint whole": (fault(CHECKPOINT, 8, "kill", when="closed"), 0, 1),
    "node": (fault(CHECKPOINT, 7, "kill node"), 0, 1),
    "notice to a worker": (fault(CHECKPOINT, 9, "terminate"), 0, 1),
    "notice to a node": (fault(CHECKPOINT, 6, "terminate node"), 0, 1),
    "driver": (fault(CHECKPOINT, 10, "kill driver"), KILLED, 2),
    "clock of a trial": (fault(CHECKPOINT, 4, "clock back"), 0, 0),
    "clock of the driver": (fault("*/study.log", 12, "clock back"), 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_what_breaks_leaves_the_sweep_of_none(
    case: str, undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    injected, code, lost = CASES[case]
    with Nodes(monkeypatch, tmp_path, [injected]) as nodes:
        done = Drive(tmp_path, nodes.address).end()
        assert done.code == code, done.output
        assert (tmp_path / "faults0.json.0").exists(), "the fault was not met"
        if code:
            done = Drive(tmp_path, nodes.address).end()
            assert done.code == 0, done.output
    assert_same(tmp_path, undisturbed, lost)


def test_a_trial_that_hangs_goes_on_from_its_checkpoint(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path, [fault(CHECKPOINT, 4, "hang")]) as nodes:
        done = Drive(tmp_path, nodes.address, patience=60).end()
        assert done.code == 0, done.output
    assert "it hung: it said nothing for" in done.output
    assert_same(tmp_path, undisturbed)


def test_a_trial_that_hangs_twice_has_failed(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = [fault("*/trials/00001/fold0/checkpoint.json.new", n, "hang") for n in (2, 3)]
    with Nodes(monkeypatch, tmp_path, hangs) as nodes:
        done = Drive(tmp_path, nodes.address, patience=60).end()
        assert done.code == 0, done.output
    found = states(tmp_path)
    assert found[1].state == "FAIL"
    assert found[:1] + found[2:] == undisturbed[:1] + undisturbed[2:]
    assert len(RunDir(tmp_path / "it").trial(1).attempts()) == 2


def test_a_lost_head_ends_the_sweep_and_another_cluster_goes_on(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path) as nodes:
        drive = Drive(tmp_path, nodes.address)
        wait_until(lambda: (tmp_path / "it" / "trials" / "00001" / "metrics.jsonl").exists())
        nodes.kill(nodes.head)
        done = drive.end()
    assert done.code == 2, done.output
    assert "error: the cluster's head at" in done.output
    with Nodes(monkeypatch, tmp_path) as nodes:
        done = Drive(tmp_path, nodes.address).end()
        assert done.code == 0, done.output
    assert_same(tmp_path, undisturbed, 2)


def test_a_stop_ends_trials_that_wait_for_a_node(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path, cpus=[]) as nodes:  # a head that has no CPU, and no node yet
        drive = Drive(tmp_path, nodes.address)
        wait_until(lambda: "are queued" in drive.output.read_text() or drive.process.poll())
        os.kill(drive.process.pid, signal.SIGINT)
        done = drive.end()
        assert done.code == 3, done.output
        assert "started" not in done.output
        drive = Drive(tmp_path, nodes.address)  # and what waits begins when a node joins
        wait_until(lambda: "are queued" in drive.output.read_text() or drive.process.poll())
        nodes.nodes.append(nodes.add(2))
        done = drive.end()
        assert done.code == 0, done.output
    assert_same(tmp_path, undisturbed, 0)
    assert not read_json(RunDir(tmp_path / "it").path / "driver")["heartbeat"]


def most_at_once(folder: Path) -> int:
    """How many trials there were at one moment."""
    run = RunDir(folder / "it")
    spans = [(one["started"], one["ended"]) for number in range(clusterwork.TRIALS)
             for one in run.trial(number).attempts()]  # fmt: skip
    return max(sum(a <= begun < b for a, b in spans) for begun, _ in spans)


def test_a_node_that_joins_while_a_sweep_runs_is_used(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path, cpus=[1]) as nodes:
        drive = Drive(tmp_path, nodes.address, 900, "fit")
        wait_until(lambda: (tmp_path / "it" / "trials" / "00000" / "metrics.jsonl").exists())
        nodes.nodes.append(nodes.add())
        done = drive.end()
        assert done.code == 0, done.output
    assert "the cluster has room for 2 at once, not 1" in done.output
    assert most_at_once(tmp_path) == 2
    assert_same(tmp_path, undisturbed, 0)


def test_an_autoscaler_starts_nodes_from_none(
    undisturbed: list[State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path, cpus=[], grows=2) as nodes:
        done = Drive(tmp_path, nodes.address, 900, "fit").end()
        assert done.code == 0, done.output
    assert "the cluster has room for 2 at once, not 1" in done.output
    assert most_at_once(tmp_path) == 2
    assert_same(tmp_path, undisturbed, 0)
