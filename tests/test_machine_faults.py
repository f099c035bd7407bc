"""What is wrong with the machine is no trial's failure, and a lost process has a cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from test_failures import bare_job
from test_stopping import small_search

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import IN_PROCESS
from orchestrator.runs.clock import Clock
from orchestrator.runs.files import append_line
from orchestrator.runs.rundir import RunDir
from orchestrator.search import last_words as words
from orchestrator.search import sweep
from orchestrator.search.referee import SAME, Referee
from orchestrator.search.study import cause_of, state_name
from systems.errors import UserError

Training = Callable[[int, Any], dict[str, Any]]  # number, report -> outcome


class Searched:
    """Searches of one run without Ray; what trains is told each time."""

    def __init__(self, path: Path, whole: RunDir, patch: pytest.MonkeyPatch, trials: int) -> None:
        self.run, self.patch, self.whole = RunDir(path / "it"), patch, whole
        self.run.path.mkdir()
        self.run.plan = dataclasses.replace(whole.plan, trials=trials, ray_address=IN_PROCESS)
        self.study = small_search(self.run.study, whole)

    def search(self, train: Training) -> None:
        def train_folds(job: Any, trial: Any, params: Any, report: Any) -> dict[str, Any]:
            return train(trial.number, report)

        self.patch.setattr("orchestrator.training.trial._train_folds", train_folds)
        with self.run.drive() as run:
            clock = Clock(run.clock, None)
            sweep.search(run, bare_job(self.whole, run), self.study, Stop(), Progress(), clock)

    def states(self) -> list[str]:
        return [state_name(trial) for trial in self.study.trials()]


def works(number: int, report: Any) -> dict[str, Any]:
    report({"step": 1, "metric": 0.5, "loss": 1.0})
    return {"outcome": "complete", "value": 0.5, "interval": [0, 1], "best_steps": [1]}


def fails(number: int, report: Any) -> dict[str, Any]:
    raise KeyError(f"getpwuid(): uid not found: 1234{number}")


def fails_later(number: int, report: Any) -> dict[str, Any]:
    report({"step": 1, "metric": 0.5, "loss": 1.0})
    raise ValueError("a fault of the trial")


@pytest.mark.parametrize("trials", [1, 2, 8])
def test_one_error_at_every_first_step_halts_the_search(
    trials: int, whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk does: trials stay running, no attempt counts, and resuming goes on."""
    searched = Searched(tmp_path, whole, monkeypatch, trials)
    for _ in range(2):  # however often
        with pytest.raises(UserError, match="uid not found"):
            searched.search(fails)
        assert searched.states() == ["running"] * min(trials, SAME)
        assert not any(trial.attempts() for trial in searched.run.trials())
        assert not any(trial.result.exists() for trial in searched.run.trials())
    searched.search(works)
    assert searched.states() == ["complete"] * trials


def test_a_trial_that_alone_fails_has_failed(
    whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Searched(tmp_path, whole, monkeypatch, 4)
    searched.search(lambda number, report: (fails if number < 2 else works)(number, report))
    assert searched.states() == ["failed", "failed", "complete", "complete"]
    assert "uid not found" in str(cause_of(searched.study.trials()[0]))
    assert len(searched.run.trial(0).attempts()) == 1


def test_what_a_resumed_trial_tells_again_is_no_sign_of_life(
    whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began on a machine that worked, and goes on where nothing does."""
    searched = Searched(tmp_path, whole, monkeypatch, 8)
    number, _ = searched.study.ask()
    searched.study.report(number, 1, 0.5)
    searched.run.trial(number).path.mkdir(parents=True)
    metric = searched.run.plan.metric
    line = {"fold": 0, "step": 1, "time": 0.0, metric: 0.5, "loss": 1.0}
    append_line(searched.run.trial(number).metrics, line)
    with pytest.raises(UserError, match="uid not found"):
        searched.search(fails)
    assert searched.states() == ["running"] * SAME


def test_failures_after_the_first_epoch_are_the_trials_own(
    whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Searched(tmp_path, whole, monkeypatch, 4)
    with pytest.raises(UserError, match="a fault of the trial"):
        searched.search(fails_later)
    assert searched.states() == ["failed"] * 4


def test_processes_that_are_lost_at_once_halt_the_search_with_their_last_words(
    whole: RunDir, tmp_path: Path
) -> None:
    stop, study = Stop(), small_search(tmp_path / "study.log", whole)
    referee = Referee(study, 8, stop, Progress(), cast(Clock, None))
    for number in range(SAME):
        assert stop.cause is None
        study.ask()
        referee.lost(number, f"its last lines: {number} is my own soundfile.py")
        referee.gave_up(number)
    assert "my own soundfile.py" in str(stop.cause)
    assert study.running() == [0, 1, 2]


class Node:
    def __init__(self, logs: Path) -> None:
        self.logs = logs

    def get_logs_dir_path(self) -> str:
        return str(self.logs)


def test_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = (
        'ray::_Inner.train() (pid=77, ip=10.0.0.1)\n  File "x.py", line 3, in read\n'
        "ImportError: this is my own soundfile.py\n"
    )
    assert words.last_words(raised) == "ImportError: this is my own soundfile.py"
    gone = "The actor 94 is unavailable: The actor is temporarily unavailable: RPC error."
    assert words.last_words(gone) == "its node was lost, or the connection to it"
    died = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: ImplicitFunc\n"
        "\tpid: 4242\n\tip: 10.0.0.1\nThe actor is dead because its worker process has died. "
        "Worker exit type: SYSTEM_ERROR Worker exit detail: ...\n"
    )
    monkeypatch.setattr(words.ray._private.worker, "_global_node", Node(tmp_path))
    assert "without a word" in words.last_words(died)
    log = tmp_path / "worker-ab12-01000000-4242.err"
    warning = "/a/b.py:97: UserWarning: it is not writable.\n  return torch.from_numpy(x)\n"
    log.write_text(f":job_id:01000000\n{warning}")
    assert "without a word" in words.last_words(died)
    log.write_text(
        f":job_id:01000000\na\n{warning}\nFatal Python error: Segmentation fault\nin read\n"
    )
    (tmp_path / "worker-ab13-01000000-4243.err").write_text("another's\n")
    said = words.last_words(died)
    assert "Fatal Python error: Segmentation fault | in read" in said
    assert ":job_id:" not in said
    assert "Warning" not in said
    assert "another's" not in said
