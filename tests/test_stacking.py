"""The rows that stage two sees: honest ones, and refused where they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacked

from orchestrator.members.rows import (
    Member,
    OutOfFold,
    out_of_fold,
    refuse_seen,
    validation_targets,
)
from orchestrator.members.seen import Members, Targets
from orchestrator.plan.stage import StageSettings
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.candidates import Candidate, fitted_on_test
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner, load_learner
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.splits import Fold, Splits
from systems.data.stratify import cross_fitting_folds
from systems.errors import UserError
from systems.metrics.tagging import macro_f1
from systems.postprocessing.decoding import align_frames
from systems.predictions import Predictions

CLASSES = ("a", "b", "c")


class Any_(dict):  # type: ignore[type-arg]
    """An object whose attributes are what it is given."""

    __getattr__ = dict.__getitem__


def dataset_of(targets: list[np.ndarray]) -> tuple[Dataset, Splits]:
    """A fold for each array of targets [N, K]; every clip is its own group."""
    clips, values, folds = [], {}, []
    for fold, rows in enumerate(targets):
        ids = tuple(f"{fold}/{i}" for i in range(len(rows)))
        clips += [Clip(i, "train", "labelled", i, 1.0) for i in ids]
        values |= {i: tuple(c for c, t in zip(CLASSES, row, strict=False) if t > 0.5)
                   for i, row in zip(ids, rows, strict=True)}  # fmt: skip
        folds.append(ids)
    every = [i for ids in folds for i in ids]
    splits = Splits(
        "folds", tuple(Fold(tuple(i for i in every if i not in ids), ids) for ids in folds), 1
    )
    names = CLASSES[: targets[0].shape[1]]
    dataset: Any = Any_(classes=names, clips=tuple(clips), labels={"train": Labels("tags", values)},
                        label_kind=lambda part: "tags")  # fmt: skip
    return dataset, splits


def member_on_disk(
    run: RunDir, splits: Splits, folds: list[np.ndarray], best: list[int], number: int = 0
) -> Member:
    """A trial with epochs' clip scores [E, N, K] of each fold, and the best epoch of each."""
    trial = run.trial(number)
    system = Any_(selects=None, keeps=1)
    run.plan = Any_(metric="clip_macro_f1", mode="max", seed=0, system="s", stage=StageSettings(),
                    splits={"folds": [[0, 0]] * len(folds)}, trial_config=lambda params: None,
                    entry=lambda: Any_(build=lambda config: system))  # fmt: skip
    write_json(trial.config, {"params": {}})
    for fold, (scores, chosen) in enumerate(zip(folds, best, strict=True)):
        ids = splits.folds[fold].validation
        Predictions.of(ids, CLASSES[: scores.shape[2]], fold, clip_scores=scores[chosen - 1]).save(
            trial.predictions(fold)
        )
        np.savez_compressed(trial.epoch_scores(fold), scores=scores)
        for step in range(1, len(scores) + 1):
            value = 1.0 if step == chosen else 0.0
            trial.append_metrics(fold, step, {"clip_macro_f1": value})
    write_json(trial.result, {"value": 0.5})
    return Member(run, number, number)


def found(member: Member, dataset: Dataset, splits: Splits) -> OutOfFold:
    plan: Any = member.plan
    return out_of_fold([member], dataset, splits, plan)


def test_with_several_folds_a_row_is_scored_by_the_other_folds_epoch(tmp_path: Path) -> None:
    # Scores say which epoch they are of: epoch e gives e / 10.
    epochs = np.stack([np.full((4, 2), e / 10) for e in range(1, 6)])
    dataset, splits = dataset_of([np.ones((4, 2), np.float32)] * 3)
    member = member_on_disk(RunDir(tmp_path), splits, [epochs] * 3, best=[1, 4, 4])
    rows = found(member, dataset, splits)
    assert rows.scores[:, 0, 0].round(3).tolist() == [0.4] * 4 + [0.2] * 8  # round(2.5) is 2
    assert rows.last_steps == (4,)
    assert rows.targets.folds.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_with_one_fold_each_half_is_scored_by_the_other_halfs_best_epoch(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    targets = (r.random((60, 3)) < 0.5).astype(np.float32)
    epochs = r.random((8, 60, 3))
    dataset, splits = dataset_of([targets])
    rows = found(member_on_disk(RunDir(tmp_path), splits, [epochs], best=[1]), dataset, splits)
    used = np.array([(epochs[:, i] == rows.scores[i, 0]).all(-1).argmax() for i in range(60)])
    halves = [np.flatnonzero(used == epoch) for epoch in np.unique(used)]
    assert len(halves) <= 2
    for rows_, others in zip(halves, reversed(halves), strict=True):
        values = [macro_f1(targets[others], e[others]) for e in epochs]
        assert used[rows_[0]] == int(np.argmax(values))


def test_a_member_that_was_trained_on_a_row_is_refused(tmp_path: Path) -> None:
    dataset, splits = dataset_of([np.ones((4, 2), np.float32)] * 2)
    epochs = np.zeros((2, 4, 2))
    member = member_on_disk(RunDir(tmp_path), splits, [epochs] * 2, best=[1, 1])
    seen = Predictions.of(splits.folds[0].train, CLASSES[:2], 0, clip_scores=np.zeros((4, 2)))
    seen.save(member.run.trial(0).predictions(0))
    with pytest.raises(UserError, match="trial 0 was trained on 4 of the clips"):
        found(member, dataset, splits)
    refuse_seen("nobody", [])


def test_frames_come_from_an_epoch_that_other_rows_chose_where_they_are_there(
    tmp_path: Path,
) -> None:
    dataset, splits = dataset_of([np.ones((4, 2), np.float32)] * 2)
    member = member_on_disk(RunDir(tmp_path), splits, [np.zeros((2, 4, 2))] * 2, best=[1, 1])
    for fold in range(2):
        frames = tuple(np.full((3, 2), 0.7 + fold / 10) for _ in range(4))
        Predictions.of(splits.folds[fold].validation, CLASSES[:2], fold, frame_scores=frames,
                       frame_hop=0.5, clip_scores=np.ones((4, 2))).save(
            member.run.trial(0).crossed(fold))  # fmt: skip
    rows = found(member, dataset, splits)
    assert rows.seen.frames is not None
    assert [f[0, 0] for f in rows.seen.frames[0]] == pytest.approx([0.7] * 4 + [0.8] * 4)
    assert (rows.scores == 0).all(), "clip scores are those of the epochs"


def test_rows_are_weighed_by_their_columns() -> None:
    dataset, splits = dataset_of([np.eye(3)[[0, 1, 2]], np.eye(3)[[0, 1, 2]]])
    marked = tuple(
        replace(clip, columns={"manually_verified": i % 2, "device": "b" if i == 1 else "a"})
        for i, clip in enumerate(dataset.clips)
    )
    dataset["clips"] = marked  # type: ignore[index]
    weights = {"manually_verified": {"0": 0.5}, "device": {"b": 0.1}}
    _, targets = validation_targets(dataset, splits, "clip_macro_f1", weights)
    assert targets.weights.tolist() == [0.5, 0.1, 0.5, 1.0, 0.5, 1.0]


def test_cross_fitting_never_fits_on_the_rows_it_scores() -> None:
    """A learner that remembers its rows is right on them, and knows nothing of the others."""

    class Memory(Learner):
        name = title = "memory"

        def fit(self, members: Members, targets: Targets, seed: int) -> None:
            self.seen = set(members.clip_ids)

        def predict(self, members: Members) -> np.ndarray:
            rows = [[float(i in self.seen)] * len(members.classes) for i in members.clip_ids]
            return np.array(rows)

        def state(self) -> dict[str, Any]:
            return {}

        def restore(self, state: dict[str, Any]) -> None:
            pass

    def fitted(members: Members, targets: Targets) -> Learner:
        memory = Memory()
        memory.fit(members, targets, 0)
        return memory

    members, targets = stacked.noisy(0, clips=60)
    crossed = cross_fitted(fitted, members, targets, 0)
    assert crossed.clip_ids == members.clip_ids
    assert crossed.clip_scores is not None
    assert (crossed.clip_scores == 0).all()


def test_an_unknown_learner_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown meta-learner 'boostin' \(did you mean 'boosting"):
        learner("boostin")


def test_mean_frames_of_two_hops_lie_on_the_finer_one() -> None:
    coarse = np.array([[0.0], [1.0]])  # 0.2 s a frame
    fine = np.array([[0.2], [0.4], [0.6], [0.8]])
    aligned = align_frames([coarse, fine], [0.2, 0.1])
    mean = aligned.mean(axis=1)
    np.testing.assert_allclose(mean[:, 0], [0.1, 0.2, 0.8, 0.9])


def test_cross_fitting_takes_as_many_folds_as_there_are_groups() -> None:
    targets = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    three = cross_fitting_folds(targets, [str(row // 4) for row in range(12)], seed=0)
    assert len(set(three)) == 3
    assert all(len(set(three[start : start + 4])) == 1 for start in (0, 4, 8)), "a group is split"
    one = cross_fitting_folds(targets, ["all"] * 12, seed=0, most=2)
    assert sorted(np.bincount(one)) == [6, 6]


def test_a_fusion_that_its_paper_fitted_on_the_test_part_is_fitted_there_and_says_so(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    members, targets = stacked.high_bounds(0)
    first = learner("exact")
    first.fit(members, Targets.of(1 - targets.values), 0)  # bounds of other rows
    first.save(run.stack("exact"))
    nothing: Any = None
    candidates = [
        Candidate({"who": "trial 0", "learner": None}, nothing),
        Candidate({"who": "exact", "learner": "exact"}, nothing),
    ]
    run.plan = Any_(metric="clip_macro_f1", seed=0, fingerprint="f")
    truth = targets.truth(members.classes)
    unchanged, second = fitted_on_test(run, members, members, truth, candidates)
    assert unchanged is candidates[0]
    assert second.about["who"] == "exact, fitted on the test part"
    there = learner("exact")
    there.fit(members, targets, 0)
    np.testing.assert_array_equal(second.predictions.clip_scores, there.predict(members))
    assert load_learner(run.stack("exact")).state() == there.state(), "what is scored predicts"
    kept = Predictions.load(run.stack("exact") / "test.npz").clip_scores
    np.testing.assert_array_equal(kept, there.predict(members))
