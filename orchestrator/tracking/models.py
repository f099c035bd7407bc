"""Bundles as models of MLflow."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.models.bundle import export, sources
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.batches import finite
from orchestrator.tracking.names import TAG
from orchestrator.tracking.views import View
from systems.kinds import kind

LOGGED = TAG + "model"  # digest of what a logged model was made from
MODEL = "model"  # name of each logged model below its run
REQUIREMENTS = ("soundsweep", "mlflow", "torch", "numpy", "scikit-learn", "librosa", "soundfile",
                "soxr", "safetensors")  # fmt: skip


class Models:
    """The models of a run directory in MLflow, each below its own run."""

    def __init__(self, client: Any, experiment: str, run: RunDir) -> None:
        self.client, self.experiment, self.run = client, experiment, run

    def put(self, view: View, run_id: str, shown: Mapping[str, str]) -> None:
        """Log a view's model unless it is there as it is now; one of before is put aside.

        Args:
            view: of the run that the model belongs to.
            run_id: that run's id in MLflow.
            shown: its tags. The model's own comes last: what a kill left half done is made anew.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        assert view.model is not None
        digests = [digest_of(path) for path in sources(self.run, view.model)]
        if None in digests:  # cleaned away
            return
        digest = hashlib.sha256(str(digests).encode()).hexdigest()[:32]
        if shown.get(LOGGED) == digest and self._is_there(run_id):
            return
        delete_models(self.client, self.experiment, run_id)
        logged = self.client.create_logged_model(
            self.experiment, MODEL, run_id, view.tags, view.params, model_type="audio tagging"
        )
        with tempfile.TemporaryDirectory() as temporary:
            folder = _save(self.run, view.model, Path(temporary), run_id, logged)
            self.client.log_model_artifacts(logged.model_id, str(folder))
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, 0, logged.model_id, run_id=run_id)
            for name, value in finite(view)[0].items()
            if name.startswith("test/")
        ]
        self.client.log_batch(run_id, metrics, synchronous=True)
        self.client.set_tag(run_id, LOGGED, digest)

    def _is_there(self, run_id: str) -> bool:
        """Whether a run's model is in the store with its files."""
        found = self.client.search_logged_models([self.experiment], f"source_run_id = '{run_id}'")
        return bool(found) and all(
            self.client.list_logged_model_artifacts(model.model_id) for model in found
        )


def delete_models(client: Any, experiment: str, run_id: str) -> None:
    """Put the models of a run aside."""
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        client.delete_logged_model(model.model_id)


def _save(run: RunDir, model: str, folder: Path, run_id: str, logged: Any) -> Path:
    """The bundle of a model as MLflow's folder of a model made from code."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    bundle = export(run, folder / "bundle", model=model)
    about = read_json(bundle / "bundle.json")
    values: list[Any] = [ColSpec("double", name) for name in about["classes"]]
    outputs = [*values, ColSpec("string", "events")]
    if kind(about["label_kind"]).ragged:
        outputs = [ColSpec(Array(DataType.double), n) for n in ("time", *about["classes"])]
    # The input has no name: then a list of paths will do as well as a frame.
    signature = ModelSignature(
        Schema([ColSpec("string")]), Schema([ColSpec("string", "path"), *outputs])
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


def digest_of(path: Path) -> str | None:
    """A digest of a file, or of a folder's files and their names; ``None`` if there is nothing."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(path.parent)}\n{content}\n".encode())
    except FileNotFoundError:  # not written yet, or just being written anew
        return None
    return digest.hexdigest()[:32] if files else None
