"""Faults of processes, disks and clocks, injected into the real command (tests/faults).

Whatever happened, a resumed run must equal the uninterrupted one to the last digit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command import wait_until
from faulted import (
    CHECKPOINT,
    KILLED,
    RESUME,
    assert_equal_to,
    assert_interrupted,
    assert_one_message,
    assert_whole_journal,
    epochs,
    fault,
    faulty,
    files,
    openings,
    repeated,
    saved,
    start,
)

from orchestrator.pipeline import way as job
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir, TrialDir


@pytest.mark.all
def test_faults_one_after_another_leave_the_run_of_none(
    whole: RunDir, tmp_path: Path, task4_folder: Path, orphans: list[int]
) -> None:
    """One of each kind, at random moments; the longer tests take each by itself."""
    draw = np.random.default_rng(7).integers
    run = RunDir(tmp_path / "runs" / "it")

    done = faulty(tmp_path, start(task4_folder), fault(CHECKPOINT, draw(2, 7), "kill"),
                  fault("*/study.log", draw(22, 34), "full"))  # fmt: skip
    assert_one_message(done, str(run.study), "No space left", "Free some space")
    assert "trial 0 lost its process" in done.output
    assert_whole_journal(run)

    done = faulty(tmp_path, RESUME, fault(CHECKPOINT, draw(2, 5), "full"))
    assert_one_message(done, "cannot be written: No space left", "Free some space")

    done = faulty(tmp_path, RESUME, fault(CHECKPOINT, draw(2, 5), "freeze", when="closed"))
    assert done.code == KILLED
    frozen = frozen_worker(run)
    orphans.append(frozen.pid)

    done = faulty(tmp_path, RESUME, fault("*/trials/*/result.json.new", 1, "full"))
    assert_one_message(done, "cannot be written: No space left", "Free some space")

    before = len(saved(run))
    done = faulty(tmp_path, RESUME, fault(CHECKPOINT, 1, "SIGINT"))
    assert_interrupted(done, run, before + 1)

    done = faulty(tmp_path, RESUME, fault("*/test_ledger.jsonl", 1, "kill", when="closed"))
    assert done.code == KILLED

    done = faulty(tmp_path, RESUME)
    assert done.code == 0, done.output
    assert_equal_to(whole, run)
    assert openings(run) == 2  # one without scores: the kill came between the two
    assert repeated(run) <= 3  # under way at the kill, at the freeze, and when space ran out
    assert_wakes_without_a_word(frozen, run)


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """Processes to be ended with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Frozen(NamedTuple):
    """A worker that a fault stopped just after it wrote a checkpoint aside; its driver is gone."""

    pid: int
    checkpoint: Path


def frozen_worker(run: RunDir) -> Frozen:
    note = run.root.parent / "frozen.pid"
    wait_until(lambda: note.exists() and note.read_text() and is_stopped(int(note.read_text())))
    return Frozen(int(note.read_text()), saved(run)[-1])


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def assert_wakes_without_a_word(frozen: Frozen, run: RunDir) -> None:
    """A worker of an earlier generation goes on, and publishes nothing."""
    frozen.checkpoint.parent.mkdir(exist_ok=True)
    frozen.checkpoint.write_bytes(b"as it was when the worker stopped")
    before = files(run.path)
    os.kill(frozen.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60  # it need not end; far more than it needs to rename a file
    while Path(f"/proc/{frozen.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert files(run.path) == before


def test_a_sweep_goes_on_without_the_trials_that_fail(tmp_path: Path, task4_folder: Path) -> None:
    """Trial 1 raises, trial 2 loses every process, trial 3 diverges."""
    run = RunDir(tmp_path / "runs" / "it")
    arguments = start(
        task4_folder, "--max-epochs", "2", "--top-k", "1", "--stack", "none",
        "--trials", "4", "--seed", "1", "--space", "vat.weight=one-of:1,1e39",
    )  # fmt: skip
    done = faulty(
        tmp_path, arguments, fault("*/trials/00001/*/checkpoint.pt.new", 1, "raise"),
        fault("*/trials/00002/*/checkpoint.pt.new", 1, "kill", always=True),
    )  # fmt: skip
    assert done.code == 0, done.output
    assert "Traceback" not in done.output
    trials = read_json(run.results)["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "failed", "failed", "diverged"]
    raised = read_json(run.trial(1).result)
    assert raised["cause"] == "RuntimeError: an injected error"
    assert "in save" in raised["traceback"]
    assert "its process was lost 3 times" in str(trials[2])
    assert done.output.count("trial 2 lost its process: it ended without a word") == 3
    assert "the loss is inf in epoch 1" in str(trials[3])
    assert [len(run.trial(n).attempts()) for n in range(4)] == [1, 1, 3, 1]


@pytest.fixture
def searched(real: RunDir, tmp_path: Path) -> RunDir:
    """``real`` as it was when its search had ended, as if that had scored one fold of five."""
    run = RunDir(tmp_path / "runs" / "it")
    shutil.copytree(real.path, run.path)
    shutil.copytree(real.root / "store", run.root / "store")
    members = read_json(run.members)["members"]
    for folder in (run.path / "stack", run.path / "counts", run.path / "examples", run.report):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (run.members, run.scores, run.results):
        path.unlink()
    for member in members:
        forget_later_folds(run.trial(member["trial"]))
    score_folds(run, 1)
    return run


def forget_later_folds(trial: TrialDir) -> None:
    shutil.rmtree(trial.refit)
    for fold in range(1, 5):
        trial.predictions(fold).unlink()
        trial.epoch_scores(fold).unlink()
        trial.crossed(fold).unlink()
        shutil.rmtree(trial.model(fold))
    lines = trial.metrics.read_text().splitlines(keepends=True)
    trial.metrics.write_text("".join(x for x in lines if json.loads(x)["fold"] == 0))


def score_folds(run: RunDir, count: int) -> None:
    """Let the plan say how many folds the search scores."""
    plan = read_json(run.plan_file)
    plan["splits"]["searched"] = count
    write_json(run.plan_file, plan)


FOLD, REFIT = "*/trials/*/fold*/checkpoint.pt.new", "*/refit/checkpoint.pt.new"
# What happens to a run after its search, how the command ends, openings of the test labels.
AFTER_SEARCH = {
    "fold, worker": (fault(FOLD, 3, "kill"), 0, 1),
    "fold, driver": (fault(FOLD, 9, "kill driver"), KILLED, 1),
    "fold, signal": (fault(FOLD, 14, "SIGUSR1"), 3, 1),
    "fold, disk": (fault(FOLD, 20, "full"), 2, 1),
    "members": (fault("*/members.json.new", 1, "kill"), KILLED, 1),
    "learner": (fault("*/stack/*/learner.json.new", 2, "kill"), KILLED, 1),
    "learner, disk": (fault("*/stack/*/scores.json.new", 1, "full"), 2, 1),
    "refit, worker": (fault(REFIT, 1, "kill", when="closed"), 0, 1),
    "refit, driver": (fault(REFIT, 2, "kill driver"), KILLED, 1),
    "refit, both": (fault(REFIT, 1, "kill both"), KILLED, 1),
    "refit, Ctrl-C": (fault(REFIT, 2, "SIGINT"), 3, 1),
    "refit, disk": (fault(REFIT, 2, "full"), 2, 1),
    "prediction": (fault("*/refit/predictions/*.npz.new", 2, "kill driver"), KILLED, 1),
    "ledger": (fault("*/test_ledger.jsonl", 1, "kill", when="closed"), KILLED, 2),
    "ledger, torn": (fault("*/test_ledger.jsonl", 1, "kill"), KILLED, 1),  # nothing was opened yet
    "ledger, disk": (fault("*/test_ledger.jsonl", 1, "full"), 2, 1),
    "scores": (fault("*/it/scores.json.new", 1, "kill"), KILLED, 2),
    "results": (fault("*/it/results.json.new", 1, "kill"), KILLED, 1),
    "results, disk": (fault("*/it/results.json.new", 1, "full"), 2, 1),
    "report": (fault("*/index.html", 1, "kill"), KILLED, 1),
    "report, disk": (fault("*/index.html", 1, "full"), 2, 1),
    "plan, disk": (fault("*/it/plan.json.new", 1, "full"), 2, 1),
}


@pytest.mark.all
@pytest.mark.parametrize("case", AFTER_SEARCH)
def test_a_fault_after_the_search_leaves_the_run_of_none(
    case: str, searched: RunDir, whole: RunDir
) -> None:
    injected, code, opened = AFTER_SEARCH[case]
    cwd, before = searched.root.parent, epochs(searched)
    done = faulty(cwd, RESUME, injected)
    assert done.code == code, done.output
    assert "Traceback" not in done.output
    if code != 0:
        done = faulty(cwd, RESUME)
    assert done.code == 0, done.output
    assert repeated(searched, before) <= 1
    assert openings(searched) == opened
    score_folds(searched, 5)
    job.write_report(searched)
    assert_equal_to(whole, searched)


# Files that a worker writes, and which of their openings a fault may meet: of trial 0, which trains
# five folds of six epochs each, every epoch but the first, where nothing is there to go on from.
EPOCHS = [epoch for epoch in range(1, 31) if epoch % 6 != 1]
WORKER_FILES = {
    "checkpoint": (CHECKPOINT, EPOCHS),
    "metrics": ("*/metrics.jsonl", EPOCHS),
    "prediction": ("*/predictions/fold*.npz*", range(1, 10)),
    "result": ("*/result.json.new", range(1, 3)),
}
STUDY = ("*/study.log", range(2, 70))
# What happens to a run during its search, and how the command ends.
DURING_SEARCH = {
    **{f"{name}, {do}": (WORKER_FILES[name], do, code)
       for name in WORKER_FILES for do, code in (("kill", 0), ("full", 2))},
    "checkpoint, driver": (WORKER_FILES["checkpoint"], "kill driver", KILLED),
    "checkpoint, both": (WORKER_FILES["checkpoint"], "kill both", KILLED),
    "metrics, both": (WORKER_FILES["metrics"], "kill both", KILLED),
    "study, driver": (STUDY, "kill", KILLED),
    "study, disk": (STUDY, "full", 2),
    "clock, disk": (("*/clock.json.new", [1]), "full", 2),
    "SIGINT": (WORKER_FILES["checkpoint"], "SIGINT", 3),
    "SIGTERM": (WORKER_FILES["checkpoint"], "SIGTERM", 3),
    "SIGUSR1": (WORKER_FILES["checkpoint"], "SIGUSR1", 3),
}  # fmt: skip


@pytest.mark.all
@pytest.mark.parametrize("case", DURING_SEARCH)
def test_a_fault_during_the_search_leaves_the_run_of_none(
    case: str, whole: RunDir, tmp_path: Path, task4_folder: Path
) -> None:
    """At a random moment: each case has its own, always the same."""
    (file, moments), do, code = DURING_SEARCH[case]
    nth = int(np.random.default_rng(list(case.encode())).choice(moments))
    run = RunDir(tmp_path / "runs" / "it")
    done = faulty(tmp_path, start(task4_folder), fault(file, nth, do))
    assert done.code == code, done.output
    assert "Traceback" not in done.output
    if case == "clock, disk":  # before the first trial
        assert not run.study.exists()
    else:
        assert_whole_journal(run, torn=case == "study, driver")
    if code == 3:
        assert_interrupted(done, run, nth)
    if code != 0:
        done = faulty(tmp_path, RESUME)
    assert done.code == 0, done.output
    assert repeated(run) <= (0 if code == 3 else 1)
    assert openings(run) == 1
    assert_equal_to(whole, run)


@pytest.mark.all
def test_a_sweep_whose_trials_all_diverge_says_the_first_cause(
    tmp_path: Path, task4_folder: Path
) -> None:
    arguments = start(task4_folder, "--trials", "2", "--set", "training.learning_rate=1e30")
    done = faulty(tmp_path, arguments)
    assert_one_message(done, "no trial of", "completed. The first cause: the loss is", "in epoch 1")
    states = [trial["state"] for trial in read_json(RunDir(tmp_path / "runs/it").results)["trials"]]
    assert states == ["diverged", "diverged"]


@pytest.mark.all
def test_the_search_ends_at_its_share_of_the_time_budget(
    tmp_path: Path, task4_folder: Path
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    done = faulty(tmp_path, start(task4_folder, "--trials", "60", "--time-budget", "20s"))
    assert done.code == 0, done.output
    trials = read_json(run.results)["trials"]
    assert trials[0]["state"] == "complete"
    assert len(trials) < 60
    assert trials[-1]["state"] in ("stopped", "complete")
    assert read_json(run.clock)["seconds"] > 0
    assert (run.report / "index.html").exists()
