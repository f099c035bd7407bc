"""A storage root, or the data, is somewhere else than when the run was planned."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracked import add_results, make_plan, make_run

from orchestrator.plan.options import Changes
from orchestrator.plan.plan import MemberRef
from orchestrator.planning.changes import changed, refuse_other
from orchestrator.planning.resolve import reload
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import make_client, tracking_uri
from orchestrator.tracking.sync import sync
from systems import data
from systems.errors import UserError


def artifacts(run: RunDir) -> dict[str, set[str]]:
    """The artifacts of each run that MLflow shows, by its name."""
    client = make_client(tracking_uri(run))
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    return {
        shown.info.run_name: {file.path for file in client.list_artifacts(shown.info.run_id)}
        for shown in client.search_runs(experiments)
    }


def test_a_moved_root_takes_its_mlflow_store_along(tmp_path: Path) -> None:
    """What was shown is found at the new place, and new runs write there. What is gone is sent
    again, whatever the tags say."""
    old, new = tmp_path / "a disk", tmp_path / "another" / "disk"
    run = make_run(old, "one")
    add_results(run)
    sync(run)
    before = artifacts(run)
    assert all(before.values())
    shutil.rmtree(old / "mlartifacts")
    sync(run)
    assert artifacts(run) == before
    new.parent.mkdir()
    shutil.move(old, new)

    run = RunDir(new / "one")
    sync(run)
    assert artifacts(run) == before
    second = make_run(new, "two")
    add_results(second)
    sync(second)
    assert len(artifacts(second)) == 2 * len(before)
    assert all(artifacts(second).values())
    assert not old.exists()


def test_runs_that_a_plan_names_move_with_the_root(tmp_path: Path) -> None:
    """Members of a stack, and what a system learns from; a run of elsewhere stays where it is."""
    old, new = tmp_path / "old", tmp_path / "new"
    refs = [MemberRef(str(old / "one"), 3, "paper/system"), MemberRef("/elsewhere/two", 0, "p/s")]
    run = RunDir(old / "stack")
    plan = make_plan("stack", members=tuple(refs), required={"teacher": str(old / "one")})
    run.write_plan(plan)
    assert RunDir(run.path).plan == plan
    shutil.move(old, new)
    moved = RunDir(new / "stack").plan
    assert [ref.run for ref in moved.members] == [str(new / "one"), "/elsewhere/two"]
    assert moved.required == {"teacher": str(new / "one")}


def test_data_that_was_moved_is_named_anew(tmp_path: Path, task4_copy: Path) -> None:
    """Its fingerprint shows that it is the same; other data is refused."""
    plan = make_plan("it", dataset="dcase2018_task4", data=str(task4_copy), **splits_of_plan())
    plan = replace(plan, fingerprint=fingerprint(task4_copy))
    moved = Path(shutil.move(task4_copy, tmp_path / "moved"))
    with pytest.raises(UserError, match="--data PATH"):
        reload(plan)

    refuse_other(plan, {"data": str(moved)})
    there = changed(plan, Changes(data=str(moved)))
    assert there.data == str(moved)
    reload(there)
    next((moved / "dataset" / "audio" / "test").iterdir()).write_bytes(b"another sound")
    with pytest.raises(UserError):
        reload(there)


def fingerprint(folder: Path) -> str:
    return data.load("dcase2018_task4", str(folder), False).fingerprint()


def splits_of_plan() -> dict[str, Any]:
    return {"splits": {"protocol": "grouped folds", "searched": 1, "digest": "d", "folds": []}}
