"""Stacks over the trials of one run and of several."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from command import HERE, TINY, in_process, on_data, soundsweep

from orchestrator.console.progress import Progress
from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.pipeline.graph import _go_on_or_begin, reusable
from orchestrator.pipeline.stack import _unscored
from orchestrator.plan.plan import MemberRef
from orchestrator.plan.stage import StageSettings
from orchestrator.planning import gather, stacks
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking import stage
from orchestrator.stacking.stage import write_comparisons
from systems.errors import CannotFit, UserError
from systems.predictions import Predictions

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture(scope="module")
def second(whole: RunDir, task4_folder: Path) -> RunDir:
    """A run of the other system beside the whole run."""
    options = on_data(task4_folder, "--name", "second", *TINY, *HERE, "--trials", "1")
    in_process("run", "--system", "gcrnn_vat/gcrnn", *options, "--top-k", "1", "--stack", "none",
               cwd=whole.root.parent, check=True)  # fmt: skip
    return RunDir(whole.root / "second")


def mlflow_ids(run: RunDir) -> dict[str, str]:
    """MLflow's run ids of a run's completed trials, by number."""
    client = mlflow.MlflowClient(f"sqlite:///{run.root / 'mlflow.db'}")
    wanted = read_json(run.plan_file)["run_id"]
    found = {}
    for experiment in client.search_experiments():
        for one in client.search_runs([experiment.experiment_id]):
            tags = one.data.tags
            mine = tags.get("soundsweep.run_id") == wanted and "soundsweep.trial" in tags
            if mine and tags["soundsweep.state"] == "complete":
                found[tags["soundsweep.trial"]] = one.info.run_id
    return found


def test_members_of_two_systems_stack_from_their_mlflow_ids_and_a_killed_stack_goes_on(
    real: RunDir, second: RunDir, tmp_path: Path
) -> None:
    ids = [*list(mlflow_ids(real).values())[:2], str(second.path)]
    assert len(ids) >= 2
    asked = ("stack", *ids, "--name", "both", "--stack", "mean,logreg,selection",
             "--storage", "runs", "--ray-address", "none")  # fmt: skip
    plan = tmp_path / "faults.json"
    plan.write_text(json.dumps([{"file": "*/logreg/folds/2.npz.new", "nth": 1, "do": "kill"}]))
    cwd = real.root.parent
    killed = soundsweep(*asked, cwd=cwd, check=False, paths=(FAULTS,), SOUNDSWEEP_FAULTS=str(plan))
    assert killed.returncode == -9, killed.stdout[-2000:] + killed.stderr[-2000:]
    run = RunDir(real.root / "both")
    assert (run.stack("mean") / "scores.json").exists()
    before = {p: p.stat().st_mtime_ns for p in run.stack("mean").rglob("*") if p.is_file()}
    assert (run.stack("logreg") / "folds" / "1.npz").exists()
    in_process("run", "--resume", "both", "--storage", "runs", cwd=cwd, check=True)
    assert {p: p.stat().st_mtime_ns for p in before} == before, "what was fitted was fitted again"

    results = read_json(run.results)
    assert [row["name"] for row in results["stack"]] == ["mean", "logreg", "selection"]
    assert len(results["members"]) == len(ids)
    assert {m["system"] for m in results["members"]} == {"gcrnn_vat/gcrnn_vat", "gcrnn_vat/gcrnn"}
    for row in results["stack"]:
        assert row["compared"]["p_holm"] >= row["compared"]["p"]
        assert row["searched"] == 0
    openings = [json.loads(line) for line in run.ledger.read_text().splitlines()]
    assert [line["run"] for line in openings].count("both") == 1
    page = (run.report / "index.html").read_text()
    assert "Holm" in page
    assert 'id="leaderboard"' not in page
    # The stack is a model: what it predicts of the test files is what it was scored by.
    stored = Predictions.load(run.stack("logreg") / "test.npz")
    bundle = export(run, tmp_path / "bundle", model="logreg")
    audio = Path(read_json(run.plan_file)["data"]) / "dataset" / "audio"
    found = Predictor.load(bundle).predict_files([audio / i for i in stored.clip_ids])
    scores = np.array([list(one.tags.values()) for one in found])
    assert stored.clip_scores is not None
    assert np.abs(scores - stored.clip_scores).max() < 1e-5


def test_the_best_trials_of_a_system_are_found_over_all_runs(whole: RunDir, second: RunDir) -> None:
    found = gather.gather([], ["gcrnn_vat", "gcrnn_vat/gcrnn"], 1, whole.root, None)
    assert [ref.system for ref in found] == ["gcrnn_vat/gcrnn_vat", "gcrnn_vat/gcrnn"]
    assert found[1] == MemberRef(str(second.path), 0, "gcrnn_vat/gcrnn")
    by_name = gather.gather(["it"], [], None, whole.root, None)
    assert len(by_name) == read_json(whole.plan_file)["stage"]["top_k"]
    with pytest.raises(UserError, match="no run 'nowhere'"):
        gather.gather(["nowhere"], [], None, whole.root, None)
    with pytest.raises(UserError, match="no MLflow run 000000"):
        gather.gather(["0" * 32], [], None, whole.root, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fingerprint": "other"}, r"their data set differs \(dcase2018_task4 .* other\)"),
        ({"classes": ["a", "b"]}, "their classes differs"),
        ({"splits": {"protocol": "folds", "digest": "1"}}, "their split differs"),
        ({"metric": "clip_micro_f1"}, "their metric differs"),
    ],
)
def test_members_of_other_rows_are_refused_with_the_reason(
    whole: RunDir, second: RunDir, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    other = RunDir(tmp_path / "other")
    shutil.copytree(second.path, other.path)
    plan = read_json(other.plan_file)
    write_json(other.plan_file, {**plan, **change, "name": "other",
                            "splits": {**plan["splits"], **change.get("splits", {})}})  # fmt: skip
    members = [gather.best_of(run, 1)[0] for run in (whole, other)]
    with pytest.raises(UserError, match=says):
        stacks.make_stack_plan(members, StageSettings())


def test_a_single_training_has_no_rows_to_stack(whole: RunDir, tmp_path: Path) -> None:
    trained = RunDir(tmp_path / "trained")
    shutil.copytree(whole.path, trained.path)
    plan = read_json(trained.plan_file)
    splits = {**plan["splits"], "protocol": "hold-out", "digest": "1"}
    write_json(trained.plan_file, {**plan, "purpose": "train", "splits": splits})
    with pytest.raises(UserError, match="stage two needs predictions of every fold"):
        stacks.make_stack_plan(gather.best_of(trained, 2), StageSettings())


@pytest.mark.all
def test_the_settings_are_searched_by_the_real_sweep(real: RunDir, tmp_path: Path) -> None:
    shutil.copytree(real.root, tmp_path / "runs")
    soundsweep("stack", "it", "--stack", "logreg", "--stage-trials", "3", "--storage", "runs",
               cwd=tmp_path)  # fmt: skip
    run = RunDir(tmp_path / "runs" / "it")
    (row,) = read_json(run.results)["stack"]
    assert row["searched"] == 3
    assert row["parameters"]["members.best"] in (1, 2)
    for where in ("fold0", "fold4", "final"):
        trials = read_json(run.stack("logreg") / "search" / where / "trials.json")
        assert [trial["state"] for trial in trials] == ["complete"] * 3
        assert trials[0]["params"] == {"C": 1.0, "members.best": 2}
    client = mlflow.MlflowClient(f"sqlite:///{run.root / 'mlflow.db'}")
    shown = [one for experiment in client.search_experiments()
             for one in client.search_runs([experiment.experiment_id])
             if "soundsweep.stage" in one.data.tags]  # fmt: skip
    assert sorted(one.data.tags["soundsweep.stage"] for one in shown) == [
        f"logreg {number}" for number in range(3)
    ]
    assert all("worth" in one.data.metrics and "C" in one.data.params for one in shown)


def test_folds_means_and_snapshots_predict_the_test_part(whole: RunDir, tmp_path: Path) -> None:
    """``stack RUN`` with other final models: each fold's model predicts, their mean is scored."""
    shutil.copytree(whole.root, tmp_path / "runs")
    done = in_process("stack", "it", "--stack", "mean,snapshot_mean", "--final", "fold_mean",
                      "--storage", "runs", cwd=tmp_path, check=True)  # fmt: skip
    run = RunDir(tmp_path / "runs" / "it")
    rows = read_json(run.scores)["rows"]
    assert "mean of folds" in rows[0]["who"]
    assert rows[0]["refinement"] is None, "the decision is not the fold means' own"
    assert {row["learner"] for row in rows} >= {"mean", "snapshot_mean"}, done.stdout
    number = rows[0]["trial"]
    folds = [Predictions.load(run.trial(number).fold_predictions(f)) for f in range(5)]
    variant = rows[0]["variant"]
    mean = Predictions.load(run.trial(number).test_predictions(variant, "fold_mean"))
    expected = np.mean([fold.clip_scores for fold in folds], axis=0)
    np.testing.assert_allclose(mean.clip_scores, expected, atol=1e-7)
    assert any(trial.snapshots_predicted() for trial in run.trials())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("it", "--stage-trials", "-3"), "--stage-trials takes 0 or more"),
        (("it", "second", "--protocol", "papr"), "did you mean 'paper'"),
        (("it", "second", "--name", "../outside"), "a name is one folder's name"),
        (("it", "second", "--name", "."), "a name is one folder's name"),
        (("it", "--name", "other"), "the stack of one run stays in it"),
        (("it", "--protocol", "paper"), "was planned with honest"),
        (("torn", "it"), "is no plan that this version reads"),
        (("lost", "it"), "is not there any more"),
    ],
)
def test_a_mistake_is_one_message_and_changes_nothing(
    whole: RunDir, second: RunDir, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    root = tmp_path / "runs"
    for run in (whole, second):
        shutil.copytree(run.path, root / run.path.name)
    shutil.copytree(second.path, root / "lost")
    for trial in RunDir(root / "lost").trials():
        trial.result.unlink()
    (root / "torn").mkdir()
    (root / "torn" / "plan.json").write_text('{"format": 1, "name"')
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    done = in_process("stack", *arguments, "--storage", "runs", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_run_of_other_rows_does_not_spoil_the_choice_of_a_system(
    whole: RunDir, second: RunDir, tmp_path: Path
) -> None:
    for name, run in (("a", whole), ("b", whole), ("c", second), ("torn", second)):
        shutil.copytree(run.path, tmp_path / name)
    write_json(tmp_path / "a" / "plan.json", {**read_json(whole.plan_file), "name": "a"})
    other = {**read_json(whole.plan_file), "name": "b", "fingerprint": "other", "created": "2000"}
    write_json(tmp_path / "b" / "plan.json", other)
    (tmp_path / "torn" / "plan.json").write_text("{")
    found = gather.gather([], ["gcrnn_vat"], 9, tmp_path, None)
    assert {Path(ref.run).name for ref in found} == {"a"}
    with pytest.raises(UserError, match="is of the rows of the other members"):
        gather.gather(["b"], ["gcrnn_vat/gcrnn"], 9, tmp_path, None)


def test_runs_of_one_name_are_told_apart(second: RunDir, tmp_path: Path) -> None:
    shutil.copytree(second.path, tmp_path / "second")
    members = [gather.best_of(run, 1)[0] for run in (second, RunDir(tmp_path / "second"))]
    with pytest.raises(UserError, match="have the same name"):
        stacks.make_stack_plan(members, StageSettings())


def test_seeds_of_the_same_split_stack(second: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "seed")
    shutil.copytree(second.path, other.path)
    write_json(other.plan_file, {**read_json(second.plan_file), "name": "seed", "seed": 1})
    members = [gather.best_of(run, 1)[0] for run in (second, other)]
    assert stacks.make_stack_plan(members, StageSettings())[0].members == tuple(members)


def test_a_run_of_that_name_that_was_asked_for_otherwise_is_not_gone_on_with(
    second: RunDir, tmp_path: Path
) -> None:
    folder = RunDir(tmp_path / "second")
    shutil.copytree(second.path, folder.path)
    stage = replace(second.plan.stage, learners=("mean",))
    plan = replace(second.plan, seed=7, stage=stage)
    with pytest.raises(UserError, match=r"asked for otherwise \(seed, stage\)"):
        _go_on_or_begin(folder, plan, None, None, Progress())  # type: ignore[arg-type]


def test_a_subset_opens_no_labels_and_keeps_the_correction(whole: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "it")
    shutil.copytree(whole.path, run.path)
    assert not _unscored(run, replace(run.plan, stage=StageSettings(("genetic",))))
    assert _unscored(run, replace(run.plan, stage=StageSettings(("genetic", "mean"))))
    before = read_json(run.comparisons)
    write_comparisons(run)
    assert read_json(run.comparisons) == before
    assert set(before["rows"]) == {"logreg", "genetic"}


def test_a_full_disk_is_no_reason_to_leave_a_learner_out(
    whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "it")
    progress = SimpleNamespace(phase=lambda *_: None, say=lambda *_: None)
    stop = SimpleNamespace(check=lambda: None)

    def fails(error: Exception) -> Any:
        def fit_one(*_: Any) -> None:
            raise error

        return fit_one

    run.plan = SimpleNamespace(stage=StageSettings(("mean",)))
    monkeypatch.setattr(stage, "fit_one", fails(UserError("No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        stage.fit_stage(run, None, stop, progress)  # type: ignore[arg-type]
    assert not (run.stack("mean") / "refused.json").exists()
    monkeypatch.setattr(stage, "fit_one", fails(CannotFit("no rows")))
    monkeypatch.setattr(stage, "diagnose", lambda *_: None)
    stage.fit_stage(run, None, stop, progress)  # type: ignore[arg-type]
    assert stage.refused(run, ["mean"]) == [{"name": "mean", "why": "no rows"}]


def test_a_search_is_not_another_configurations(whole: RunDir) -> None:
    plan = whole.plan
    assert reusable(plan, whole.root) is not None
    assert reusable(replace(plan, seed=plan.seed + 1), whole.root) is None
