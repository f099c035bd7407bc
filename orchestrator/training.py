"""One training of a trial: a fold, or the refit on all labelled clips; here or in workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, TrialDir, append_step, check_generation, read_json
from systems.context import Context, seed_of
from systems.data.dataset import Dataset
from systems.data.splits import Splits, TrainingData, training_data
from systems.data.store import WaveformStore
from systems.predictions import Predictions
from systems.system import Fitted

Report = Callable[[dict[str, Any]], None]


def tell_nobody(report: dict[str, Any]) -> None:
    """The report of a training that nobody watches."""


@dataclass(frozen=True)
class Job:
    """What trials of a run share: the plan, the sound, and what each fold may see.

    No test label is in here. ``test`` names the clips that a final model predicts.
    """

    run: str
    generation: int
    plan: Plan
    folds: tuple[TrainingData, ...]
    refit: TrainingData
    store: WaveformStore
    test: tuple[str, ...]
    device: str

    @classmethod
    def of(
        cls, run: RunDir, plan: Plan, dataset: Dataset, splits: Splits, store: WaveformStore
    ) -> Job:
        """The job of a run that is being driven, over a finished store."""
        folds = range(len(splits.folds))
        return cls(
            run=str(run.path),
            generation=run.generation,
            plan=plan,
            folds=tuple(training_data(dataset, splits, fold, plan.metric) for fold in folds),
            refit=training_data(dataset, splits, None, plan.metric),
            store=store,
            test=tuple(clip.clip_id for clip in dataset.part(dataset.test_part)),
            device="cuda" if plan.resources.gpus else "cpu",
        )

    def trial(self, number: int) -> TrialDir:
        return RunDir(Path(self.run)).trial(number)

    def config(self, trial: TrialDir) -> Any:
        """The configuration that a trial trains."""
        return self.plan.trial_config(read_json(trial.config)["params"])

    def check_generation(self) -> None:
        """Raise :class:`Superseded` where another driver has taken the run over."""
        check_generation(Path(self.run), self.generation)

    def context(self, folder: Path | None = None, **about: Any) -> Context:
        """A context on the job's device whose checkpoints lie in a folder."""
        return Context(
            folder,
            device=self.device,
            threads=self.plan.resources.cpus,
            may_publish=partial(check_generation, Path(self.run), self.generation),
            **about,
        )


@dataclass(frozen=True)
class Task:
    """Train trial ``number`` on a fold; ``None`` is the refit on all labelled clips, which ends at
    ``last_step``. A ``snapshot`` is a refit that ends so and is kept beside the final one, or such
    a training of a fold: as the fold's was after that step, for it sees the same and validates
    nothing."""

    number: int
    fold: int | None
    last_step: int | None = None
    snapshot: bool = False

    def model(self, trial: TrialDir) -> Path:
        """Where the trained model goes."""
        if self.snapshot:
            assert self.last_step is not None
            return trial.snapshot_model(self.last_step, self.fold)
        return trial.refit / "model" if self.fold is None else trial.model(self.fold)

    def folder(self, trial: TrialDir) -> Path:
        """Where checkpoints go; all snapshots of a training go on from one."""
        if self.snapshot:
            return trial.refit / ("snapshots" if self.fold is None else f"snapshots_{self.fold}")
        return trial.refit if self.fold is None else trial.path / f"fold{self.fold}"

    def log(self, trial: TrialDir) -> Path:
        """Where the epochs are noted."""
        if self.snapshot:
            return self.folder(trial) / "metrics.jsonl"
        return trial.refit_metrics if self.fold is None else trial.metrics

    def seed(self, plan: Plan) -> int:
        if self.fold is None:
            return seed_of(plan.seed, "refit", self.number)
        return seed_of(plan.seed, "trial", self.number, self.fold)


def trained(job: Job, task: Task, report: Report = tell_nobody) -> Fitted:
    """The trained model of a task; trained now where it is not there, from its checkpoint on."""
    trial = job.trial(task.number)
    if not (task.model(trial) / "model.json").exists():
        if job.plan.resources.workers > 1:
            from orchestrator.workers import train_in_workers

            train_in_workers(job, task, report)
        else:
            train(job, task, report)
    return job.plan.entry().build(job.config(trial)).load(task.model(trial))


def train(job: Job, task: Task, report: Report, rank: int = 0, world: int = 1) -> None:
    """Train in this process, as one of ``world`` workers, and keep the model.

    Epochs of fold 0 are reported with metric and loss. Later folds report that they are alive, no
    metric: they are never stopped early, only by an interruption.
    """
    trial, plan = job.trial(task.number), job.plan
    log = task.log(trial)

    def on_report(step: int, metrics: Mapping[str, float]) -> None:
        if rank == 0:
            append_step(log, task.fold or 0, step, metrics)
        report(progress(plan, None if task.snapshot else task.fold, step, metrics))

    context = job.context(
        task.folder(trial), on_report=on_report, seed=task.seed(plan), last_step=task.last_step,
        rank=rank, world=world, required=_required(job, task.fold),
    )  # fmt: skip
    data = job.refit if task.fold is None else job.folds[task.fold]
    if task.snapshot:
        data = replace(data, validation=None, halves=None)
    fitted = plan.entry().build(job.config(trial)).train(data, job.store, context)
    if rank > 0:
        return
    job.check_generation()
    if task.fold is not None and not task.snapshot:
        _keep_validation(job, task.fold, trial, fitted)
    fitted.save(task.model(trial))


def _required(job: Job, fold: int | None) -> dict[str, Callable[[], Any]]:
    """What the system learns from, for the training of a fold."""
    requires = dict(job.plan.entry().requires)
    if not requires:
        return {}
    from orchestrator.required import loaders

    return loaders(Path(job.run), requires, job.plan.required, fold)


def _keep_validation(job: Job, fold: int, trial: TrialDir, fitted: Fitted) -> None:
    """Validation clip scores of every epoch, and frames whose epoch other rows chose."""
    history, clips = fitted.history, job.folds[fold].validation
    if not history.validation_scores:  # a system without epochs: nothing was chosen
        return
    epochs = np.stack([scores.numpy() for scores in history.validation_scores])
    trial.epoch_scores(fold).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(trial.epoch_scores(fold), scores=epochs)
    assert clips is not None
    if history.crossed_frames:
        timed = [
            fitted.timed(scores.float().numpy(), job.store.duration(clip_id))
            for scores, clip_id in zip(history.crossed_frames, clips.clip_ids, strict=True)
        ]
        Predictions.of(
            clips.clip_ids, job.plan.classes, fold,
            frame_scores=tuple(frames for frames, _ in timed),
            events=tuple(events for _, events in timed), frame_hop=fitted.frame_hop,
            clip_scores=torch.stack(history.crossed_clips).numpy(),
        ).with_data(
            fingerprint=job.plan.fingerprint, splits=job.plan.splits["digest"]
        ).save(trial.crossed(fold))  # fmt: skip


def progress(plan: Plan, fold: int | None, step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What an epoch tells the sweep."""
    if fold == 0:
        return {"step": step, "metric": metrics[plan.metric], "loss": metrics["loss"]}
    return {"fold": fold, "step": step}
