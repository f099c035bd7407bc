"""MLflow shows the run directory: whole and once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracked import (
    STEPS,
    SYSTEM,
    add_results,
    add_steps,
    forget,
    history,
    make_plan,
    make_run,
    open_search,
    read_store,
    snapshot,
)

from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.names import SYNCED, metric_name
from orchestrator.tracking.sync import sync
from search_spaces import Parameter
from systems.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root; its one SQLite store takes seconds to make, so that the tests share it."""
    return tmp_path_factory.mktemp("root")


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
    assert runs["trial 00000"].data.params == {
        "system": SYSTEM, "metric": "clip_macro_f1", "lr": "0.001",
    }  # fmt: skip


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
    assert stack.data.params == {
        "system": SYSTEM, "metric": "clip_macro_f1", "members": "0,3", "C": "1.0",
    }  # fmt: skip
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
    run.write_plan(replace(make_plan("more"), trials=30))
    path = run.stack("logreg") / "scores.json"
    write_json(path, {**read_json(path), "members": [1, 0]})

    sync(run)
    _, runs = read_store(run)
    assert runs["run"].data.tags["soundsweep.trials"] == "30"
    assert runs["stack logreg"].data.params["members"] == "1,0"
    assert len(runs) == 4


def test_a_plan_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.json"):
        sync(RunDir(tmp_path))


def test_a_run_without_a_trial_so_far(root: Path) -> None:
    run = RunDir(root / "early")
    run.write_plan(make_plan("early"))
    run.study.touch()  # the driver has only just opened it
    assert sync(run).children == 0
    assert run.study.read_bytes() == b""


def test_systems_on_one_data_set_stand_in_one_table(root: Path) -> None:
    one = sync(make_run(root, "one", trials=2, dataset="street"))
    other = sync(make_run(root, "other", trials=2, dataset="street", system="gcrnn_vat/gcrnn"))
    elsewhere = sync(make_run(root, "elsewhere", trials=1, dataset="kitchen"))
    assert one.experiment_id == other.experiment_id != elsewhere.experiment_id

    client, _ = read_store(RunDir(root / "one"))
    shown = client.search_runs([one.experiment_id], "metrics.clip_macro_f1 > 0")
    assert len(shown) == len({run.info.run_name for run in shown}) == 6
    assert {run.data.params["system"] for run in shown} == {SYSTEM, "gcrnn_vat/gcrnn"}
    data = {run.inputs.dataset_inputs[0].dataset.name for run in shown}
    assert data == {"street"}


def test_the_table_opens_with_the_metric_of_every_run_as_a_column(root: Path) -> None:
    sync(make_run(root, "f1", trials=1, dataset="columns"))
    run = make_run(root, "map", trials=1, dataset="columns", metric="clip_map")
    done = sync(run)
    client, _ = read_store(run)
    tags = client.get_experiment(done.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    key = done.page.partition("viewStateShareKey=")[2]
    view = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    assert view["orderByKey"] == "metrics.`clip_macro_f1`"
    columns = {"metrics.`clip_macro_f1`", "metrics.`clip_map`", "params.`system`", "params.`lr`"}
    assert columns <= set(view["selectedColumns"])
    assert len(view["selectedColumns"]) == len(set(view["selectedColumns"]))


def test_the_table_of_many_systems_stays_within_what_mlflow_takes(root: Path) -> None:
    for number in range(8):
        space = [Parameter(f"{number}.{'a' * 50}.{key}", "float", 0, 1) for key in "bcdefg"]
        run = make_run(root, f"many{number}", trials=1, dataset="many", space=tuple(space),
                       first_trial={one.key: 0.5 for one in space})  # fmt: skip
        done = sync(run)
    client, _ = read_store(run)
    view = client.get_experiment(done.experiment_id).tags["mlflow.sharedViewState.soundsweep"]
    assert len(view) <= 5000
    assert "0." + "a" * 50 + ".b" in view


def test_what_a_person_set_on_an_experiment_stays(root: Path) -> None:
    run = make_run(root, "owned", trials=1, dataset="owned")
    done = sync(run)
    client, _ = read_store(run)
    client.set_experiment_tag(done.experiment_id, "mlflow.note.content", "ours")
    forget(run)
    sync(run)
    assert client.get_experiment(done.experiment_id).tags["mlflow.note.content"] == "ours"


NOTHING_NEW = """
import sys
from pathlib import Path
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.sync import sync
print(sync(RunDir(Path(sys.argv[1]))).children, {"mlflow", "torch"} & set(sys.modules))
"""


def test_a_sync_without_news_opens_nothing(root: Path) -> None:
    run = make_run(root, "quiet", trials=2)
    sync(run)
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_NEW, str(run.path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "2 set()", done.stderr


def test_what_was_taken_out_of_the_store_is_put_there_again(root: Path) -> None:
    run = make_run(root, "taken", trials=2)
    sync(run)
    client, runs = read_store(run)
    client.delete_run(runs["trial 00001"].info.run_id)
    sync(run)
    assert set(read_store(run)[1]) == {"run", "trial 00000", "trial 00001"}


def test_a_meta_learner_that_is_not_there_has_no_model_to_log(root: Path) -> None:
    with pytest.raises(UserError, match="logrge"):
        sync(make_run(root, "asked", trials=1), models=["logrge"])


def test_trials_of_a_night_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "nightly")
    nights = [("2026-11-01", 0, "c0ffee"), ("2026-11-02", 2, "feed")]
    keys = ("night", "first", "git_commit")
    write_json(run.nights_file, [dict(zip(keys, one, strict=True)) for one in nights])
    sync(run)
    _, runs = read_store(run)
    tags = {name: one.data.tags for name, one in runs.items()}
    assert [tags[f"trial 0000{n}"]["soundsweep.night"] for n in range(4)] == [
        *["2026-11-01"] * 2, *["2026-11-02"] * 2,
    ]  # fmt: skip
    assert tags["trial 00003"]["soundsweep.git_commit"] == "feed"
    assert tags["run"]["soundsweep.night"] == "2026-11-02"
    values = [runs[f"trial 0000{n}"].data.metrics for n in (0, 3)]
    assert all(one["objective"] == one["clip_macro_f1"] for one in values)
    sync(make_run(tmp_path, "daily"))
    _, runs = read_store(RunDir(tmp_path / "daily"))
    assert "soundsweep.night" not in runs["run"].data.tags
