"""The search of meta-learners' settings: nested, a function of its seed, and resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacked

from orchestrator.plan.plan import Resources
from orchestrator.plan.stage import Manner
from orchestrator.runs.files import read_json
from orchestrator.stacking import search
from orchestrator.stacking.families import kind_of, learners, load_learner
from search_spaces import BEST_MEMBERS, learner_space
from search_spaces.space import _sections
from systems.errors import UserError

NOBODY: Any = type("Nobody", (), {"check": lambda self: None, "requested": False})()


class Killed(Exception):
    pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials run in this process, one after another; [n] of the list kills before trial n."""
    kill: list[int] = []

    def sweep(bench: Any, study: Any, trials: int, *rest: Any) -> None:
        while study.running() or study.asked() < trials:
            running = study.running()
            number, params = study.adopt(running[0]) if running else study.ask()
            if number in kill:
                kill.remove(number)
                raise Killed
            found = search.outcome(bench, number, params)
            if found["outcome"] == "complete":
                study.complete(number, found["value"])
            else:
                study.fail(number, found["cause"])

    monkeypatch.setattr(search, "_sweep", sweep)
    return kill


def searched(folder: Path, name: str, data: stacked.Set, trials: int = 8) -> Any:
    return search.searched(folder, name, kind_of(name).Settings(), Manner(), *data, 3, trials, True,
                           Resources(1, 1, 0), NOBODY, NOBODY, None)  # fmt: skip


def test_every_learner_of_the_yaml_is_one_and_its_defaults_lie_inside() -> None:
    sections = _sections("stacking")
    assert set(sections) <= set(learners())
    for name in sections:
        space = learner_space(name, kind_of(name).Settings(), 5)
        assert space is not None
        for parameter in space.parameters:
            assert parameter.key != BEST_MEMBERS or parameter.high == 5
        alone = learner_space(name, kind_of(name).Settings(), 1)
        assert alone is None or all(p.key != BEST_MEMBERS for p in alone.parameters)
    assert learner_space("lstm", kind_of("lstm").Settings(), 3) is not None
    with pytest.raises(UserError, match="unknown key 'C'"):
        learner_space("logreg", kind_of("power").Settings(), 3)


@pytest.mark.usefixtures("here")
def test_the_best_settings_and_members_are_found_and_kept(tmp_path: Path) -> None:
    data = stacked.one_good(0)
    found = searched(tmp_path / "search", "mean", data, trials=12)
    trials = read_json(tmp_path / "search" / "trials.json")
    best = max(trials, key=lambda trial: trial["value"])
    assert best["params"]["members.best"] == found.parameters()["members.best"] < 6
    assert trials[0]["params"]["members.best"] == 6, "the first trial has all members"
    members, targets = data
    assert targets.worth(found.predict(members)) > targets.worth(members.scores.mean(axis=1))
    found.save(tmp_path / "fitted")
    loaded = load_learner(tmp_path / "fitted")
    np.testing.assert_array_equal(loaded.predict(members), found.predict(members))
    assert loaded.parameters() == found.parameters()


@pytest.mark.usefixtures("here")
def test_weights_are_of_all_members(tmp_path: Path) -> None:
    found = searched(tmp_path / "search", "simplex", stacked.one_good(0))
    weights = found.weights()["members"]
    assert len(weights) == 6
    assert sum(weights) == pytest.approx(1)


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path, here: list[int]) -> None:
    data = stacked.one_good(1)
    whole = searched(tmp_path / "whole", "power", data)
    here.append(3)
    with pytest.raises(Killed):
        searched(tmp_path / "killed", "power", data)
    again = searched(tmp_path / "killed", "power", data)
    assert again.state() == whole.state()
    trials = [read_json(tmp_path / one / "trials.json") for one in ("whole", "killed")]
    assert trials[0] == trials[1]


@pytest.mark.usefixtures("here")
def test_a_search_sees_the_rows_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    fit, test = stacked.halves(stacked.one_good(2))
    first = searched(tmp_path / "one", "logreg", fit).state()
    test[1].values[:] = 1 - test[1].values  # rows that it does not get
    assert searched(tmp_path / "two", "logreg", fit).state() == first


@pytest.mark.usefixtures("here")
def test_values_that_cannot_be_fitted_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*about: Any) -> float:
        raise UserError("no such luck")

    monkeypatch.setattr(search.Bench, "worth", refuse)
    with pytest.raises(UserError, match="no trial of its search completed: UserError: no such"):
        searched(tmp_path / "search", "power", stacked.noisy(0, clips=60), trials=2)
