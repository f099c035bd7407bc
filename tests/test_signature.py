"""What of a plan counts for what."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from tracked import make_plan

from orchestrator.plan.plan import Plan
from orchestrator.plan.signature import FIELDS, TRAINED, differing
from orchestrator.plan.stage import StageSettings
from orchestrator.runs.files import read_json, write_json


def test_each_field_of_a_plan_counts_for_one_thing() -> None:
    counted = [name for names in FIELDS.values() for name in names]
    assert sorted(counted) == sorted(field.name for field in fields(Plan))


def test_what_is_trained_differs_by_seed_and_by_what_predicts_but_not_by_learners() -> None:
    plan = make_plan("one")
    assert differing(plan, replace(plan, name="two", mlflow="none"), *TRAINED, "stage") == []
    assert differing(plan, replace(plan, seed=7), *TRAINED) == ["seed"]
    other = replace(plan, stage=replace(plan.stage, learners=("mean",)))
    assert differing(plan, other, *TRAINED) == []
    assert differing(plan, other, *TRAINED, "stage") == ["stage"]
    folds = replace(plan, stage=replace(plan.stage, final="fold_mean"))
    assert differing(plan, folds, *TRAINED) == ["final"]


@pytest.mark.parametrize("stage", [StageSettings(), StageSettings(
    ("power",), final="fold_geometric", row_weights={"verified": {"0": 0.5}},
    parts=({"name": "x", "places": [0], "learner": None},), settings={"power": {"r": 3.0}},
)])  # fmt: skip
def test_a_plan_survives_its_file(stage: StageSettings, tmp_path: Path) -> None:
    plan = make_plan("one", stage=stage)
    path = tmp_path / "plan.json"
    write_json(path, plan.to_json())
    assert Plan.from_json(read_json(path)) == plan
