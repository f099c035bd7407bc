"""Each system is a citizen of Ray: a trainable by its name, and the loop of a Ray Train worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator
from orchestrator.pipeline.trainables import options_of, train_loop
from systems import config as configs
from systems import registry
from systems.catalogue import catalogue
from systems.context import Context
from systems.errors import UserError

SYSTEMS = ("gcrnn_vat", "gcrnn_vat/gcrnn")


@pytest.fixture(scope="module")
def ray_here() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def tiny(folder: Path, storage: Path) -> dict[str, Any]:
    return {
        "dataset": "dcase2018_task4", "data": str(folder), "storage": str(storage),
        "budget": "quick", "max_epochs": 2, "training.steps_per_epoch": 2,
        "network.recurrent_units": 8,
    }  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_tune_trains_a_system_by_its_name(
    name: str, ray_here: Any, task4_folder: Path, tmp_path: Path
) -> None:
    from ray import tune

    space = {**tiny(task4_folder, tmp_path / "runs"), "network.width": tune.grid_search([4, 8])}
    found = tune.Tuner(
        name, param_space=space, run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"))
    ).fit()
    assert not found.errors
    best = found.get_best_result("clip_macro_f1", "max")
    assert best.metrics is not None
    assert 0 <= best.metrics["clip_macro_f1"] <= 1
    assert len(found) == 2
    assert best.checkpoint is not None
    with best.checkpoint.as_directory() as folder:
        entry = registry.get(name)
        values = json.loads((Path(folder) / "config.json").read_text())
        config = configs.from_dict(type(entry.config), values)
        assert config.network.width == (best.config or {})["network.width"]
        fitted = entry.build(config).load(Path(folder) / "model")
        silence = np.zeros(fitted.length, np.float32)
        assert np.isfinite(fitted.score([silence], Context())[0]).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_is_the_loop_of_a_torch_trainer(
    name: str, ray_here: Any, task4_folder: Path, tmp_path: Path
) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    result = TorchTrainer(
        train_loop(name),
        train_loop_config={**tiny(task4_folder, tmp_path / "runs"), "network.width": 4},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=str(tmp_path / "train")),
    ).fit()
    assert result.error is None
    assert result.metrics is not None
    assert 0 <= result.metrics["clip_macro_f1"] <= 1
    assert result.checkpoint is not None


def test_a_mistyped_key_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"training\.learning_rate"):
        options_of("gcrnn_vat", {"training.learning_rat": 1e-3})


def test_every_system_has_a_name() -> None:
    names = catalogue().names()
    for entry in registry.entries():
        assert entry.address in names
        assert (entry.paper in names) or not entry.is_main


def test_importing_it_changes_no_environment_and_loads_no_network() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import orchestrator; "
        "assert dict(os.environ) == before; "
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules); "
        "orchestrator.launch, orchestrator.compare, orchestrator.train_loop; "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_what_it_offers_is_there() -> None:
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name) is not None
    with pytest.raises(AttributeError):
        _ = orchestrator.lunch  # type: ignore[attr-defined]
