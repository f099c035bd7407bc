"""Faults of processes, disks and clocks, injected into the real command (tests/faults).

Whatever happened, a resumed run must equal the uninterrupted one to the last digit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from command import PATIENCE, SEARCH, on_data, wait_until
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from test_run import fingerprint_of_run

from orchestrator.console.interrupts import SIGNALS, Stop
from orchestrator.console.progress import Progress
from orchestrator.pipeline import way as job
from orchestrator.plan.options import Changes
from orchestrator.plan.plan import Plan
from orchestrator.planning.changes import changed
from orchestrator.planning.duration import parse_duration
from orchestrator.runs.clock import Clock
from orchestrator.runs.files import append_line, disk_is_full, read_json, read_lines, write_json
from orchestrator.runs.rundir import RunDir, TrialDir
from orchestrator.search import sweep
from orchestrator.search.on_tune import StudyScheduler, StudySearcher
from orchestrator.search.referee import Referee
from orchestrator.search.study import Search, cause_of, state_name
from orchestrator.training.job import Job, tell_nobody
from orchestrator.training.trial import cause_in_words, run_trial
from orchestrator.training.workers import _failure
from systems.errors import Diverged, UserError

FAULTS = Path(__file__).parent / "faults"
RESUME = ("run", "--resume", "it", "--storage", "runs")
CHECKPOINT = "*/trials/*/checkpoint.pt.new"
KILLED = -signal.SIGKILL


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    output: str


def faulty(cwd: Path, arguments: tuple[str, ...], *faults: dict[str, Any]) -> Done:
    """Run the command with these faults; its output goes to a file, which no orphan holds open."""
    number = len(list(cwd.glob("faults*.json")))
    plan, output = cwd / f"faults{number}.json", cwd / f"output{number}.txt"
    plan.write_text(json.dumps(faults))
    paths = [str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(output, "w") as file:
        code = subprocess.run(
            [sys.executable, "-m", "orchestrator.run", *arguments], cwd=cwd, stdout=file,
            stderr=subprocess.STDOUT, timeout=PATIENCE, check=False, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths),
                 "SOUNDSWEEP_FAULTS": str(plan)},
        ).returncode  # fmt: skip
    return Done(code, output.read_text())


def start(data: Path, *more: str) -> tuple[str, ...]:
    """The arguments of a run like ``whole``."""
    return ("run", *on_data(data, "--name", "it", *SEARCH, *more))


def fault(file: str, nth: int, do: str, **more: Any) -> dict[str, Any]:
    return {"file": file, "nth": int(nth), "do": do, **more}


def epochs(run: RunDir) -> Counter[str]:
    """How many epochs are on record of each training: its folder in the run -> epochs."""
    found: Counter[str] = Counter()
    for trial in run.trials():
        found.update(f"{trial.path.name}/fold{line['fold']}" for line in trial.read_metrics())
        if trial.refit_metrics.exists():
            lines = trial.refit_metrics.read_text().splitlines()
            found[f"{trial.path.name}/refit"] = len(lines)
    return found


def saved(run: RunDir) -> list[Path]:
    """Every checkpoint that was begun, in order, over all commands."""
    return list(map(Path, (run.root.parent / "saves.log").read_text().splitlines()))


def repeated(run: RunDir, before: Counter[str] | None = None) -> int:
    """How many saves of an epoch were not its first, of the epochs that were not there before.

    Each epoch ends with a save: as many saves as epochs mean that none was trained twice.
    """
    saves = Counter("/".join(path.parts[-3:-1]) for path in saved(run))
    once = epochs(run) - (before or Counter())
    assert set(saves) == set(once)
    surplus = {training: saves[training] - once[training] for training in once}
    assert min(surplus.values()) >= 0, "an epoch has no checkpoint"
    return sum(surplus.values())


def openings(run: RunDir) -> int:
    return len(run.ledger.read_text().splitlines())


def assert_equal_to(whole: RunDir, run: RunDir) -> None:
    assert fingerprint_of_run(run) == fingerprint_of_run(whole)
    assert epochs(run) == epochs(whole)


def assert_one_message(done: Done, *words: str) -> None:
    """Exit code 2 and one message that says these words, without a traceback."""
    assert done.code == 2, done.output
    assert "Traceback" not in done.output
    message = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(message) == 1, done.output
    assert all(word in message[0] for word in words), message[0]


def assert_whole_journal(run: RunDir, *, torn: bool = False) -> None:
    """Every line is whole, but for the last one where the driver was killed in it."""
    *lines, last = run.study.read_bytes().split(b"\n")
    assert bool(last) == torn
    for line in lines:
        json.loads(line)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder: size in bytes and time of its last change in ns."""
    stats = {path: path.stat() for path in folder.glob("**/*") if path.is_file()}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


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


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """Processes to be ended with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def assert_interrupted(done: Done, run: RunDir, saves: int) -> None:
    """Exit code 3, the report so far, and how to go on; the epoch under way was the last one.

    A signal that comes late lets one more pass.
    """
    assert len(saved(run)) - saves in (0, 1)
    assert done.code == 3, done.output
    assert f"go on with: soundsweep run --resume {run.path}" in done.output
    assert "Traceback" not in done.output
    assert "running" in [trial["state"] for trial in read_json(run.results)["trials"]]
    assert (run.report / "index.html").exists()


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
    assert done.output.count("trial 2 lost its process") == 3
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
    plan = read_json(run.plan)
    plan["splits"]["searched"] = count
    write_json(run.plan, plan)


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


def no_progress() -> Progress:
    return Progress()


class Clocked(NamedTuple):
    """A clock that says whether the time is up."""

    up: bool

    def search_is_over(self) -> bool:
        return self.up

    def beat(self) -> None:
        """Nothing is noted."""


def referee(search: Search, stop: Stop, up: bool) -> Referee:
    return Referee(search, 9, stop, no_progress(), cast(Clock, Clocked(up)))


def epoch(search: Search, number: int, up: bool, **more: Any) -> str:
    """What the scheduler says to an epoch of a trial."""
    scheduler = StudyScheduler(referee(search, Stop(), up))
    result = {"step": 1, "metric": 0.5, "loss": 1.0, **more}
    return scheduler.on_trial_result(None, SimpleNamespace(config={"number": number}), result)


def small_search(path: Path, whole: RunDir) -> Search:
    plan = Plan.from_json(read_json(whole.plan))
    return Search(path, plan.search_space(), plan.sampler, None, plan.first_trial)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers of this process, put back with the end of the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_handler_that_tune_has_put_in_place_is_replaced(
    whole: RunDir, tmp_path: Path, handlers: None
) -> None:
    """Tune's own ends the sweep, and would leave a run that was asked to stop without a word."""
    stop, search = Stop().install(), small_search(tmp_path / "s", whole)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    searcher = StudySearcher(referee(search, stop, up=False))
    assert searcher.suggest("any")["number"] == 0
    os.kill(os.getpid(), signal.SIGUSR1)
    assert searcher.suggest("other") == Searcher.FINISHED
    assert stop.requested


def test_out_of_time_the_search_waits_for_one_completed_trial(
    whole: RunDir, tmp_path: Path, handlers: None
) -> None:
    search = small_search(tmp_path / "s", whole)
    search.ask()
    search.ask()
    assert epoch(search, 0, up=True) == TrialScheduler.CONTINUE
    search.complete(0, 0.5)
    assert epoch(search, 1, up=False) == TrialScheduler.CONTINUE
    assert epoch(search, 1, up=True, fold=1) == TrialScheduler.STOP
    assert state_name(search.trials()[1]) == "stopped"
    assert cause_of(search.trials()[1]) == "time budget"
    searcher = StudySearcher(referee(search, Stop(), up=True))
    assert searcher.suggest("any") == Searcher.FINISHED
    assert search.asked() == 2


def test_a_clock_goes_on_where_a_killed_run_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("orchestrator.runs.clock.time.monotonic", lambda: now[0])
    clock = Clock(tmp_path / "clock.json", 60.0)
    now[0] += 11
    clock.beat()
    now[0] += 5  # the kill comes before the next note
    clock.beat()
    later = Clock(tmp_path / "clock.json", 60.0)
    now[0] += 40
    assert later.seconds() == 51
    assert not later.search_is_over()
    now[0] += 9
    assert later.search_is_over()
    assert not Clock(tmp_path / "clock.json", None).search_is_over()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), ("20", 20),
     ("1d", 86400)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0h", "-1h", "1h30", "2 h", "h", "1w", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UserError, match="--time-budget takes a time such as 2h"):
        parse_duration(text)


def test_all_trials_diverged_is_told_with_the_first_cause(whole: RunDir, tmp_path: Path) -> None:
    """Nothing is left to run, as after a kill before the message."""
    plan = dataclasses.replace(Plan.from_json(read_json(whole.plan)), trials=2)
    run, study = RunDir(tmp_path), small_search(tmp_path / "study.log", whole)
    for cause in ("the loss is nan in epoch 2", "the loss is inf in epoch 1"):
        study.diverge(study.ask()[0], cause)
    clock = Clock(run.clock, None)
    with pytest.raises(UserError, match="The first cause: the loss is nan in epoch 2"):
        sweep.search(run, plan, cast(Job, None), study, Stop(), no_progress(), clock)


def test_more_trials_change_neither_sampler_nor_pruner(whole: RunDir) -> None:
    plan = Plan.from_json(read_json(whole.plan))
    more = changed(plan, Changes(more_trials=45))
    assert more == dataclasses.replace(plan, trials=50)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What a training raises: the outcome, words of its cause, attempts that count.
RAISED: dict[str, tuple[Exception, str, str, int]] = {
    "GPU memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                   "failed", "out of GPU memory: give a trial more of a GPU", 1),
    "loss": (Diverged("the loss is nan in epoch 2"), "diverged", "the loss is nan in epoch 2", 1),
    "user": (UserError("no such clip"), "failed", "no such clip", 1),
    "code": (KeyError("a\nb"), "failed", "KeyError: 'a", 1),
    "permission": (PermissionError(errno.EACCES, "Permission denied"), "failed", "Permission", 1),
    "disk": (FULL, "halted", "Free some space, then resume the run", 0),
}  # fmt: skip


def bare_job(whole: RunDir, run: RunDir) -> Job:
    """What a trial needs that does not come to its training."""
    plan, none = Plan.from_json(read_json(whole.plan)), cast(Any, None)
    return Job(str(run.path), run.generation, plan, (), none, none, (), "cpu")


@pytest.mark.parametrize("case", RAISED)
def test_whatever_a_training_raises_is_an_outcome(
    case: str, whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, outcome, cause, attempts = RAISED[case]

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("orchestrator.training.trial._train_folds", fail)
    with RunDir(tmp_path / "it").drive() as run:
        found = run_trial(bare_job(whole, run), 0, {}, tell_nobody)
    assert found["outcome"] == outcome
    assert cause in found["cause"]
    assert ("traceback" in found) == (case in ("GPU memory", "code", "permission"))
    assert len(run.trial(0).attempts()) == attempts
    assert run.trial(0).result.exists() == (outcome != "halted")


def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    assert read_lines(path) == [{"a": 1}]
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1}, {"a": 3}]


def test_a_trial_that_cannot_keep_its_books_fails(whole: RunDir, tmp_path: Path) -> None:
    with RunDir(tmp_path / "it").drive() as run:
        run.trial(0).path.mkdir(parents=True)
        (run.trial(0).path / "attempts").write_text("no folder")
        found = run_trial(bare_job(whole, run), 0, {}, tell_nobody)
    assert found["outcome"] == "failed"
    assert "attempts" in found["cause"]


def test_a_disk_that_is_full_in_a_worker_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    """It cannot write its failure down; Ray Train tells it within a text."""
    told = RuntimeError(f"[Rank 0] OSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}")
    assert disk_is_full(_failure(tmp_path / "worker_failure.json", told), tmp_path)
    other = RuntimeError("[Rank 0] ValueError: no")
    assert _failure(tmp_path / "worker_failure.json", other) is other


def test_a_kill_cannot_set_the_generation_back(tmp_path: Path, monkeypatch: Any) -> None:
    """The driver file is never empty between two drivers."""
    run = RunDir(tmp_path / "it")
    run.drive().close()
    sizes = []

    def watched(value: Any, **options: Any) -> str:
        sizes.append((run.path / "driver").stat().st_size)
        return dumps(value, **options)

    dumps = json.dumps
    monkeypatch.setattr("orchestrator.runs.files.json.dumps", watched)
    assert RunDir(run.path).drive().generation == 2
    assert sizes
    assert min(sizes) > 0


def test_out_of_gpu_memory_says_what_to_do() -> None:
    cause = cause_in_words(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert "--gpus-per-trial 1" in cause
    assert "\n" not in cause
