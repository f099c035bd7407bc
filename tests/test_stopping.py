"""What ends a search: signals, its time, its trials."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from orchestrator.console.interrupts import SIGNALS, Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.options import Changes
from orchestrator.plan.plan import Resources
from orchestrator.planning.changes import changed
from orchestrator.planning.duration import parse_duration
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.search import sweep
from orchestrator.search.on_tune import StudyScheduler, StudySearcher
from orchestrator.search.places import Places
from orchestrator.search.referee import Referee
from orchestrator.search.study import Search, cause_of, state_name
from orchestrator.training.job import Job
from systems.errors import UserError


class Clocked(NamedTuple):
    """A clock that says whether the time is up."""

    up: bool

    def search_is_over(self) -> bool:
        return self.up

    def beat(self) -> None:
        """Nothing is noted."""


def referee(search: Search, stop: Stop, up: bool) -> Referee:
    return Referee(search, 9, stop, Progress(), cast(Clock, Clocked(up)))


def places() -> Places:
    return Places(Resources(2, 1, 0), "local", Progress())


def epoch(search: Search, number: int, up: bool, **more: Any) -> str:
    """What the scheduler says to an epoch of a trial."""
    scheduler = StudyScheduler(referee(search, Stop(), up), places())
    result = {"step": 1, "metric": 0.5, "loss": 1.0, **more}
    return scheduler.on_trial_result(None, SimpleNamespace(config={"number": number}), result)


def small_search(path: Path, whole: RunDir) -> Search:
    plan = whole.plan
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
    searcher = StudySearcher(referee(search, stop, up=False), places())
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
    searcher = StudySearcher(referee(search, Stop(), up=True), places())
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
    run, study = RunDir(tmp_path), small_search(tmp_path / "study.log", whole)
    run.plan = dataclasses.replace(whole.plan, trials=2)
    for cause in ("the loss is nan in epoch 2", "the loss is inf in epoch 1"):
        study.diverge(study.ask()[0], cause)
    clock = Clock(run.clock, None)
    with pytest.raises(UserError, match="The first cause: the loss is nan in epoch 2"):
        sweep.search(run, cast(Job, None), study, Stop(), Progress(), clock)


def test_more_trials_change_neither_sampler_nor_pruner(whole: RunDir) -> None:
    plan = whole.plan
    more = changed(plan, Changes(more_trials=45))
    assert more == dataclasses.replace(plan, trials=50)
