"""MLflow shows the run directory: whole, once, and also after it could not be reached."""

from __future__ import annotations

import json
import os
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.plan import Plan, Resources
from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search
from orchestrator.tracking.about import label
from orchestrator.tracking.client import tracking_uri
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.names import SYNCED, metric_name, name_pieces
from orchestrator.tracking.projector import Projector, follow
from orchestrator.tracking.sync import sync
from search_spaces import Parameter
from systems.budget import Budget
from systems.errors import UserError

STEPS = 4
SYSTEM = "gcrnn_vat/gcrnn_vat"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root; its one SQLite store takes seconds to make, so that the tests share it."""
    return tmp_path_factory.mktemp("root")


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
        mode="max",
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
        stack=("logreg",),
        top_k=2,
        transductive=False,
        mlflow=None,
        versions={"torch": "2.11.0"},
        git_commit="c0ffee",
    )
    return replace(plan, **changes)


def make_run(root: Path, name: str, trials: int = 4, steps: int = STEPS, **changes: Any) -> RunDir:
    """A run of which trials are complete, stopped, failed, complete ... and the last one runs."""
    run, plan = RunDir(root / name), make_plan(name, **changes)
    write_json(run.plan, plan.to_json())
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

    plan = Plan.from_json(read_json(run.plan))
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


def test_a_run_is_shown_whole_and_syncing_again_changes_nothing(root: Path) -> None:
    run = make_run(root, "whole")
    add_results(run)

    done = sync(run)
    before = snapshot(run)
    assert sync(run) == done
    assert snapshot(run) == before
    forget(run)
    assert sync(run) == done
    assert snapshot(run) == before

    assert done.children == 5
    assert set(before) == {"run", "stack logreg", *(f"trial {n:05d}" for n in range(4))}
    status = {name: (one[0], one[4]["soundsweep.state"]) for name, one in before.items()}
    assert status == {
        "run": ("KILLED", "interrupted"),  # nothing drives it and trial 3 has no end
        "trial 00000": ("FINISHED", "complete"),
        "trial 00001": ("FINISHED", "stopped"),
        "trial 00002": ("FAILED", "failed"),
        "trial 00003": ("KILLED", "interrupted"),
        "stack logreg": ("FINISHED", "complete"),
    }
    parents = {one[4].get("mlflow.parentRunId") for name, one in before.items() if name != "run"}
    assert parents == {done.parent_run_id}


def test_points_have_the_steps_and_times_of_the_metrics_file(root: Path) -> None:
    run = make_run(root, "points", trials=2)
    sync(run)
    client, runs = read_store(run)

    points = history(client, runs["trial 00000"])
    lines = run.trial(0).read_metrics()
    expected = [(n["step"], int(n["time"] * 1000), n["clip_macro_f1"]) for n in lines]
    assert points["epoch/clip_macro_f1"] == expected
    assert [step for step, _, _ in points["epoch/loss"]] == [1, 3, 4]  # the loss of 2 is no number
    info = runs["trial 00000"].info
    assert info.start_time == int(run.trial(0).attempts()[0]["started"] * 1000)
    assert info.end_time == int(lines[-1]["time"] * 1000)
    assert runs["trial 00000"].data.params == {"system": SYSTEM, "lr": "0.001"}


def test_new_steps_are_added_and_only_they_are(root: Path) -> None:
    run = make_run(root, "grows", trials=2)
    with run.drive():
        sync(run)
        before = snapshot(run)
        search = open_search(run, make_plan("grows"))
        add_steps(run, search, 1, range(STEPS + 1, STEPS + 3))
        with open(run.trial(1).metrics, "a") as file:
            file.write('{"fold": 0, "st')  # just being written
        sync(run)
        after = snapshot(run)

    assert after["run"][0] == after["trial 00001"][0] == "RUNNING"
    assert after["trial 00000"] == before["trial 00000"]
    old, new = before["trial 00001"][5], after["trial 00001"][5]
    assert {key: points[: len(old[key])] for key, points in new.items()} == old
    assert [point[0] for point in new["epoch/clip_macro_f1"]] == list(range(1, STEPS + 3))
    assert run.trial(1).metrics.read_text().endswith('"st')  # another process's file

    search.complete(1, 0.9)
    sync(run, driving=False)
    _, runs = read_store(run)
    assert runs["trial 00001"].info.status == "FINISHED"
    assert runs["trial 00001"].data.metrics["clip_macro_f1"] == 0.9
    assert runs["run"].data.metrics["search/best_trial"] == 1


def test_what_was_killed_in_the_middle_of_a_sync_is_not_sent_twice(root: Path) -> None:
    run = make_run(root, "torn", trials=2)
    sync(run)
    before = snapshot(run)
    client, runs = read_store(run)
    client.set_tag(runs["trial 00000"].info.run_id, SYNCED, "1")  # as if it had not got on
    forget(run)

    sync(run)
    assert snapshot(run) == before


def test_scores_intervals_and_meta_learners(root: Path) -> None:
    run = make_run(root, "scored")
    open_search(run, make_plan("scored")).complete(3, 0.3)
    add_results(run)
    sync(run)
    client, runs = read_store(run)

    parent, trial, stack = runs["run"], runs["trial 00000"], runs["stack logreg"]
    assert parent.info.status == "FINISHED"
    name = metric_name("test_class", "Cat / dog: 100 %", "clip_f1")
    for one in (parent, trial, stack):
        assert one.data.metrics["test/clip_macro_f1"] == 0.5
        assert one.data.metrics["test/clip_macro_f1/low"] == 0.4
        assert one.data.metrics[name] == 0.7
        assert "test/event_er/high" not in one.data.metrics  # infinite
        assert one.data.tags["soundsweep.not_finite.test/event_er/high"] == "inf"
    assert parent.data.metrics["test_transductive_variant/refined/clip_macro_f1"] == 0.5
    assert parent.data.metrics["cost/gpu_seconds"] == 0.5 * 4 * STEPS * 0.5
    assert trial.data.metrics["clip_macro_f1/high"] == 0.5
    assert trial.data.metrics["cost/gpu_seconds"] == 0.5 * STEPS * 0.5
    members = {n: runs[f"trial {n:05d}"].data.tags["soundsweep.member"] for n in range(4)}
    assert members == {0: "true", 1: "false", 2: "false", 3: "true"}
    assert stack.data.params == {"system": SYSTEM, "members": "0,3", "C": "1.0"}
    assert stack.data.metrics["versus_best/p_not_better"] == 0.25
    assert parent.data.params["config/front_end.bands"] == "64"

    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert names == {"plan.json", "results.json", "report"}
    assert parent.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert artifacts(client, trial) == {"config.json", "predictions"}
    assert artifacts(client, trial, "predictions") == {"predictions/test_no_refinement.npz"}
    assert artifacts(client, stack) == {"scores.json", "test.npz"}


def artifacts(client: Any, run: Any, folder: str | None = None) -> set[str]:
    return {artifact.path for artifact in client.list_artifacts(run.info.run_id, folder)}


def test_the_run_and_all_below_it_say_what_was_trained_on_what(root: Path) -> None:
    run = make_run(root, "tagged", trials=2)
    add_results(run)
    sync(run)
    _, runs = read_store(run)
    expected = {
        "system": SYSTEM, "paper": "gcrnn_vat", "dataset": "synthetic",
        "fingerprint": "f00d", "protocol": "official", "git_commit": "c0ffee", "seed": "1",
        "version.torch": "2.11.0", "device": "cpu",
    }  # fmt: skip
    assert set(runs) == {"run", "trial 00000", "trial 00001", "stack logreg"}
    for one in runs.values():
        tags = {key.removeprefix("soundsweep."): value for key, value in one.data.tags.items()}
        assert {key: tags.get(key) for key in expected} == expected, one.info.run_name
    for name in ("run", "trial 00000", "stack logreg"):  # trial 1 has no end yet
        assert {"cost/seconds", "cost/gpu_seconds"} <= set(runs[name].data.metrics)


def test_files_are_uploaded_again_only_when_their_contents_change(root: Path) -> None:
    run = make_run(root, "files", trials=1)
    add_results(run)
    sync(run)
    _, runs = read_store(run)
    uploaded = Path(runs["run"].info.artifact_uri.removeprefix("file://"))
    written = (uploaded / "report" / "index.html").stat().st_mtime_ns

    os.utime(run.report / "index.html")
    sync(run)
    assert (uploaded / "report" / "index.html").stat().st_mtime_ns == written

    (run.report / "index.html").write_text("<html>2</html>")
    sync(run)
    assert (uploaded / "report" / "index.html").read_text() == "<html>2</html>"


def test_more_trials_and_a_meta_learner_that_was_fitted_anew(root: Path) -> None:
    run = make_run(root, "more", trials=2)
    add_results(run)
    sync(run)
    write_json(run.plan, replace(make_plan("more"), trials=30).to_json())
    path = run.stack("logreg") / "scores.json"
    write_json(path, {**read_json(path), "members": [1, 0]})

    sync(run)
    _, runs = read_store(run)
    assert runs["run"].data.tags["soundsweep.trials"] == "30"
    assert runs["stack logreg"].data.params["members"] == "1,0"
    assert len(runs) == 4


def test_names_are_mapped_one_to_one_onto_what_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name

    chance = random.Random(0)
    alphabet = "ab_x20f./\\-: %é猫\u0301\n\U0001f600"
    texts = {"", ".", "..", "_", "_x", "_x_", "_x2f_", "__x2f_", "/", "_x5f_x", " x", "_x20_x41_"}
    texts |= {"".join(chance.choices(alphabet, k=chance.randint(0, 8))) for _ in range(600)}
    pieces = [(one,) for one in texts] + [("test", one, "f1") for one in texts]

    names = [metric_name(*piece) for piece in pieces]
    assert len(set(names)) == len(pieces)
    assert [name_pieces(name) for name in names] == pieces
    for name in names:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]
    assert metric_name("test", "clip_macro_f1") == "test/clip_macro_f1"


def test_names_that_are_too_long_stay_different() -> None:
    one, other = metric_name("a" * 300), metric_name("a" * 301)
    assert one != other
    assert max(len(one), len(other)) <= 250


def closed_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_down_costs_nothing_and_is_made_up_for(root: Path) -> None:
    run = make_run(root, "down", trials=3, mlflow=closed_port())
    add_results(run)
    with pytest.raises(UserError, match=r"soundsweep sync .*down") as caught:
        sync(run)
    assert "secret" not in str(caught.value)

    with Projector(run, interval=0.2) as projector:
        pass
    assert projector.problem is not None
    assert "soundsweep sync" in projector.problem
    assert "secret" not in projector.problem + projector.log.read_text()
    assert "\n" not in projector.problem

    write_json(run.plan, {**read_json(run.plan), "mlflow": None})
    assert sync(run).children == 4
    _, runs = read_store(run)
    assert len(runs) == 5


def test_the_following_process_ends_with_the_pipe_after_a_last_sync(root: Path) -> None:
    run = make_run(root, "follow", trials=2)
    end, pipe = os.pipe()
    os.close(pipe)
    with open(end, "rb") as stream:
        assert follow(run, pipe=stream) == 0
    _, runs = read_store(run)
    assert len(runs) == 3


def test_a_projector_that_cannot_start_only_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(root, "no start", trials=1)
    monkeypatch.setattr("sys.executable", str(root / "missing"))
    with Projector(run) as projector:
        pass
    assert projector.problem is not None
    assert "soundsweep sync" in projector.problem


def test_a_plan_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.json"):
        sync(RunDir(tmp_path))


def test_a_run_without_a_trial_so_far(root: Path) -> None:
    run = RunDir(root / "early")
    write_json(run.plan, make_plan("early").to_json())
    run.study.touch()  # the driver has only just opened it
    assert sync(run).children == 0
    assert run.study.read_bytes() == b""
