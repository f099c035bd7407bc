"""What fusing adds to a learner that betters a single member too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stacked
from stacked import Set

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.rows import OutOfFold, members_of
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.stage import fit_one


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = make_plan(Options(max_epochs=1, trials=2, gpus_per_trial=0.0, name="by-fusing"))[0]
    return replace(made, metric="clip_macro_f1")


def scores_of(name: str, plan: Plan, data: Set, folder: Path) -> dict[str, dict[str, float]]:
    members, targets = data
    run = RunDir(folder / "run")
    count = len(members.names)
    refs = members_of(run, range(count))
    rows = OutOfFold(refs, replace(members, fold=targets.folds), targets, (1,) * count)
    run.plan = replace(plan, classes=members.classes)
    fit_one(run, rows, name, Stop(), Progress())
    found: dict[str, dict[str, float]] = read_json(run.stack(name) / "scores.json")
    assert [path.name for path in run.stack(name).iterdir() if path.is_dir()] == []
    return found


def low_copies(seed: int) -> Set:
    """Copies of one member whose best bounds lie far below 0.5: nothing is gained by fusing."""
    members, targets = stacked.copies(seed)
    return replace(members, scores=members.scores**4), targets


@pytest.mark.parametrize("name", ["exact", "logreg"])
def test_of_copies_all_is_the_thresholds(name: str, plan: Plan, tmp_path: Path) -> None:
    scores = scores_of(name, plan, low_copies(3), tmp_path)
    assert scores["versus_best"]["low"] > 0
    assert scores["by_fusing"]["low"] <= 0 <= scores["by_fusing"]["high"]
    assert abs(scores["by_fusing"]["value"]) < 0.2 * scores["versus_best"]["value"]


@pytest.mark.parametrize("name", ["exact", "logreg"])
def test_of_members_that_complement_each_other_fusing_has_its_part(
    name: str, plan: Plan, tmp_path: Path
) -> None:
    members, targets = stacked.noisy(0)
    low = replace(members, scores=members.scores**4), targets
    scores = scores_of(name, plan, low, tmp_path)
    assert scores["by_fusing"]["low"] > 0
    assert scores["by_fusing"]["value"] < scores["versus_best"]["value"]


def test_where_one_member_is_left_as_it_is_nothing_is_told_apart(
    plan: Plan, tmp_path: Path
) -> None:
    assert scores_of("mean", plan, stacked.noisy(0), tmp_path)["by_fusing"] is None


def test_events_are_compared_as_events(plan: Plan, tmp_path: Path) -> None:
    members, targets = stacked.timed(0)
    scores = scores_of("exact_events", plan, (members, targets), tmp_path)
    assert np.isfinite(scores["by_fusing"]["value"])
    alone = scores_of("exact_events", plan, (members.only([0]), targets), tmp_path / "alone")
    gain = scores["out_of_fold"]["value"] - alone["out_of_fold"]["value"]
    assert scores["by_fusing"]["value"] == pytest.approx(gain)
    assert alone["by_fusing"] is None
