"""Runs as a driver leaves them, and what MLflow shows of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import Plan, Resources
from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.plan.stage import StageSettings
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search
from orchestrator.tracking.about import label
from orchestrator.tracking.client import tracking_uri
from orchestrator.tracking.experiment import experiment_name
from search_spaces import Parameter
from systems.budget import Budget

STEPS = 4
SYSTEM = "gcrnn_vat/gcrnn_vat"


def make_plan(name: str, **changes: Any) -> Plan:
    plan = Plan(
        name=name,
        run_id=f"id-of-{name}",
        created="2026-01-02T03:04:05+0000",
        system=SYSTEM,
        dataset="synthetic",
        data=None,
        fingerprint="f00d",
        classes=("Speech", "Cat / dog: 100 %"),
        parts={},
        splits={"protocol": "official", "searched": 1, "digest": "d1", "folds": [[8, 4]]},
        metric="clip_macro_f1",
        space=(Parameter("lr", "float", 1e-4, 1e-1, log=True),),
        config={"lr": 1e-3, "front_end": {"bands": 64}},
        first_trial={"lr": 1e-3},
        moved={},
        budget=Budget("quick"),
        scaled={"epochs": (50, 4)},
        trials=4,
        seed=1,
        sampler=SamplerSettings(1, 3),
        halving=HalvingSettings(1),
        resources=Resources(1, 1, 0.5),
        stage=StageSettings(("logreg",), top_k=2),
        transductive=False,
        mlflow=None,
        versions={"torch": "2.11.0"},
        git_commit="c0ffee",
    )
    return replace(plan, **changes)


def make_run(root: Path, name: str, trials: int = 4, steps: int = STEPS, **changes: Any) -> RunDir:
    """A run of which trials are complete, stopped, failed, complete ... and the last one runs."""
    run, plan = RunDir(root / name), make_plan(name, **changes)
    run.write_plan(plan)
    search = open_search(run, plan)
    for number in range(trials):
        search.ask()
        run.trial(number).begin_attempt({"device": "cpu"})
        write_json(run.trial(number).config, {"params": {}})
        add_steps(run, search, number, range(1, steps + 1))
        if number == trials - 1:
            continue
        if number % 3 == 0:
            search.complete(number, 0.1 * steps + number / 1000)
        elif number % 3 == 1:
            search.stop(number)
        else:
            search.fail(number, "OutOfMemoryError: it was too large")
    return run


def open_search(run: RunDir, plan: Plan) -> Search:
    return Search(run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial)


def add_steps(run: RunDir, search: Search, number: int, steps: range) -> None:
    for step in steps:
        value = 0.1 * step + number / 1000
        loss = float("nan") if step == 2 else 1 / step
        metrics = {"loss": loss, "clip_macro_f1": value, "seconds": 0.5}
        run.trial(number).append_metrics(0, step, metrics)
        search.report(number, step, value)


def add_results(run: RunDir) -> None:
    """What comes after the search: a meta-learner, the scores of the test part, the report."""
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    stack = {
        "name": "logreg", "metric": "clip_macro_f1", "members": [0, 3], "parameters": {"C": 1.0},
        "seconds": 2.0,
        "out_of_fold": interval, "versus_best": {**interval, "p_not_better": 0.25},
    }  # fmt: skip
    write_json(run.stack("logreg") / "scores.json", stack)
    scores = {
        "who": "trial 0, refitted", "trial": 0, "learner": None, "variant": "no refinement",
        "best": True, "transductive": False,
        "metrics": {"clip_macro_f1": interval, "event_er": {**interval, "high": float("inf")}},
        "classes": {"Cat / dog: 100 %": {"clip_f1": 0.7, "event_f1": None}},
    }  # fmt: skip
    refined = {**scores, "variant": "refined", "transductive": True}
    (run.stack("logreg") / "test.npz").write_bytes(b"scores of the test part")
    predictions = run.trial(0).test_predictions("no refinement")
    predictions.parent.mkdir(parents=True, exist_ok=True)
    predictions.write_bytes(b"predictions of the test part")
    learner = {**scores, "trial": None, "learner": "logreg", "variant": None, "best": False}
    write_json(run.members, {"members": [{"trial": 0}, {"trial": 3}]})
    results = {
        "trials": [{"number": 0, "value": 0.1 * STEPS, "interval": [0.3, 0.5]}],
        "test": {"rows": [scores, refined, learner]},
    }
    run.results.write_text(json.dumps(results))  # as of a version that wrote infinity
    run.report.mkdir(exist_ok=True)
    (run.report / "index.html").write_text("<html>1</html>")


def read_store(run: RunDir) -> tuple[Any, dict[str, Any]]:
    """The store's client, and all of the run's MLflow runs by name."""
    from mlflow import MlflowClient

    plan = run.plan
    client = MlflowClient(tracking_uri=tracking_uri(run))
    experiment = client.get_experiment_by_name(experiment_name(plan))
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`soundsweep.run_id` = '{plan.run_id}'"
    )
    runs = {one.info.run_name.removeprefix(label(plan)).strip() or "run": one for one in found}
    assert len(runs) == len(found), "a run is there twice"
    return client, runs


def forget(run: RunDir) -> None:
    """Nothing is known of what was sent: as after a kill before the end of the sync."""
    (run.path / "tracking.json").unlink()


def history(client: Any, run: Any) -> dict[str, list[tuple[int, int, float]]]:
    points = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: [(m.step, m.timestamp, m.value) for m in value] for key, value in points.items()}


def snapshot(run: RunDir) -> Any:
    client, runs = read_store(run)
    return {
        name: (one.info.status, one.info.start_time, one.info.end_time, one.data.params,
               one.data.tags, history(client, one))
        for name, one in runs.items()
    }  # fmt: skip
