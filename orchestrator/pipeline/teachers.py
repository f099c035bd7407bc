"""What a system learns from another that was trained before it: made ready before it trains.

RUN/required/NAME/all.npz       predictions of each labelled clip by a model that did not see it
RUN/required/NAME/fold2.npz     predictions of fold 2's training clips by fold 2's own models
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.members.rows import (
    Member,
    clip_scores_of,
    clips_of,
    members_of,
    members_of_runs,
    out_of_fold,
    view,
)
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import LearnerDir, RunDir
from orchestrator.stacking.crossfit import fused
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.learner import Learner
from orchestrator.training.job import Job
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.predictions import Predictions


@dataclass(frozen=True)
class Teacher:
    """A run that another learns from: its best trial, or all members under its meta-learner."""

    run: RunDir
    members: tuple[Member, ...]

    @classmethod
    def of(cls, path: str) -> Teacher:
        run = RunDir(Path(path))
        plan = run.plan
        if plan.purpose == "stack":
            return cls(run, members_of_runs(run.plan))
        best = [member["trial"] for member in read_json(run.members)["members"]][:1]
        return cls(run, members_of(run, best))

    @property
    def plan(self) -> Plan:
        return self.run.plan

    @property
    def learner(self) -> LearnerDir | None:
        """Where the meta-learner is; ``None`` of a system."""
        learners = self.plan.stage.learners
        return self.run.learner(learners[0]) if self.plan.purpose == "stack" else None


def prepare(run: RunDir, dataset: Dataset, splits: Splits, jobs: Callable[[Member], Job]) -> None:
    """Write the predictions that the plan's system requires; what is there stays.

    Args:
        run: the run that is to train.
        dataset: with its labels, which a teacher's meta-learner is fitted on again.
        splits: of both runs.
        jobs: a member's job, for its models and their sound.

    Raises:
        UserError: a fusion is required as a fitted system.
    """
    plan = run.plan
    for name, requirement in plan.entry().requires.items():
        teacher = Teacher.of(plan.required[name])
        if requirement.what == "fitted":
            if teacher.learner is not None:
                raise UserError(
                    f"{plan.system} requires {requirement.address} fitted, which is a fusion: "
                    "require its predictions."
                )
            continue
        folder = run.path / "required" / name
        if not (folder / "all.npz").exists():
            _all(teacher, dataset, splits, jobs).save(folder / "all.npz")
        for fold in range(len(splits.folds)) if requirement.rows == "same_fold" else ():
            path = folder / f"fold{fold}.npz"
            if not path.exists():
                _same_fold(teacher, dataset, splits, fold, jobs).save(path)


def _all(
    teacher: Teacher, dataset: Dataset, splits: Splits, jobs: Callable[[Member], Job]
) -> Predictions:
    """Each labelled clip by a model that was not trained on it.

    With an official validation part no model has not seen the training part: those clips are then
    the first fold's own.
    """
    if teacher.learner is not None:
        held_out = Predictions.load(teacher.learner.out_of_fold)
    else:
        rows = out_of_fold(teacher.members, dataset, splits, teacher.plan)
        held_out = Predictions.of(rows.clip_ids, rows.seen.classes, clip_scores=rows.scores[:, 0])
    scores = dict(zip(held_out.clip_ids, clip_scores_of(held_out), strict=True))
    if set(splits.labelled) - set(scores):
        own = _same_fold(teacher, dataset, splits, 0, jobs)
        scores = {**dict(zip(own.clip_ids, clip_scores_of(own), strict=True)), **scores}
    ids = splits.labelled
    return Predictions.of(ids, held_out.classes, clip_scores=np.stack([scores[i] for i in ids]))


def _same_fold(
    teacher: Teacher, dataset: Dataset, splits: Splits, fold: int, jobs: Callable[[Member], Job]
) -> Predictions:
    """A fold's training clips by that fold's models: nothing here knows its validation clips."""
    clips = splits.folds[fold].train
    said = [_fold_model(member, fold, jobs(member), clips) for member in teacher.members]
    if teacher.learner is None:
        return said[0]
    learner: Learner = load_learner(teacher.learner.path)
    if "epoch_scores" in learner.takes or learner.one_model:
        raise UserError(
            f"{teacher.plan.fusion} takes epochs or embeddings, which another fold's learner "
            "cannot read, so it cannot teach fold by fold: require its predictions of all rows."
        )
    rows = out_of_fold(teacher.members, dataset, splits, teacher.plan)
    others = (rows.targets.folds != fold) & rows.targets.fitting()
    if others.any():  # of a single fold only its own rows could fit it: then it stays as it is
        learner.fit(rows.seen.rows(others), rows.targets.rows(others), teacher.plan.seed)
    scores = np.stack([clip_scores_of(one) for one in said], axis=1)
    return fused(learner, view(teacher.members, said, scores, clips_of(dataset)))


def _fold_model(member: Member, fold: int, job: Job, clips: Sequence[str]) -> Predictions:
    trial = member.run.trial(member.number)
    config = job.config(trial)
    fitted = member.plan.entry().build(config).load(trial.model(fold))
    return fitted.predict(clips, job.waveforms(config), job.context(), fold)
