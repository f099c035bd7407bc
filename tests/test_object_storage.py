"""Whole sweeps whose storage root is in an object store, and what breaks in the way."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from bucket import ROOT, Bucket, Proxy, served
from command import HERE, SEARCH, free_port, in_process, soundsweep, wait_until
from faulted import assert_equal_to, openings

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.pipeline.jobs import Jobs
from orchestrator.planning.resolve import reload
from orchestrator.runs import lease, objects
from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.lease import Superseded
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of
from orchestrator.training.elsewhere import hand_over
from orchestrator.training.trial import run_trial_there

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
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_sweep_whose_host_is_lost_goes_on_elsewhere(
    whole: RunDir, bucket: Bucket, tmp_path: Path, task4_folder: Path
) -> None:
    """Killed in its third trial: nothing that is older than 10 s is lost, and another host, which
    has nothing but the object store, ends with the run of none."""
    process = begun(tmp_path, *sweep(task4_folder), *HERE)
    wait_until(lambda: "it/trials/00002/metrics.jsonl" in bucket.objects() or process.poll())
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
    assert not any("checkpoint" in key or ".new" in key for key in bucket.objects())

    bucket.on_host("three")
    for command in (("report", "it"), ("compare", "it", "it"), ("clean",)):
        in_process(*command, "--storage", ROOT, cwd=tmp_path, check=True)
    assert_equal_to(whole, RunDir(bucket.run("it", "three")))


def test_a_stack_over_runs_of_an_object_store(
    whole: RunDir, bucket: Bucket, tmp_path: Path, task4_folder: Path
) -> None:
    for name, rate in (("it", "0.001"), ("other", "0.002")):
        own = sweep(task4_folder, "--set", f"training.learning_rate={rate}")
        arguments = [name if a == "it" else a for a in own]
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
    assert "test_ledger.jsonl" in bucket.objects()
    assert read_json(bucket.run("both", "three") / "results.json")["test"]["rows"]


def test_a_node_without_a_common_disk_trains_what_it_fetches(
    bucket: Bucket, tmp_path: Path, task4_folder: Path
) -> None:
    """Without Ray: a job that arrives on another host, and what the driver has when it is done."""
    few = ("--trials", "1", "--top-k", "1", "--max-epochs", "2", "--stack", "none")
    in_process(*sweep(task4_folder), *few, *HERE, cwd=tmp_path, check=True)
    with RunDir(bucket.run("it", "one")).drive() as run:
        plan = run.plan
        dataset, splits = reload(plan)
        with Stop() as stop, Jobs(run, dataset, splits, stop, Progress()) as jobs:
            sent = pickle.dumps(jobs.own())
        expected = read_json(run.trial(0).result)
        expected_epochs = len(read_lines(run.trial(0).metrics))
        params = read_json(run.trial(0).config)["params"]

        bucket.on_host("two")
        job, told = pickle.loads(sent), []
        outcome = run_trial_there(job, 1, params, told.append)
        two = next((bucket.folder / "two").iterdir())
        assert len(list(two.glob("store/*/waveforms.f32"))) == 1
        assert not (two / "it/plan.json").exists()  # no more than it needs
        assert len(told) == expected_epochs

        bucket.on_host("one")
        hand_over(pickle.loads(sent), 1)
        assert read_json(run.trial(1).result) == outcome
        assert outcome["outcome"] == expected["outcome"] == "complete"
        assert len(read_lines(run.trial(1).metrics)) == expected_epochs
        assert (run.trial(1).model(4) / "model.safetensors").exists()

    bucket.on_host("three")
    with RunDir(root_of(ROOT) / "it").drive():  # of another generation
        bucket.on_host("two")
        with pytest.raises(Superseded):
            run_trial_there(pickle.loads(sent), 2, params, told.append)
    assert not any("trials/00002" in key for key in bucket.objects())


class Node:
    """A Ray node on this machine, with a disk of its own for its copies of storage roots."""

    def __init__(self, folder: Path, copies: Path, *arguments: str) -> None:
        self.said, self.arguments = folder.with_suffix(".log"), arguments
        self.copies = copies
        self._start()

    def _start(self) -> None:
        with open(self.said, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
                 "--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}",
                 *self.arguments],
                env={**os.environ, "SOUNDSWEEP_MIRROR": str(self.copies)}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def is_up(self) -> bool:
        said = self.said.read_text()
        if self.process.poll() is not None:
            assert "timed out during startup" in said, said[-3000:]
            kill(self.process)
            self._start()  # Ray gives a busy machine thirty seconds
        return "Ray runtime started" in said

    def kill(self) -> None:
        """Let the node end with all its processes, as a machine that is switched off."""
        kill(self.process)


@pytest.fixture
def nodes(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    """A head without CPUs, and two nodes that have a CPU each; its address is ``RAY_ADDRESS``."""
    folder = Path(tempfile.mkdtemp(prefix="rt_", dir="/tmp"))
    port = free_port()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    started = list[Node]()
    try:
        started.append(Node(
            folder / "head", bucket.folder / "head", "--head", f"--port={port}", "--num-cpus=0",
            "--include-dashboard=false", f"--temp-dir={folder}/ray",
        ))  # fmt: skip
        wait_until(started[0].is_up)
        for name in ("first", "second"):
            started.append(Node(folder / name, bucket.folder / name,
                                f"--address=127.0.0.1:{port}", "--num-cpus=1"))  # fmt: skip
        for node in started:
            wait_until(node.is_up)
        yield started
    finally:
        for node in reversed(started):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_nodes_without_a_common_disk_train_one_sweep(
    whole: RunDir, bucket: Bucket, nodes: list[Node], tmp_path: Path, task4_folder: Path
) -> None:
    """Each fetches the sound once, and what it trained is where the driver is; one is lost on the
    way, and the driver's machine after that."""
    bucket.on_host("driver")
    process = begun(tmp_path, *sweep(task4_folder), "--mlflow", "none")
    wait_until(lambda: "it/trials/00001/metrics.jsonl" in bucket.objects() or process.poll())
    nodes[1].kill()
    wait_until(lambda: "it/trials/00002/metrics.jsonl" in bucket.objects() or process.poll())
    kill(process)
    bucket.on_host("elsewhere")
    done = soundsweep(*RESUME, "--mlflow", "none", cwd=tmp_path)
    assert "Traceback" not in done.stdout + done.stderr
    two = RunDir(bucket.run("it", "elsewhere"))
    assert_equal_to(whole, two)
    assert openings(two) == 1
    stores = list((bucket.folder / "second").glob("*/store/*/waveforms.f32"))
    assert len(stores) == 1
    assert not list(bucket.folder.glob("second/*/it/plan.json"))  # nodes fetch what they need


def test_the_workers_of_a_trial_are_on_nodes_without_a_common_disk(
    bucket: Bucket, nodes: list[Node], tmp_path: Path, task4_folder: Path
) -> None:
    """A CPU each on two nodes: what they trained is published, and another host reads it."""
    bucket.on_host("driver")
    few = ("--trials", "2", "--top-k", "1", "--max-epochs", "2", "--stack", "none")
    asked = (*sweep(task4_folder), *few, "--workers-per-trial", "2", "--mlflow", "none")
    done = soundsweep(*asked, cwd=tmp_path)
    assert "Traceback" not in done.stdout + done.stderr
    bucket.on_host("elsewhere")
    in_process("report", "it", "--storage", ROOT, cwd=tmp_path, check=True)
    run = RunDir(bucket.run("it", "elsewhere"))
    assert [t["state"] for t in read_json(run.results)["trials"]] == ["complete"] * 2
    for trial in run.trials():
        steps = [(line["fold"], line["step"]) for line in trial.read_metrics()]
        assert len(steps) == len(set(steps)) > 0


def when(happened: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something has happened."""

    def wait() -> None:
        wait_until(happened)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    """What stands between the runs and the store from now on."""
    proxy = Proxy(bucket.port)
    bucket.reach(proxy.port)
    yield proxy
    proxy.close()


def test_errors_and_slow_answers_cost_a_sweep_nothing(
    whole: RunDir, bucket: Bucket, proxy: Proxy, tmp_path: Path, task4_folder: Path
) -> None:
    """The store answers late from the second trial on, then with errors for a while."""

    def trial(number: int) -> bool:
        return any(bucket.folder.glob(f"one/*/it/trials/{number:05d}/metrics.jsonl"))

    def be(how: str) -> Callable[[], None]:
        return lambda: setattr(proxy, "how", how)

    when(partial(trial, 1), be("slow"))
    when(partial(trial, 2), be("error"))
    when(lambda: proxy.how == "error" and proxy.broken > 30, be(""))
    in_process(*sweep(task4_folder), *HERE, cwd=tmp_path, check=True)
    assert proxy.how == ""
    assert proxy.broken > 30
    assert_equal_to(whole, RunDir(bucket.run("it", "one")))
    bucket.on_host("two")
    in_process("report", "it", "--storage", ROOT, cwd=tmp_path, check=True)
    assert_equal_to(whole, RunDir(bucket.run("it", "two")))


def test_a_store_that_stays_away_ends_in_one_message_and_nothing_is_lost(
    whole: RunDir, bucket: Bucket, proxy: Proxy, tmp_path: Path, task4_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(objects, "PATIENCE", 3.0)
    monkeypatch.setattr(objects, "PAUSE", 0.2)
    monkeypatch.setattr(objects, "TRIES", 1)
    monkeypatch.setattr(lease, "LAPSE", 3.0)  # the driver that could not give it up is this process
    copies = bucket.folder / "one"
    when(lambda: any(copies.glob("*/it/trials/00001/metrics.jsonl")),
         lambda: setattr(proxy, "how", "away"))  # fmt: skip
    done = in_process(*sweep(task4_folder), *HERE, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert f"What is done is kept in {bucket.run('it', 'one')}" in done.stderr
    assert f"soundsweep run --resume {ROOT}/it" in done.stderr
    proxy.how = ""
    in_process(*RESUME, *HERE, cwd=tmp_path, check=True)
    assert_equal_to(whole, RunDir(bucket.run("it", "one")))
    bucket.on_host("two")
    in_process("report", "it", "--storage", ROOT, cwd=tmp_path, check=True)
    assert_equal_to(whole, RunDir(bucket.run("it", "two")))
