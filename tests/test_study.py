"""The search as a function of its history: asking, stopping, and coming back after a kill."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.search.halving import Halving
from orchestrator.search.study import Search, TrialState
from search_spaces import Parameter, SearchSpace
from systems.errors import UserError

SPACE = SearchSpace(
    "clip_macro_f1",
    "max",
    (
        Parameter("x", "float", 0.0, 1.0),
        Parameter("kind", "one_of", choices=("a", "b")),
        Parameter("y", "float", 0.01, 10.0, log=True, when={"kind": "b"}),
    ),
)
PUBLISHED = {"x": 0.25, "kind": "a"}


def open_search(path: Path, halving: HalvingSettings | None = None, **options: Any) -> Search:
    return Search(path, SPACE, SamplerSettings(0, 3), halving, PUBLISHED, **options)


def value(params: dict[str, Any]) -> float:
    return float(params["x"]) + float(params.get("y", 0.0)) / 20


def run_one(search: Search, number: int, params: dict[str, Any]) -> None:
    for step in (1, 2, 3):
        if search.report(number, step, value(params) * step):
            search.stop(number)
            return
    search.complete(number, value(params))


def history(search: Search) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in search.trials()]


def test_published_point_comes_first_and_is_never_stopped(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s", HalvingSettings(1))
    number, params = search.ask()
    assert (number, params) == (0, PUBLISHED)
    other, _ = search.ask()
    search.report(other, 1, 1.0)
    assert not search.report(0, 1, 0.0)


def test_conditional_parameter_only_where_its_condition_holds(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s")
    for _ in range(12):
        number, params = search.ask()
        assert ("y" in params) == (params["kind"] == "b")
        run_one(search, number, params)


@pytest.mark.parametrize("cut", range(72))
def test_reopened_after_a_kill_at_any_record_it_goes_on_as_if_uninterrupted(
    tmp_path: Path, cut: int
) -> None:
    whole = open_search(tmp_path / "whole", HalvingSettings(1))
    while whole.asked() < 10:
        run_one(whole, *whole.ask())

    records = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    kept = records[: 2 + cut]
    (tmp_path / "cut").write_bytes(b"".join(kept) + b'{"op_code": 4, "tr')
    search = open_search(tmp_path / "cut", HalvingSettings(1))
    for number in search.running():
        run_one(search, *search.adopt(number))
    while search.asked() < 10:
        run_one(search, *search.ask())
    assert history(search) == history(whole)


def test_reporting_a_step_again_changes_nothing(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s")
    search.ask()
    search.report(0, 1, 0.5)
    search.report(0, 1, 0.9)
    search.report(0, 2, 0.2)  # the best so far is told
    assert search.trials()[0].intermediate_values == {1: 0.5, 2: 0.5}


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s")
    search.ask()
    search.complete(0, 0.5)
    search.fail(0, "late")
    assert search.trials()[0].state == TrialState.COMPLETE


def test_a_diverged_trial_is_pruned_with_its_cause(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s")
    search.ask()
    search.diverge(0, "the loss is nan in epoch 2")
    trial = search.trials()[0]
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["diverged"] == "the loss is nan in epoch 2"


@pytest.mark.parametrize(
    ("values", "stopped"),
    [([0.5], False), ([0.5, 0.4], True), ([0.5, 0.6], False), ([0.3, 0.2, 0.1, 0.25], False)],
)
def test_halving_keeps_the_best_third_rounded_up(
    tmp_path: Path, values: list[float], stopped: bool
) -> None:
    search = open_search(tmp_path / "s", HalvingSettings(1))
    search.ask()  # the published point, which reports nothing
    decisions = []
    for v in values:
        number, _ = search.ask()
        decisions.append(search.report(number, 1, v))
    assert decisions[-1] is stopped


def test_halving_judges_at_its_rungs_alone_and_always_answers_the_same(tmp_path: Path) -> None:
    settings = HalvingSettings(2, 3)
    assert [step for step in range(1, 20) if settings.is_rung(step)] == [2, 6, 18]
    search = open_search(tmp_path / "s", settings)
    for v in (0.9, 0.1):
        number, _ = search.ask()
        search.report(number, 1, v)
        search.report(number, 2, v)
    pruner, frozen = Halving(settings), search.trials()[1]
    assert [pruner.prune(search.study, frozen) for _ in range(3)] == [True] * 3


def test_reading_a_study_appends_nothing(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s")
    run_one(search, *search.ask())
    before = (tmp_path / "s").read_bytes()
    assert len(open_search(tmp_path / "s", read_only=True).trials()) == 1
    assert (tmp_path / "s").read_bytes() == before


def test_a_failed_append_is_cut_back_and_the_next_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = open_search(tmp_path / "s")
    search.ask()
    before = (tmp_path / "s").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.search.journal.os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        search.report(0, 1, 0.5)
    monkeypatch.undo()
    with pytest.raises(UserError, match="cannot be written"):
        search.report(0, 2, 0.6)
    assert (tmp_path / "s").read_bytes() == before
    assert len(open_search(tmp_path / "s").trials()) == 1


@pytest.mark.parametrize(
    "rate",
    [
        Parameter("learning_rate", "float", 1e-4, 1e4, log=True),
        Parameter("learning_rate", "one_of", choices=(0.001, 1e30)),
    ],
    ids=["log", "one_of"],
)
def test_the_search_learns_where_trainings_diverge(tmp_path: Path, rate: Parameter) -> None:
    """Half of the space diverges: told as failed, two of three later trials would go there."""
    space = SearchSpace("clip_macro_f1", "max", (rate, Parameter("dropout", "float", 0.0, 0.6)))
    start = {"learning_rate": 0.001, "dropout": 0.3}
    search = Search(tmp_path / "s", space, SamplerSettings(0, 10), None, start)
    diverging = []
    while search.asked() < 40:
        number, params = search.ask()
        diverging.append(params["learning_rate"] > 1)
        if diverging[-1]:
            search.diverge(number, "the loss is nan in epoch 1")
        else:
            search.report(number, 1, params["dropout"])
            search.complete(number, params["dropout"])
    assert sum(diverging[:10]) >= 3
    assert sum(diverging[10:]) < 15


def test_more_trials_later_are_those_of_a_longer_run(tmp_path: Path) -> None:
    """Sampler and pruner follow from the settings of the plan, not from how many trials it has."""
    whole = open_search(tmp_path / "whole", HalvingSettings(1))
    while whole.asked() < 10:
        run_one(whole, *whole.ask())
    short = open_search(tmp_path / "short", HalvingSettings(1))
    while short.asked() < 6:
        run_one(short, *short.ask())
    more = open_search(tmp_path / "short", HalvingSettings(1))
    assert history(more) == history(whole)[:6]
    while more.asked() < 10:
        run_one(more, *more.ask())
    assert history(more) == history(whole)


def test_a_decision_asked_again_after_a_kill_is_the_same(tmp_path: Path) -> None:
    """The trial tells its last step again; meanwhile nothing else has come."""
    settings = HalvingSettings(1)
    search = open_search(tmp_path / "s", settings)
    search.ask()
    search.report(0, 1, 0.5)
    decided = {}
    for value in (0.6, 0.1, 0.7, 0.2):
        number, _ = search.ask()
        decided[number] = search.report(number, 1, value)
    assert set(decided.values()) == {True, False}
    again = open_search(tmp_path / "s", settings)
    journal = (tmp_path / "s").read_bytes()
    last = max(decided)
    assert again.report(last, 1, 0.2) is decided[last]
    assert again.report(last, 1, 0.2) is decided[last]
    assert (tmp_path / "s").read_bytes() == journal


def test_the_published_point_is_not_stopped_when_it_tells_its_steps_again(tmp_path: Path) -> None:
    search = open_search(tmp_path / "s", HalvingSettings(1))
    search.ask()
    for value in (0.5, 0.6, 0.7):
        number, _ = search.ask()
        search.report(number, 1, value)
    assert not search.report(0, 1, 0.0)
    assert not open_search(tmp_path / "s", HalvingSettings(1)).report(0, 1, 0.0)
    assert search.report(1, 1, 0.5)  # a worse one than the rest is


class Refusing(io.FileIO):
    """A disk that has no room for a whole record, but for one byte less than half of it."""

    full = True

    def write(self, data: Any) -> int:
        if Refusing.full and len(data) > 1:
            return super().write(memoryview(data)[: len(data) // 2])
        if Refusing.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def refusing_open(path: Any, mode: str, buffering: int = -1) -> Any:
    raw = Refusing(str(path), mode)
    return raw if buffering == 0 else io.BufferedWriter(raw)


def test_what_a_full_disk_refused_is_not_written_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting the journal back makes room; nothing may flow into it when the file is closed."""
    search = open_search(tmp_path / "s")
    search.ask()
    before = (tmp_path / "s").read_bytes()
    monkeypatch.setattr("orchestrator.search.journal.open", refusing_open, raising=False)
    monkeypatch.setattr(Refusing, "full", True)

    def cut_back(path: Path, size: int) -> None:
        Refusing.full = False
        truncate(path, size)

    truncate = os.truncate
    monkeypatch.setattr("orchestrator.search.journal.os.truncate", cut_back)
    with pytest.raises(UserError, match=r"cannot be written: No space left.*resume"):
        search.report(0, 1, 0.5)
    assert (tmp_path / "s").read_bytes() == before


def test_a_study_that_was_killed_in_its_first_line_is_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b'{"op_code": 0, "wor')
    assert open_search(path, read_only=True).trials() == []
    assert path.read_bytes() == b'{"op_code": 0, "wor'
