"""One training: a fold, or the refit on all labelled clips; here or in workers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import append_step
from orchestrator.runs.rundir import TrialDir
from orchestrator.training.job import Job, Report, Task
from systems.files import whole
from systems.predictions import Predictions
from systems.system import Fitted
from systems.tracks import any_of


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
            job.published(task.folder(trial))
        report(progress(plan, None if task.snapshot else task.fold, step, metrics))

    context = job.context(
        task.folder(trial), on_report=on_report, seed=task.seed(plan), last_step=task.last_step,
        rank=rank, world=world, **_required(job, task.fold),
        rates=_rates(job, trial) if task.fold is None else (),
    )  # fmt: skip
    data = job.refit if task.fold is None else job.folds[task.fold]
    if task.snapshot:
        data = replace(data, validation=None, halves=None)
    config = job.config(trial)
    fitted = plan.entry().build(config).train(data, job.sounds(config), context)
    if rank > 0:
        return
    job.check_generation()
    if task.fold is not None and not task.snapshot:
        _keep_validation(job, task.fold, trial, fitted)
    fitted.save(task.model(trial))


def _rates(job: Job, trial: TrialDir) -> tuple[float, ...]:
    """The median learning rate of the folds in each epoch, where their schedule had any."""
    by_epoch: dict[int, list[float]] = {}
    for line in trial.read_metrics():
        if "learning_rate" in line:
            by_epoch.setdefault(line["step"], []).append(line["learning_rate"])
    return tuple(statistics.median(by_epoch[step]) for step in sorted(by_epoch))


def _required(job: Job, fold: int | None) -> dict[str, Any]:
    """What the system learns from, for the training of a fold."""
    if not job.plan.requires():
        return {}
    from orchestrator.training.required import required

    return required(Path(job.run), job.plan, fold)


def _keep_validation(job: Job, fold: int, trial: TrialDir, fitted: Fitted) -> None:
    """Validation clip scores of every epoch, and frames whose epoch other rows chose."""
    history, clips = fitted.history, job.folds[fold].validation
    if not history.validation_scores:  # a system without epochs: nothing was chosen
        return
    epochs = np.stack([scores.numpy() for scores in history.validation_scores])
    with whole(trial.epoch_scores(fold)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, scores=epochs)
    assert clips is not None
    if history.crossed_frames:
        sounds = job.sounds(job.config(trial))
        timed = [
            fitted.timed(scores.float().numpy(), any_of(sounds).duration(clip_id))
            for scores, clip_id in zip(history.crossed_frames, clips.clip_ids, strict=True)
        ]
        Predictions.of(
            clips.clip_ids, job.plan.classes, fold,
            frame_scores=tuple(frames for frames, _ in timed),
            events=events_of(timed), frame_hop=fitted.frame_hop, frame_start=fitted.frame_start,
            clip_scores=torch.stack(history.crossed_clips).numpy(),
        ).with_data(
            fingerprint=job.plan.fingerprint, splits=job.plan.splits["digest"]
        ).save(trial.crossed(fold))  # fmt: skip


def events_of(timed: Sequence[tuple[Any, Any]]) -> tuple[Any, ...] | None:
    """The events of each clip; ``None`` of a system whose frames hold none."""
    found = tuple(events for _, events in timed)
    return None if any(events is None for events in found) else found


def progress(plan: Plan, fold: int | None, step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What an epoch tells the sweep."""
    if fold == 0:
        return {"step": step, "metric": metrics[plan.metric], "loss": metrics["loss"]}
    return {"fold": fold, "step": step}
