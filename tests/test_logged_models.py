"""Models of MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import wait_until
from scored import PARAMS, clips_of_test

from orchestrator.models.inference import Predictor
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.about import label
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.sync import sync
from orchestrator.tracking.views import read_views

LOAD = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
for address in sys.argv[3:]:
    model = mlflow.pyfunc.load_model(address)
    frame = model.predict(pandas.DataFrame({"path": [sys.argv[2]]}))
    assert frame.equals(model.predict([sys.argv[2]]))
    print("FOUND" + json.dumps(frame.iloc[0].to_dict()))
"""


def load_elsewhere(uri: str, file: Path, *addresses: str) -> list[dict[str, Any]]:
    """What models say about a file in a process of its own, where no pickle may be read."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, uri, str(file), *addresses],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
             "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [json.loads(line.removeprefix("FOUND")) for line in lines if line.startswith("FOUND")]


def logged(run: RunDir, uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """MLflow's runs by name, and its logged models by the run that they belong to."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    plan = run.plan
    experiment = client.get_experiment_by_name(experiment_name(plan))
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = {one.info.run_name.removeprefix(label(plan)).strip() or "run": one for one in found}
    models = client.search_logged_models([experiment.experiment_id])
    assert len({model.source_run_id for model in models}) == len(models)
    return runs, {model.source_run_id: model for model in models}


def add_study(run: RunDir) -> None:
    """The search's memory, which tracking reads the trials from."""
    from orchestrator.search.study import Search

    plan = run.plan
    search = Search(run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial)
    for number in range(len(PARAMS)):
        search.ask()
        search.complete(number, 0.1 * number)


def check_models(run: RunDir, uri: str, bundles: dict[str, Path], file: Path) -> None:
    runs, models = logged(run, uri)
    addresses = {
        "best": runs["run"].data.tags["soundsweep.best_model"],
        **{f: f"runs:/{runs[f'stack {f}'].info.run_id}/model" for f in ("logreg", "genetic")},
    }
    assert addresses["best"] == f"runs:/{runs['trial 00001'].info.run_id}/model"
    assert len(models) == 3
    assert {str(model.status) for model in models.values()} == {"READY"}
    for model, said in zip(addresses, load_elsewhere(uri, file, *addresses.values()), strict=True):
        expected = Predictor.load(bundles[model]).predict_files([file])[0]
        assert said.pop("path") == str(file)
        assert json.loads(said.pop("events")) == [event._asdict() for event in expected.events]
        assert said == pytest.approx(expected.tags)


def test_models_are_logged_once_and_load_without_pickles(
    scored_run: RunDir, bundles: dict[str, Path], task4_folder: Path, tmp_path: Path
) -> None:
    copy = RunDir(Path(shutil.copytree(scored_run.path, tmp_path / "tiny")))
    add_study(copy)
    sync(copy)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert len(logged(copy, uri)[1]) == 2  # the best trial's and the best meta-learner's
    sync(copy, models=["logreg", "genetic"])
    check_models(copy, uri, bundles, clips_of_test(scored_run, task4_folder)[0])

    runs, before = logged(copy, uri)
    (copy.path / "tracking.json").unlink()  # as after a kill: MLflow itself is asked
    sync(copy)
    assert {m.model_id for m in logged(copy, uri)[1].values()} == {
        m.model_id for m in before.values()
    }
    best = runs["trial 00001"]
    value = best.data.metrics["test/clip_macro_f1"]
    shown = {m.key: m.value for m in before[best.info.run_id].metrics}
    assert shown["test/clip_macro_f1"] == value

    _client(uri).delete_tag(best.info.run_id, "soundsweep.model")  # a kill just before it is set
    write_json(copy.scores, {**read_json(copy.scores), "clips": 7})  # makes all models anew
    sync(copy)
    after = logged(copy, uri)[1]
    assert set(after) == set(before)
    assert not {m.model_id for m in after.values()} & {m.model_id for m in before.values()}


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
        return True
    return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A tracking server of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}",
         "--artifacts-destination", str(tmp_path / "artifacts")],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(address))
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.mark.all
def test_models_load_from_a_tracking_server(
    scored_run: RunDir, bundles: dict[str, Path], task4_folder: Path, tmp_path: Path, server: str
) -> None:
    copy = RunDir(Path(shutil.copytree(scored_run.path, tmp_path / "tiny")))
    write_json(copy.plan_file, {**read_json(copy.plan_file), "mlflow": server})
    add_study(copy)
    sync(copy, models=["logreg", "genetic"])
    check_models(copy, server, bundles, clips_of_test(scored_run, task4_folder)[0])


def test_an_unscored_run_has_no_model_in_mlflow(scored_run: RunDir, tmp_path: Path) -> None:
    copy = RunDir(Path(shutil.copytree(scored_run.path, tmp_path / "tiny")))
    add_study(copy)
    copy.scores.unlink()
    shown = read_views(RunDir(copy.path), False)
    assert [view.model for view in shown] == [None] * 6
