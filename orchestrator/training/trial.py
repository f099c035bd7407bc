"""One trial: configuration -> system -> folds -> checkpoints, predictions, outcome.

It runs the same in a Tune trial and in a bare process; only ``report`` differs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.plan.plan import Plan, steps_of
from orchestrator.runs.files import best_line, disk_is_full, read_json, write_json
from orchestrator.runs.rundir import TrialDir
from orchestrator.training.crossed import crossed_scores
from orchestrator.training.elsewhere import Node
from orchestrator.training.fold import progress
from orchestrator.training.gpu_memory import forget_peak, peak
from orchestrator.training.job import Job, Report, Task, tell_nobody
from orchestrator.training.trained import trained
from systems import config as configs
from systems.errors import Diverged, UserError
from systems.kinds import kind
from systems.metrics import metric
from systems.predictions import Predictions
from systems.system import LAST, System


def run_trial_there(
    job: Job, number: int, params: dict[str, Any], report: Report
) -> dict[str, Any]:
    """:func:`run_trial` on whatever node this is."""
    try:
        node = Node(job, number)
        outcome = run_trial(node.job, number, params, report)
        node.end()
    except (UserError, OSError) as error:  # no fault of the trial's
        full = disk_is_full(error, Path(job.run))
        if full is None and not isinstance(error, UserError):
            raise
        return {"outcome": "halted", "cause": full or str(error)}
    return outcome


def run_trial(job: Job, number: int, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train one configuration on the folds that the search scores, and return its outcome.

    The outcome is ``complete`` with the value (and the score, where the system has an objective of
    its own), ``diverged`` with the cause, or ``failed`` with the error; it is also in the trial's
    ``result.json``. Every exception ends in one of them, but for a disk that is full: ``halted``
    with the cause, after which the trial is as a kill leaves it.
    """
    trial = job.trial(number)
    if not job.is_seen():  # nothing may be written: it would lie where nobody looks
        return {"outcome": "halted", "cause": f"node {socket.gethostname()} does not see {job.run}"}
    for line in trial.read_metrics():  # what an earlier driver may not have heard
        if line["fold"] == 0:
            report(progress(job.plan, 0, line["step"], line))
    if trial.result.exists():
        outcome: dict[str, Any] = read_json(trial.result)
        return outcome
    try:
        attempt = trial.begin_attempt(
            {"pid": os.getpid(), "host": socket.gethostname(), "device": job.device,
             "threads": job.plan.resources.cpus, "generation": job.generation}
        )  # fmt: skip
        forget_peak()
        outcome = {**_outcome(job, trial, params, report), **peak()}
        job.check_generation()
        trial.end_attempt(attempt, outcome)
        write_json(trial.result, outcome)
    except OSError as error:
        full = disk_is_full(error, trial.path)
        if full is None:
            return _failed(error)
        trial.forget_attempt()  # no fault of the trial's
        return {"outcome": "halted", "cause": full}
    return outcome


def _outcome(job: Job, trial: TrialDir, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train, and say how it ended. Raises OSError where the disk is full."""
    try:
        return _train_folds(job, trial, params, report)
    except Diverged as error:
        return {"outcome": "diverged", "cause": str(error)}
    except UserError as error:
        return {"outcome": "failed", "cause": str(error)}
    except Exception as error:
        if disk_is_full(error, trial.path):
            raise
        return _failed(error)


def _failed(error: Exception) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    return {"outcome": "failed", "cause": cause_in_words(error), "traceback": trace}


def cause_in_words(error: BaseException) -> str:
    """An error in one line; of one that a user can mend, with what to do."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "out of GPU memory: give a trial more of a GPU (--gpus-per-trial 1), a smaller batch "
            "(--set training.labelled=...) or a narrower network"
        )
    return f"{type(error).__name__}: {error}".split("\n")[0]


def _train_folds(
    job: Job, trial: TrialDir, params: dict[str, Any], report: Report
) -> dict[str, Any]:
    plan = job.plan
    config = plan.trial_config(params)
    write_json(trial.config, {"params": params, "config": json.loads(configs.to_json(config))})
    folds = range(plan.splits["searched"])
    best_steps = [train_fold(job, trial.number, fold, report) for fold in folds]
    counts, groups = [], list[str]()
    for fold, of_fold in enumerate(_counts(job, trial, best_steps)):
        judged = job.folds[fold].validation
        assert judged is not None
        counting = judged.counting()
        counts.append(of_fold[counting])
        groups += [judged.groups[row] for row in counting]
    value, low, high = metric(plan.metric).interval(np.concatenate(counts), groups)
    outcome = {"outcome": "complete", "value": value, "interval": [low, high],
               "best_steps": best_steps}  # fmt: skip
    objective = plan.entry().objective
    if objective is not None:
        last = {line["fold"]: line["step"] for line in trial.read_metrics()}
        trained = statistics.fmean(last[fold] for fold in folds)
        limit = steps_of(plan.entry(), config)
        outcome["score"] = objective.score(value, trained, limit)
    return outcome


def train_fold(job: Job, number: int, fold: int, report: Report = tell_nobody) -> int:
    """Train one fold to its end and keep model, epoch scores and predictions; its best step.

    A fold whose predictions are there is not trained again.
    """
    plan, data, trial = job.plan, job.folds[fold], job.trial(number)
    assert data.validation is not None
    if not trial.predictions(fold).exists():
        fitted = trained(job, Task(number, fold), report)
        sounds = job.sounds(job.config(trial))
        predicted = fitted.predict(data.validation.clip_ids, sounds, job.context(), fold)
        predicted.with_data(
            fingerprint=plan.fingerprint, splits=plan.splits["digest"]
        ).save(trial.predictions(fold))  # fmt: skip
    shutil.rmtree(trial.path / f"fold{fold}", ignore_errors=True)
    return best_step(trial, fold, plan)


def best_step(trial: TrialDir, fold: int, plan: Plan) -> int:
    """The epoch of a fold that was chosen (of equals the first), from 1: of the best metric, or of
    what else its system selects by, or the last; 0 of a system without epochs."""
    lines = [line for line in trial.read_metrics() if line["fold"] == fold]
    if not lines:
        return 0
    loss = _system(trial, plan).selects
    if loss == LAST:
        return int(lines[-1]["step"])
    best = best_line(lines, loss or plan.metric, "min" if loss else metric(plan.metric).mode)
    assert best is not None
    return int(best["step"])


def read_epoch_scores(trial: TrialDir, fold: int) -> np.ndarray:
    """Validation clip scores after every epoch: [E, N, K]."""
    with np.load(trial.epoch_scores(fold), allow_pickle=False) as stored:
        scores: np.ndarray = stored["scores"]
    return scores


def keeps(trial: TrialDir, plan: Plan) -> int:
    """How many epochs of a trial's trainings predict."""
    return _system(trial, plan).keeps


def _system(trial: TrialDir, plan: Plan) -> System:
    """The system of a trial, not trained."""
    system: System = plan.entry().build(plan.trial_config(read_json(trial.config)["params"]))
    return system


def eligible(epochs: Sequence[np.ndarray], trial: TrialDir, plan: Plan) -> list[np.ndarray]:
    """Of each fold's scores after every epoch [E, N, K] those of the epochs that may predict: all,
    or the last ones of a system that keeps these."""
    system = _system(trial, plan)
    if system.selects != LAST:
        return list(epochs)
    return [of_fold[-system.keeps :] for of_fold in epochs]


def _counts(job: Job, trial: TrialDir, best_steps: Sequence[int]) -> list[np.ndarray]:
    """What the run's metric counts on each searched fold's clips [N, ...], each clip as an epoch
    says it that other clips chose."""
    about, folds = metric(job.plan.metric), range(len(best_steps))
    scored = all(trial.epoch_scores(fold).exists() for fold in folds)
    if scored and about.reads(job.folds[0].kind) == kind(job.folds[0].kind).dense:
        return _counts_of_epochs(job, trial, best_steps)
    found = []
    for fold in folds:  # what is decided after the scores, or what has no epochs
        crossed = trial.crossed(fold)
        said = Predictions.load(crossed if crossed.exists() else trial.predictions(fold))
        counts = about.counts(job.folds[fold].truth(), said)
        if counts is None:
            raise UserError(
                f"{job.plan.system} gives no {about.reads(job.folds[fold].kind)}, which "
                f"{about.name} reads."
            )
        found.append(counts)
    return found


def _counts_of_epochs(job: Job, trial: TrialDir, best_steps: Sequence[int]) -> list[np.ndarray]:
    about, data = metric(job.plan.metric), job.folds[: len(best_steps)]
    epochs = [read_epoch_scores(trial, fold) for fold in range(len(data))]
    epochs = eligible(epochs, trial, job.plan)

    def worth(fold: int, scores: np.ndarray, clips: np.ndarray | None) -> float | None:
        judged = data[fold].validation
        assert judged is not None
        some = judged.counting()
        if clips is not None:
            some = some[clips[some]]
        counts = about.count(data[fold].truth(), scores)[some]
        return about.sign * about.value(counts) if len(some) else None

    first = data[0].validation
    assert first is not None
    halves = data[0].halves  # of each row: of a series of its steps
    if halves is not None and first.lengths is not None:
        halves = halves[np.cumsum([0, *first.lengths[:-1]])]
    crossed = crossed_scores(
        epochs, best_steps, keeps(trial, job.plan), worth, halves, first.lengths
    )
    return [about.count(one.truth(), rows) for one, rows in zip(data, crossed, strict=True)]
