"""Whole sweeps whose storage root is in an object store, and what breaks in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket import ROOT, Bucket, served
from command import HERE, SEARCH, in_process, wait_until
from faulted import assert_equal_to, openings

from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.rundir import RunDir

pytestmark = pytest.mark.all
RESUME = ("run", "--resume", "it", "--storage", ROOT)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with served(tmp_path / "hosts") as bucket:
        yield bucket


def sweep(data: Path, *more: str) -> tuple[str, ...]:
    """The arguments of a run like ``whole``, in the object store."""
    where = ("--dataset", "dcase2018_task4", "--data", str(data), "--storage", ROOT)
    return ("run", *where, "--name", "it", *SEARCH, *more)


def begun(cwd: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command that goes on beside the test; its output is in ``printed.txt``."""
    with open(cwd / "printed.txt", "ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.run", *arguments], cwd=cwd, stdout=printed,
            stderr=printed, start_new_session=True,
        )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_sweep_whose_host_is_lost_goes_on_elsewhere(
    whole: RunDir, bucket: Bucket, tmp_path: Path, task4_folder: Path
) -> None:
    """Killed in its third trial: nothing that is older than 10 s is lost, and another host, which
    has nothing but the object store, ends with the run of none."""
    process = begun(tmp_path, *sweep(task4_folder), *HERE)
    wait_until(lambda: "it/trials/00002/metrics.jsonl" in bucket.keys() or process.poll())
    kill(process)
    one = RunDir(bucket.run("it", "one"))
    lines = {n: read_lines(one.trial(n).metrics) for n in range(5)}
    last = max(line["time"] for found in lines.values() for line in found)

    bucket.on_host("two")
    in_process("report", "it", "--storage", ROOT, cwd=tmp_path, check=True)
    two = RunDir(bucket.run("it", "two"))
    for number, written in lines.items():
        old = [line for line in written if line["time"] < last - 10]
        assert read_lines(two.trial(number).metrics)[: len(old)] == old
    in_process(*RESUME, *HERE, cwd=tmp_path, check=True)
    assert_equal_to(whole, two)
    assert openings(two) == 1
    assert not any("checkpoint" in key or ".new" in key for key in bucket.keys())

    bucket.on_host("three")
    for command in (("report", "it"), ("compare", "it", "it"), ("clean",)):
        in_process(*command, "--storage", ROOT, cwd=tmp_path, check=True)
    assert_equal_to(whole, RunDir(bucket.run("it", "three")))


def test_a_stack_over_runs_of_an_object_store(
    whole: RunDir, bucket: Bucket, tmp_path: Path, task4_folder: Path
) -> None:
    for name, seed in (("it", "0"), ("other", "1")):
        arguments = [name if a == "it" else a for a in sweep(task4_folder, "--seed", seed)]
        few = ("--trials", "1", "--top-k", "1", "--max-epochs", "2", "--stack", "none")
        in_process(*arguments, *few, *HERE, cwd=tmp_path, check=True)
    bucket.on_host("two")
    stack = ("stack", "it", "other", "--name", "both", "--stack", "logreg", "--storage", ROOT)
    in_process(*stack, *HERE, cwd=tmp_path, check=True)
    bucket.on_host("three")
    sound = next((task4_folder / "dataset/audio/test").iterdir())
    done = in_process("predict", "both", str(sound), "--model", "logreg", "--storage", ROOT,
                      cwd=tmp_path, check=True)  # fmt: skip
    assert sound.name in done.stdout
    assert len(read_lines(bucket.run("both", "three").parent / "test_ledger.jsonl")) == 0
    assert "test_ledger.jsonl" in bucket.keys()
    assert read_json(bucket.run("both", "three") / "results.json")["test"]["rows"]
