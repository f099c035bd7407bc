"""`ray up`, `ray submit`, `ray rsync-down`, `ray job submit` and `ray down` by cluster/onprem.yaml,
over ssh on the loopback of a machine of its own; and Ctrl-C at each step."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, wait_until
from loopback import Machine, Typist, missing

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

WHY_NOT = missing()
pytestmark = [
    pytest.mark.all,
    pytest.mark.skipif(WHY_NOT is not None, reason=f"no cluster on the loopback: {WHY_NOT}"),
]
FILE = "cluster/onprem.yaml"
SCRIPT = "orchestrator/run.py"
ESCAPE = "\x1b"
ONE = ("--top-k", "1", "--stack", "none")
# Epochs that take long enough for a person to press a key in one.
LONG = (*TINY, "--max-epochs", "60", "--set", "training.steps_per_epoch=25", "--trials", "2", *ONE)


def name(machine: Machine, head: str, workers: str) -> None:
    """Write into its clone's files what a user would, and make the token."""
    files = {
        FILE: {
            "192.168.1.10": head,
            "[192.168.1.11, 192.168.1.12]": workers,
            "ssh_user: sweep": "ssh_user: root",
            "cluster_name: soundsweep": f"cluster_name: on-{machine.folder.name}-{os.getpid()}",
        },
        "cluster/node.sh": {"/shared/runs": str(machine.shared / "runs")},
    }
    for file, mine in files.items():
        text = (machine.clone / file).read_text()
        for before, after in mine.items():
            assert before in text
            text = text.replace(before, after)
        (machine.clone / file).write_text(text)
    made = machine.run("bash", "-c", "ray get-auth-token --generate >/dev/null && chmod 600 "
                       "~/.ray/auth_token")  # fmt: skip
    assert made.returncode == 0, made.stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a clone whose onprem.yaml names it, as its user would write it."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        name(machine, "127.0.0.1", "[]")
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def cluster(machine: Machine) -> Machine:
    """The machine with a cluster that is up, after a first `ray up` was interrupted."""
    first = Typist(machine, "ray", "up", "-y", FILE)
    first.wait_for("Processing file mounts")
    while not first.has_ended():  # one may reach the node, where it ends what runs there alone
        first.press("\x03")
        time.sleep(0.2)
    assert first.wait() != 0, first.seen[-3000:]
    # Ray may have been about to write this, and would not read it again (docs/cluster.md).
    machine.run("bash", "-c", "find /tmp/ray -name 'cluster-*.state' -empty -delete")
    up = machine.run("ray", "up", "-y", FILE)
    assert up.returncode == 0, up.stdout[-3000:]
    return machine


def run_of(cluster: Machine, name: str) -> RunDir:
    return RunDir(cluster.shared / "runs" / name)


def on(name: str) -> tuple[str, ...]:
    return ("--system", "gcrnn_vat", "--dataset", "synthetic", "--name", name)


def wait_for_an_epoch(run: RunDir, submit: Typist) -> None:
    wait_until(lambda: list(run.path.glob("trials/00000/metrics.jsonl")) or submit.has_ended())
    assert not submit.has_ended(), submit.seen[-3000:]


def test_a_sweep_is_submitted_seen_and_fetched(cluster: Machine) -> None:
    asked = (*on("one"), *TINY, "--trials", "2", "--top-k", "1", "--stack", "logreg")
    done = cluster.run("ray", "submit", FILE, SCRIPT, *asked)
    assert done.returncode == 0, done.stdout[-3000:]
    mine = [line for line in done.stdout.splitlines() if re.match(r"\[ *\d+:\d\d\]", line)]
    assert any("trial 1 started" in line for line in mine)
    assert not any(ESCAPE in line for line in mine), "a log gets lines, no table that changes"
    run = run_of(cluster, "one")
    assert f"report:  {run.report / 'index.html'}" in done.stdout
    assert not (cluster.home / "runs").exists()
    target = cluster.folder / "fetched"
    fetched = cluster.run("ray", "rsync-down", FILE, f"{run.report}/", f"{target}/")
    assert fetched.returncode == 0, fetched.stdout[-3000:]
    assert (target / "index.html").read_bytes() == (run.report / "index.html").read_bytes()
    kept = (cluster.home / "mlflow" / "mlflow.db").read_bytes()
    assert run.plan.run_id.encode() in kept, "the head's MLflow server has it"


def test_what_is_wrong_is_told_and_fails(cluster: Machine) -> None:
    done = cluster.run("ray", "submit", FILE, SCRIPT, "--system", "gcrnn_vatt")
    assert done.returncode == 1  # Ray's: it has 0 and 1 only
    assert "error: unknown" in done.stdout
    assert "Traceback" not in done.stdout
    blank = cluster.run("ray", "submit", FILE, SCRIPT, "--data", "'/a folder that/is not'")
    assert "/a folder that/is not" in blank.stdout, "quoted twice, a value keeps its blanks"
    assert "Got unexpected extra argument" not in blank.stdout
    helped = cluster.run("ray", "submit", FILE, SCRIPT, "run", "--", "--help", TERM="dumb")
    assert "--workers-per-trial" in helped.stdout


def test_ctrl_c_is_answered_and_the_run_goes_on_later(cluster: Machine) -> None:
    submit = Typist(cluster, "ray", "submit", FILE, SCRIPT, *on("two"), *LONG)
    run = run_of(cluster, "two")
    wait_for_an_epoch(run, submit)
    submit.press("\x03")
    submit.wait_for("a second Ctrl-C ends it now")
    assert submit.wait() == 1
    assert "go on with: soundsweep run --resume" in submit.seen
    assert not run.is_driven()
    again = cluster.run("ray", "submit", FILE, SCRIPT, "--resume", "two", "--time-budget", "1s")
    assert again.returncode == 0, again.stdout[-3000:]


def test_a_second_ctrl_c_ends_it_now(cluster: Machine) -> None:
    submit = Typist(cluster, "ray", "submit", FILE, SCRIPT, *on("three"), *LONG)
    run = run_of(cluster, "three")
    wait_for_an_epoch(run, submit)
    submit.press("\x03")
    submit.wait_for("a second Ctrl-C ends it now")
    submit.press("\x03")
    assert submit.wait() == 1
    assert "go on with: soundsweep run --resume" in submit.seen
    wait_until(lambda: not run.is_driven())


def test_a_lost_connection_ends_the_run_as_ctrl_c_does(
    cluster: Machine, task4_folder: Path
) -> None:
    submit = Typist(cluster, "ray", "submit", FILE, SCRIPT, *on("four"), *LONG)
    run = run_of(cluster, "four")
    wait_for_an_epoch(run, submit)
    submit.hang_up()
    wait_until(lambda: not run.is_driven())
    assert run.results.exists(), "the report so far"
    assert "the terminal was closed" in run.console_log.read_text()
    assert read_json(run.path / "driver")["heartbeat"] == 0, "it was given up in good order"


def test_a_token_that_is_missing_is_not_an_unreachable_head(cluster: Machine) -> None:
    (cluster.folder / "empty").mkdir()
    asked = "soundsweep run --name five --trials 1 --ray-address 127.0.0.1:6379"
    home = f"HOME={cluster.folder / 'empty'}"
    told = cluster.run("ray", "exec", FILE, f"env -u RAY_AUTH_MODE {home} {asked}")
    assert "asks for its token, and there is none here" in told.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="soundsweep[cluster] is not installed"
)
def test_a_job_goes_through_the_dashboard(cluster: Machine) -> None:
    job = ("ray", "job", "submit", "--address", "http://127.0.0.1:8265")
    token = {"RAY_AUTH_MODE": "token"}
    asked = (*on("six"), *TINY, "--trials", "1", *ONE)
    done = cluster.run(*job, "--", "soundsweep", "run", *asked, **token)
    assert done.returncode == 0, done.stdout[-3000:]
    assert run_of(cluster, "six").report.exists()
    folder = cluster.folder / "working"
    folder.mkdir()
    (folder / "labels.csv").touch()
    relative = cluster.run(
        *job, "--working-dir", str(folder), "--", "soundsweep", "run", "--storage", "runs", **token
    )
    assert relative.returncode == 1
    assert "SOUNDSWEEP_STORAGE" in relative.stdout


def test_down_ends_all_of_it(cluster: Machine) -> None:
    """The last one with this cluster."""
    down = cluster.run("ray", "down", "-y", FILE)
    assert down.returncode == 0, down.stdout[-3000:]
    left = cluster.run("ps", "-eo", "args").stdout
    assert "gcs_server" not in left
    assert "raylet" not in left


def test_two_machines_of_ones_own_train_one_sweep(tmp_path_factory: pytest.TempPathFactory) -> None:
    with contextlib.ExitStack() as ends:
        head, worker = (Machine(tmp_path_factory.mktemp(one)) for one in ("head", "worker"))
        ends.callback(head.close)
        ends.callback(worker.close)
        mine, theirs = head.wire(worker)
        name(head, mine, f"[{theirs}]")
        up = head.run("ray", "up", "-y", FILE)
        assert up.returncode == 0, up.stdout[-3000:]
        # More at once than one of them has room for.
        each = len(os.sched_getaffinity(0))
        many = ("--trials", str(2 * each), "--concurrency", str(2 * each), *TINY[:-2], *ONE)
        done = head.run("ray", "submit", FILE, SCRIPT, *on("both"), *many)
        assert done.returncode == 0, done.stdout[-3000:]
        run = run_of(head, "both")
        hosts = {one["host"] for t in run.trials() for one in t.attempts()}
        told = head.run("bash", "-ic", "ray status").stdout
        assert len(hosts) == 2, f"{hosts}\n{told}\n{done.stdout}"
        down = head.run("ray", "down", "-y", FILE)
        assert down.returncode == 0, down.stdout[-3000:]
        # `ray down` tells the head alone; the others end when they have missed it for a while.
        wait_until(lambda: "raylet" not in worker.run("ps", "-eo", "args").stdout)
