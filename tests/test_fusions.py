"""Fusions as systems, and what learns from them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import HERE, in_process, on_data

from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.pipeline.graph import biased_teachers
from orchestrator.planning.resolve import reload
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import registry
from systems.predictions import Predictions

FAKE = Path(__file__).parent / "fakepaper"


def test_a_teacher_that_was_fitted_on_what_scores_its_pupil_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = registry.Fusion("both", "p", ("p/a", "p/b"), "logreg")
    monkeypatch.setattr(registry, "find", lambda name: teacher)
    requires = [registry.Requirement("p/both", rows="same_fold")]
    one, two = (SimpleNamespace(folds=(None,) * count) for count in (1, 2))
    (note,) = biased_teachers(requires, one)  # type: ignore[arg-type]
    assert "p/both" in note
    assert "biased" in note
    assert biased_teachers(requires, two) == []  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, task4_folder: Path) -> Path:
    """The storage root after ``--system fakepaper/pupil``, which needs a fusion of two systems."""
    cwd = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE))
        in_process("run", "--system", "fakepaper/pupil", "--name", "pup", "--trials", "1", *FUSED,
                   *on_data(task4_folder), cwd=cwd, check=True)  # fmt: skip
    return cwd / "runs"


FUSED = ("--stack", "none", "--budget", "paper", "--gpus-per-trial", "0", "--concurrency", "1",
         *HERE)  # fmt: skip


def test_a_fusion_and_what_it_teaches_are_trained_in_order_and_reused(
    taught: Path, task4_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {path.parent.name for path in taught.glob("*/results.json")}
    assert names == {"pup", *(f"pup.fakepaper.{one}" for one in ("small", "fast", "both"))}
    fusion = read_json(taught / "pup.fakepaper.both" / "results.json")
    assert fusion["run"]["fusion"] == "fakepaper/both"
    assert [row["name"] for row in fusion["stack"]] == ["power"]
    assert fusion["stack"][0]["parameters"] == {"r": 3.0}
    assert fusion["test"] is None, "it only teaches"
    # The teacher of a fold's training clips is of the same fold: it never saw those that validate.
    pupil = RunDir(taught / "pup")
    for fold in range(5):
        said = Predictions.load(pupil.path / "required" / "teacher" / f"fold{fold}.npz")
        held_out = Predictions.load(pupil.trial(0).predictions(fold)).clip_ids
        assert not set(said.clip_ids) & set(held_out)
    every = Predictions.load(pupil.path / "required" / "teacher" / "all.npz")
    assert len(every.clip_ids) == 24

    monkeypatch.syspath_prepend(str(FAKE))
    again = in_process("run", "--system", "fakepaper/both", "--name", "again", "--trials", "1",
                       *FUSED, *on_data(task4_folder), cwd=taught.parent, check=True)  # fmt: skip
    assert "fakepaper/small: pup.fakepaper.small is reused" in again.stdout
    assert "fakepaper/fast: pup.fakepaper.fast is reused" in again.stdout
    # What only taught goes on to its final models, as a member of what is scored.
    scores = [read_json(taught / run / "scores.json")["rows"][0] for run in
              ("again", "pup.fakepaper.small", "pup.fakepaper.fast")]  # fmt: skip
    assert "mean of folds" in scores[0]["who"]
    assert all("refitted" in row["who"] for row in scores[1:])
    outs = [Predictions.load(RunDir(taught / run).learner("power").out_of_fold)
            for run in ("again", "pup.fakepaper.both")]  # fmt: skip
    np.testing.assert_array_equal(outs[0].clip_scores, outs[1].clip_scores)


def test_a_fusion_of_fusions_over_seeds_and_folds_predicts_what_it_was_scored_on(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FAKE))
    in_process("run", "--system", "fakepaper/late", "--name", "l", *FUSED, *on_data(task4_folder),
               cwd=tmp_path, check=True)  # fmt: skip
    root = tmp_path / "runs"
    # Where nothing is searched, a system that is named twice is trained twice, with other seeds.
    small = RunDir(root / "l.fakepaper.small")
    plan = read_json(small.plan_file)
    assert (plan["trials"], plan["space"], plan["halving"]) == (2, [], None)
    first, second = (Predictions.load(small.trial(n).predictions(0)) for n in (0, 1))
    assert not np.allclose(first.clip_scores, second.clip_scores)
    run = RunDir(root / "l")
    fusion = read_json(run.results)
    assert len(read_json(run.plan_file)["members"]) == 3
    assert "geometric mean of folds" in fusion["test"]["rows"][0]["who"]
    # Each fold's own snapshots, of both seeds, predicted the test part.
    seeds = RunDir(root / "l.fakepaper.seeds")
    assert len(list(small.trial(0).refit.glob("predictions/test_fold*_epoch*.npz"))) >= 5
    assert read_json(seeds.stack("snapshot_mean") / "learner.json")["state"]["per_fold"]
    # The bundle is the stack: folds' models, snapshots and all.
    bundle = export(run, tmp_path / "bundle", model="vote")
    stored = Predictions.load(run.stack("vote") / "test.npz")
    assert stored.clip_scores is not None
    dataset, _ = reload(run.plan)
    wavs = [dataset.source.where(clip_id) for clip_id in stored.clip_ids]
    said = Predictor.load(bundle).predict_files(wavs)
    scores = np.array([list(one.tags.values()) for one in said])
    np.testing.assert_allclose(scores, stored.clip_scores, atol=1e-4)
    assert stored.events is not None
    for one, events in zip(said, stored.events, strict=True):
        assert [e.label for e in one.events] == [e.label for e in events]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "learner": ({"learner": "logref"}, "did you mean 'logreg'"),
    "setting": ({"learner": "power", "settings": {"q": 1}}, "unknown configuration key 'q'"),
    "value": ({"learner": "power", "settings": {"r": -1.0}}, "r lies in 0.05"),
    "weights": ({"settings": {"weights": (1.0, 2.0, 3.0)}}, "3 weights for 2 members"),
    "gate": ({"events_of": "fakepaper/pupil"}, "unknown system among the members"),
    "final": ({"members": ("fakepaper/fast", "fakepaper/both")}, "takes one kind of final model"),
    "labels": ({"learner": "exact_events"}, "which say nothing about time"),
    "column": ({"row_weights": {"verified": {"0": 0.5}}}, "unknown column of dcase2018_task4"),
    "trials": ({"members": ("fakepaper/small",) * 2}, "takes 2 trainings of fakepaper/small"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fusion_that_cannot_be_is_told_before_anything_is_trained(
    case: str, monkeypatch: pytest.MonkeyPatch, task4_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(FAKE))
    change, says = WRONG[case]
    about = {"members": ("fakepaper/small", "fakepaper/fast"), "learner": "mean", **change}
    registry.papers()  # the entry point of the constructed paper is found
    registry.find("fakepaper/small")
    wrong = registry.Fusion("wrong", "fakepaper", **about)
    monkeypatch.setitem(registry._ENTRIES, "fakepaper/wrong", wrong)
    for more in ((), ("--dry-run",)):
        done = in_process("run", "--system", "fakepaper/wrong", "--trials", "1", "--stack", "none",
                          *on_data(task4_folder), *more, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fusion_is_no_system_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAKE))
    done = in_process("train", "fakepaper/both", cwd=tmp_path)
    assert done.returncode == 2
    assert "fakepaper/both is a fusion of fakepaper/small, fakepaper/fast" in done.stderr
    assert "Traceback" not in done.stderr
