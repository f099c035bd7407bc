"""What a system learns from another that was trained before it: made ready before it trains.

RUN/required/NAME/all.npz       predictions of each clip by models that did not learn from it
RUN/required/NAME/fold2.npz     predictions of fold 2's training clips by fold 2's own models
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.choose import refit
from orchestrator.members.rows import (
    Member,
    clips_of,
    members_of,
    members_of_runs,
    out_of_fold,
    pooled,
    view,
)
from orchestrator.pipeline.jobs import Jobs
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.crossfit import fused
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.learner import Learner
from orchestrator.training.job import Job
from systems.errors import UserError
from systems.predictions import Predictions
from systems.registry import Requirement


@dataclass(frozen=True)
class Teacher:
    """A run that another learns from: its best trial, or all members under its meta-learner.

    ``last_step``: the share of the schedule that a refit of its best trial runs.
    """

    run: RunDir
    members: tuple[Member, ...]
    last_step: int

    @classmethod
    def of(cls, path: str) -> Teacher:
        run = RunDir(Path(path))
        best = read_json(run.members)["members"][0]
        stack = run.plan.purpose == "stack"
        members = members_of_runs(run.plan) if stack else members_of(run, [best["trial"]])
        return cls(run, members, best["last_step"])

    @property
    def plan(self) -> Plan:
        return self.run.plan

    @property
    def learner(self) -> LearnerDir | None:
        """Where the meta-learner is; ``None`` of a system."""
        learners = self.plan.stage.learners
        return self.run.learner(learners[0]) if self.plan.purpose == "stack" else None


def prepare(run: RunDir, jobs: Jobs, stop: Stop, progress: Progress) -> None:
    """Make what the plan's system requires; what is there stays.

    Args:
        run: the run that is to train.
        jobs: of the runs that it learns from, for their models and their sound.
        stop: asked between two things.
        progress: told of refits.

    Raises:
        UserError: a fusion is required as a fitted system, or a teacher lacks what is asked for.
    """
    plan = run.plan
    for name, requirement in plan.requires().items():
        teacher = Teacher.of(plan.required[name])
        if requirement.what == "fitted":
            _fit(plan, teacher, requirement, jobs, stop, progress)
            continue
        asked = _Asked(teacher, requirement, jobs)
        folder = run.path / "required" / name
        for fold in range(len(jobs.splits.folds)) if requirement.rows == "same_fold" else ():
            stop.check()
            if not (folder / f"fold{fold}.npz").exists():
                asked.of_fold(fold).save(folder / f"fold{fold}.npz")
        stop.check()
        if not (folder / "all.npz").exists():
            asked.of_all().save(folder / "all.npz")


def _fit(
    plan: Plan, teacher: Teacher, requirement: Requirement, jobs: Jobs, stop: Stop,
    progress: Progress,
) -> None:  # fmt: skip
    """A fitted teacher: its folds' models are there, that of all labelled clips may be missing."""
    if teacher.learner is not None:
        raise UserError(
            f"{plan.system} requires {requirement.address} fitted, which is a fusion: require its "
            "predictions."
        )
    if requirement.rows == "all" or (plan.final_is_refit() and not plan.teaches):
        member = teacher.members[0]
        model = member.run.trial(member.number).refit / "model" / "model.json"
        if not model.exists():
            refit(jobs.driven(member), member.number, teacher.last_step, stop, progress)


@dataclass(frozen=True)
class _Asked:
    """What a requirement asks of its teacher."""

    teacher: Teacher
    requirement: Requirement
    jobs: Jobs

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The clips of other roles than the labelled that are asked for."""
        roles = [role for role in self.requirement.clips if role != "labelled"]
        return tuple(i for role in roles for i in self.jobs.splits.unlabelled.get(role, ()))

    def of_fold(self, fold: int) -> Predictions:
        """A fold's training clips, and the unlabelled, by that fold's own models: nothing here
        knows its validation clips."""
        return self._by_fold(fold, (*self.jobs.splits.folds[fold].train, *self.unlabelled))

    def of_all(self) -> Predictions:
        """Each labelled clip by a model that was not trained on it, each other by all folds' mean.

        With an official validation part no model has not seen the training part: those clips are
        then the first fold's own.
        """
        kinds, labelled = self.requirement.kinds, self.jobs.splits.labelled
        if self.requirement.rows == "same_fold":  # what is said to a refit
            kinds = tuple(kind for kind in kinds if not kind.endswith("embeddings"))
        held_out = self._held_out()
        said = _rows(held_out, kinds, self.teacher)
        unseen = [i for i in labelled if i not in said]
        if unseen:
            said |= _rows(self._by_fold(0, unseen), kinds, self.teacher)
        if self.unlabelled:
            folds = range(len(self.jobs.splits.folds))
            each = [_rows(self._by_fold(f, self.unlabelled), kinds, self.teacher) for f in folds]
            said |= {i: _mean([one[i] for one in each]) for i in self.unlabelled}
        return _of_rows((*labelled, *self.unlabelled), said, held_out)

    def _held_out(self) -> Predictions:
        """The labelled clips that some fold held out."""
        teacher, jobs = self.teacher, self.jobs
        if teacher.learner is not None:
            return Predictions.load(teacher.learner.out_of_fold)
        rows = out_of_fold(teacher.members, jobs.dataset, jobs.splits, teacher.plan)
        said = pooled(teacher.members[0], len(jobs.splits.folds))
        return replace(said, **rows.dense(0))  # of an epoch that others chose

    def _by_fold(self, fold: int, clips: Sequence[str]) -> Predictions:
        """Some clips by a fold's models, under a meta-learner that its rows did not fit."""
        teacher, dataset, splits = self.teacher, self.jobs.dataset, self.jobs.splits
        roles = tuple(role for role in self.requirement.clips if role != "labelled")
        said = [_fold_model(m, fold, self.jobs.read(m, roles), clips) for m in teacher.members]
        if teacher.learner is None:
            return said[0]
        learner: Learner = load_learner(teacher.learner.path)
        if "epoch_scores" in learner.takes or learner.one_model:
            raise UserError(
                f"{teacher.plan.fusion} takes epochs or embeddings, which another fold's learner "
                "cannot read, so it can speak neither fold by fold nor of unlabelled clips: "
                "require its predictions of all labelled ones."
            )
        rows = out_of_fold(teacher.members, dataset, splits, teacher.plan)
        others = (rows.targets.folds != fold) & rows.targets.fitting()
        if others.any():  # of a single fold only its own rows could fit it: then it stays as it is
            learner.fit(rows.seen.rows(others), rows.targets.rows(others), teacher.plan.seed)
        labels = rows.targets.kind
        return fused(learner, view(teacher.members, said, labels, clips_of(dataset)), labels)


def _fold_model(member: Member, fold: int, job: Job, clips: Sequence[str]) -> Predictions:
    trial = member.run.trial(member.number)
    config = job.config(trial)
    fitted = member.plan.entry().build(config).load(trial.model(fold))
    return fitted.predict(clips, job.sounds(config), job.context(), fold)


Said = dict[str, np.ndarray]  # kind -> what is said of a clip


def _rows(said: Predictions, kinds: Iterable[str], teacher: Teacher) -> dict[str, Said]:
    """Clip -> kind -> its row."""
    for kind in kinds:
        if getattr(said, kind) is None:
            raise UserError(f"{teacher.plan.fusion or teacher.plan.system} gives no {kind}.")
    return {
        clip_id: {kind: getattr(said, kind)[row] for kind in kinds}
        for row, clip_id in enumerate(said.clip_ids)
    }


def _mean(said: Sequence[Said]) -> Said:
    return {kind: np.mean([one[kind] for one in said], axis=0) for kind in said[0]}


def _of_rows(ids: Sequence[str], said: Mapping[str, Said], like: Predictions) -> Predictions:
    kinds: dict[str, Any] = {}
    for kind in said[ids[0]]:
        rows = [said[i][kind] for i in ids]
        kinds[kind] = np.stack(rows) if kind.startswith("clip") else tuple(rows)
    kinds |= {"frame_hop": like.frame_hop, "frame_start": like.frame_start}
    return Predictions.of(ids, like.classes, **kinds)
