"""A searched sampling rate: each trial hears the sound at its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inprocess import run_in_process

from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.pipeline.clean import removable
from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan, reload
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems.context import Context
from systems.data.store import open_store
from systems.errors import UserError
from systems.predictions import Predictions

OPTIONS = Options(
    system="fakepaper/tagger", dataset="dcase2018_task4", trials=4, budget="paper", top_k=2,
    stack="mean", name="rates", space={"front_end.rate": "one-of:8000,16000"},
)  # fmt: skip


@pytest.fixture(scope="module")
def run(task4_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        root = tmp_path_factory.mktemp("runs")
        yield run_in_process(replace(OPTIONS, data=str(task4_folder), storage=str(root)))


def rate_of(run: RunDir, number: int) -> int:
    return int(read_json(run.trial(number).config)["params"]["front_end.rate"])


def test_every_trial_predicts_from_sound_at_its_own_rate(run: RunDir, tmp_path: Path) -> None:
    """Its model, given the sound that is resampled here, says what it said in the run."""
    plan = run.plan
    dataset, splits = reload(plan)
    rates = {number: rate_of(run, number) for number in range(4)}
    assert set(rates.values()) == {8000, 16_000}
    for number, rate in rates.items():
        ids = splits.folds[0].validation
        store = open_store(dataset, ids, rate, tmp_path, map)
        trial = run.trial(number)
        if not trial.predictions(0).exists():
            continue  # stopped early
        config = plan.trial_config(read_json(trial.config)["params"])
        fitted = plan.entry().build(config).load(trial.model(0))
        assert fitted.rate == rate
        said = Predictions.load(trial.predictions(0))
        again = fitted.predict(ids, {"audio": store}, Context())
        assert said.clip_scores is not None
        np.testing.assert_allclose(said.clip_scores, again.clip_scores, atol=1e-6)


def test_files_and_the_test_part_are_heard_alike(run: RunDir, tmp_path: Path) -> None:
    data = Path(str(run.plan.data)) / "dataset" / "audio"
    members = [member["trial"] for member in read_json(run.members)["members"]]
    models = {f"trial:{number}": run.trial(number).refit / "predictions" for number in members}
    for model, folder in {**models, "mean": run.stack("mean")}.items():
        said = Predictions.load(next(folder.glob("test*.npz")))
        predictor = Predictor.load(export(run, tmp_path / model.replace(":", "_"), model=model))
        found = predictor.predict_files([data / clip_id for clip_id in said.clip_ids])
        tags = np.array([list(one.tags.values()) for one in found])
        np.testing.assert_allclose(tags, said.clip_scores, atol=1e-5)


def test_the_stores_of_all_rates_are_kept(run: RunDir) -> None:
    stores = {path.name for path in (run.root / "store").glob("*/")}
    assert len(stores) == 2
    assert removable(run.root) == []
    assert {item.path.name for item in removable(run.root, stores=True)} == stores


def test_a_rate_that_is_searched_over_a_range_is_refused_in_the_plan(
    run: RunDir, task4_folder: Path
) -> None:
    asked = replace(
        OPTIONS, data=str(task4_folder), space={"front_end.rate": "int:8000:16000:4000"}
    )
    with pytest.raises(UserError, match=r"front_end\.rate=one-of:8000,16000"):
        make_plan(asked)
