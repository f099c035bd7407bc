"""Faults of a cluster of several nodes: whatever is lost, the run equals an undisturbed one.

Each test compares trial by trial: parameters, values, states, epochs in metrics.jsonl, models,
scores (``faulted.assert_equal_to``). No trial runs twice, and at most one epoch repeats.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import Nodes
from command import PATIENCE, wait_until
from faulted import (
    CHECKPOINT,
    KILLED,
    RESUME,
    Done,
    assert_equal_to,
    assert_whole_journal,
    fault,
    openings,
    repeated,
    start,
)

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

pytestmark = pytest.mark.all
QUICK_DOG = (  # a driver that does not wait for long
    "import orchestrator.search.watchdog as w; w.SHORTEST, w.UNKNOWN = 20, 300; "
    "from orchestrator.run import main; main()"
)


class Command:
    """A driver in a process of its own; what it prints goes to a file."""

    def __init__(self, folder: Path, *arguments: str, code: str | None = None) -> None:
        self.output = folder / f"output{len(list(folder.glob('output*.txt')))}.txt"
        way = ["-c", code] if code else ["-m", "orchestrator.run"]
        with open(self.output, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *way, *arguments], cwd=folder, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True, env=dict(os.environ),
            )  # fmt: skip

    def end(self) -> Done:
        code = self.process.wait(timeout=PATIENCE)
        return Done(code, self.output.read_text())


def well(done: Done) -> Done:
    assert done.code == 0, done.output
    assert "Traceback" not in done.output
    return done


def same(run: RunDir, whole: RunDir, epochs: int = 1) -> None:
    """The run of none of the faults: no trial twice, at most so many epochs twice."""
    assert_whole_journal(run)
    assert repeated(run) <= epochs
    assert openings(run) == 1
    assert_equal_to(whole, run)
    numbers = [trial["number"] for trial in read_json(run.results)["trials"]]
    assert numbers == list(range(5))


def drawn(case: str, *moments: int) -> int:
    """A moment of a case's own, always the same."""
    return int(np.random.default_rng(list(case.encode())).choice(moments))


EPOCHS = [epoch for epoch in range(2, 31) if epoch % 6 != 1]  # not a training's first
# What a process of the cluster meets, and how the command ends.
OF_NODES: dict[str, Callable[[str], tuple[dict[str, Any], int]]] = {
    "worker": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "kill"), 0),
    "node in a trial": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "kill node"), 0),
    "node in the store": lambda case: (fault("*/store/*.f32", 1, "kill node"), 0),
    "node in a refit": lambda case: (fault("*/refit/checkpoint.pt.new", 2, "kill node"), 0),
    "notice to a worker": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "terminate"), 0),
    "notice to a node": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "terminate node"), 0),
    "driver": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "kill driver"), KILLED),
    "clock of a trial": lambda case: (fault(CHECKPOINT, drawn(case, *EPOCHS), "clock back"), 0),
    "clock of the driver": lambda case: (fault("*/study.log", drawn(case, 5, 30), "clock back"), 0),
}


@pytest.mark.parametrize("case", OF_NODES)
def test_what_breaks_in_a_cluster_leaves_the_run_of_none(
    case: str, whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    injected, code = OF_NODES[case](case)
    run = RunDir(tmp_path / "runs" / "it")
    with Nodes(monkeypatch, tmp_path, [injected]) as nodes:
        done = Command(tmp_path, *start(task4_folder, *nodes.named)).end()
        assert done.code == code, done.output
        assert (tmp_path / "faults0.json.0").exists(), "the fault was not met"
        if code:
            well(Command(tmp_path, *RESUME).end())
    same(run, whole)


def test_a_node_lost_while_stacking_leaves_the_run_of_none(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    with Nodes(monkeypatch, tmp_path) as nodes:
        command = Command(tmp_path, *start(task4_folder, *nodes.named))
        wait_until(lambda: run.members.exists() or command.process.poll() is not None)
        nodes.kill(nodes.nodes[0])
        well(command.end())
    same(run, whole)


def test_a_head_that_is_lost_ends_the_run_with_how_to_go_on(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    with Nodes(monkeypatch, tmp_path) as nodes:
        command = Command(tmp_path, *start(task4_folder, *nodes.named))
        begun = run.trial(0).metrics
        wait_until(lambda: begun.exists() and len(begun.read_text().splitlines()) > 3)
        nodes.kill(nodes.head)
        done = command.end()
    assert done.code == 2, done.output
    assert "Traceback" not in done.output
    assert "error: the cluster's head at" in done.output
    assert "--resume" in done.output
    with Nodes(monkeypatch, tmp_path) as nodes:
        well(Command(tmp_path, *RESUME, *nodes.named).end())
    same(run, whole)


def test_a_trial_that_hangs_is_begun_again_from_its_checkpoint(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    with Nodes(monkeypatch, tmp_path, [fault(CHECKPOINT, 4, "hang")]) as nodes:
        arguments = start(task4_folder, *nodes.named)
        done = well(Command(tmp_path, *arguments, code=QUICK_DOG).end())
    assert "trial 0 lost its process: it hung: it said nothing for" in done.output
    same(run, whole)


def test_a_trial_that_is_out_of_memory_is_told_and_begun_again(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    with open("/proc/meminfo") as file:
        size = {line.split(":")[0]: int(line.split()[1]) for line in file}
    room = 4 * 2**20  # kB that are left to all others
    if size["MemAvailable"] < 2 * room:
        pytest.skip("takes 8 GiB of free memory")
    limit = 1 - (size["MemAvailable"] - room) / size["MemTotal"]
    with Nodes(
        monkeypatch, tmp_path, [fault(CHECKPOINT, 3, "eat")],
        RAY_memory_usage_threshold=f"{limit:.3f}", RAY_memory_monitor_refresh_ms="100",
    ) as nodes:  # fmt: skip
        done = well(Command(tmp_path, *start(task4_folder, *nodes.named)).end())
    assert "the machine ran low on memory, and Ray ended it" in done.output
    same(run, whole)


def test_two_sweeps_at_once_on_one_root_are_each_as_if_alone(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Nodes(monkeypatch, tmp_path) as nodes:
        ours, name = [], start(task4_folder, *nodes.named)
        for other in ("it", "other"):
            arguments = [other if word == "it" else word for word in name]
            ours.append(Command(tmp_path, *arguments))
        for command in ours:
            well(command.end())
    for name_ in ("it", "other"):
        assert_equal_to(whole, RunDir(tmp_path / "runs" / name_))


def take(until: Path) -> Any:
    """Other work on a CPU of the cluster, until a file is there."""
    import ray

    @ray.remote(num_cpus=1)
    def wait(path: str) -> None:  # within: nodes do not import these tests
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.2)

    return wait.remote(str(until))


def test_a_stop_ends_what_waits_for_a_node_at_once(
    whole: RunDir, tmp_path: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other work has all CPUs; a node that joins later takes the run that goes on."""
    import ray

    run = RunDir(tmp_path / "runs" / "it")
    with Nodes(monkeypatch, tmp_path, cpus=[1]) as nodes:
        well(Command(tmp_path, *start(task4_folder, *nodes.named, "--dry-run")).end())
        (tmp_path / "runs").mkdir(exist_ok=True)
        os.symlink(whole.root / "store", tmp_path / "runs" / "store")  # no task builds it
        ray.init(nodes.address, log_to_driver=False)
        try:
            taken = take(tmp_path / "free")
            wait_until(lambda: ray.available_resources().get("CPU", 0) == 0)
            command = Command(tmp_path, *start(task4_folder, *nodes.named))
            wait_until(lambda: "trial 0 is queued" in command.output.read_text())
            os.kill(command.process.pid, signal.SIGINT)
            done = command.end()
            assert done.code == 3, done.output
            assert "trial 0 started" not in done.output
            assert f"go on with: soundsweep run --resume {run.path}" in done.output
            nodes.nodes.append(nodes.add())
            well(Command(tmp_path, *RESUME).end())
            (tmp_path / "free").touch()
            ray.get(taken)
        finally:
            ray.shutdown()
    same(run, whole, epochs=0)
