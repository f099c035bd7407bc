"""Bundles as models of MLflow."""

from __future__ import annotations

import contextlib
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.models.bundle import export
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

MODEL = "model"  # name of each logged model below its run
REQUIREMENTS = ("soundsweep", "mlflow", "torch", "numpy", "scikit-learn", "librosa", "soundfile",
                "soxr", "safetensors")  # fmt: skip


def save_model(run: RunDir, model: str, folder: Path, run_id: str, logged: Any) -> Path:
    """The bundle of a model as MLflow's folder of a model made from code."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    bundle = export(run, folder / "bundle", model=model)
    classes = read_json(bundle / "bundle.json")["classes"]
    # The input has no name: then a list of paths will do as well as a frame.
    outputs = [ColSpec("string", "path"), *(ColSpec("double", name) for name in classes)]
    signature = ModelSignature(
        Schema([ColSpec("string")]), Schema([*outputs, ColSpec("string", "events")])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses an example, for which there is no audio
        mlflow.pyfunc.save_model(
            str(folder / MODEL),
            python_model=str(Path(__file__).parents[1] / "models" / "pyfunc_model.py"),
            artifacts={"bundle": str(bundle)},
            signature=signature,
            pip_requirements=_requirements(),
            model_config={"device": "cpu"},
            mlflow_model=Model(
                artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id
            ),
        )
    return folder / MODEL


def _requirements() -> list[str]:
    found = []
    for name in REQUIREMENTS:
        with contextlib.suppress(PackageNotFoundError):  # a checkout that is not installed
            found.append(f"{name}=={version(name)}")
    return found
