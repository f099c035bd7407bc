"""One trial: configuration -> system -> folds -> checkpoints, predictions, outcome.

It runs the same in a Tune trial and in a bare process; only ``report`` differs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.plan import Final, Plan
from orchestrator.rundir import TrialDir, best_line, disk_is_full, read_json, write_json
from orchestrator.stacking.pooling import Mean, mean_of
from orchestrator.training import Job, Report, Task, progress, tell_nobody, trained
from systems import config as configs
from systems.context import Context
from systems.data.store import WaveformStore
from systems.errors import Diverged, UserError
from systems.metrics import clip_interval
from systems.postprocessing.decoding import align_frames
from systems.postprocessing.refinement import Refinement
from systems.predictions import Predictions
from systems.system import Fitted


def run_trial(job: Job, number: int, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train one configuration on the folds that the search scores, and return its outcome.

    The outcome is ``complete`` with the value, ``diverged`` with the cause, or ``failed`` with the
    error; it is also in the trial's ``result.json``. Every exception ends in one of them, but for a
    disk that is full: ``halted`` with the cause, after which the trial is as a kill leaves it.
    """
    trial = job.trial(number)
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
        outcome = _outcome(job, trial, params, report)
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
    scores, best_steps = [], []
    for fold in range(plan.splits["searched"]):
        best_steps.append(train_fold(job, trial.number, fold, report))
        scores.append(_best_scores(trial, fold))
    targets = np.concatenate([job.folds[f].validation.targets for f in range(len(scores))])  # type: ignore[union-attr]
    value, low, high = clip_interval(plan.metric, targets, np.concatenate(scores))
    return {"outcome": "complete", "value": value, "interval": [low, high],
            "best_steps": best_steps}  # fmt: skip


def train_fold(job: Job, number: int, fold: int, report: Report = tell_nobody) -> int:
    """Train one fold to its end and keep model, epoch scores and predictions; its best step.

    A fold whose predictions are there is not trained again.
    """
    plan, data, trial = job.plan, job.folds[fold], job.trial(number)
    assert data.validation is not None
    if not trial.predictions(fold).exists():
        fitted = trained(job, Task(number, fold), report)
        predicted = fitted.predict(data.validation.clip_ids, job.store, job.context(), fold)
        predicted.with_data(
            fingerprint=plan.fingerprint, splits=plan.splits["digest"]
        ).save(trial.predictions(fold))  # fmt: skip
    shutil.rmtree(trial.path / f"fold{fold}", ignore_errors=True)
    return best_step(trial, fold, plan)


def best_step(trial: TrialDir, fold: int, plan: Plan) -> int:
    """The epoch of a fold with the best metric (of equals the first), from 1."""
    lines = [line for line in trial.read_metrics() if line["fold"] == fold]
    best = best_line(lines, plan.metric, plan.mode)
    assert best is not None
    return int(best["step"])


def read_epoch_scores(trial: TrialDir, fold: int) -> np.ndarray:
    """Validation clip scores after every epoch: [E, N, K]."""
    with np.load(trial.epoch_scores(fold), allow_pickle=False) as stored:
        scores: np.ndarray = stored["scores"]
    return scores


def _best_scores(trial: TrialDir, fold: int) -> np.ndarray:
    scores = Predictions.load(trial.predictions(fold)).clip_scores
    assert scores is not None
    return scores


def run_final(
    job: Job, number: int, last_step: int, variants: Mapping[str, Any],
    final: Final = "refit", snapshots: Mapping[int | None, Sequence[int]] | None = None,
) -> None:  # fmt: skip
    """Make a member's final models and predict the test part with them.

    After a search that is a training on all labelled clips for a share of the schedule (``refit``),
    or the mean of its folds' models (``fold_mean``, ``fold_geometric``); of a single training it is
    the held-out fold's model.

    Args:
        job: what the run shares.
        number: the trial whose configuration is trained.
        last_step: where the schedule of a refit ends.
        variants: decision variants to predict under: name -> overrides of the decision's keys.
        final: what predicts.
        snapshots: epochs of the refit (``None``) and of folds that predict too, for snapshot
            ensembles.

    What is there is not made again.
    """
    trial = job.trial(number)
    if not all(trial.test_predictions(variant, final).exists() for variant in variants):
        if final != "refit":
            _mean_of_folds(job, number, variants, final)
        else:
            _one_model(job, number, last_step, variants)
    for fold, epochs in (snapshots or {}).items():
        for epoch in epochs:
            path = trial.snapshot_predictions(epoch, fold)
            if not path.exists():
                fitted = trained(job, Task(number, fold, epoch, snapshot=True))
                _keep(job, fitted.predict(job.test, job.store, job.context()), path)
        folder = Task(number, fold, snapshot=True).folder(trial)
        (folder / "checkpoint.pt").unlink(missing_ok=True)


def _one_model(job: Job, number: int, last_step: int, variants: Mapping[str, Any]) -> None:
    plan, trial, context = job.plan, job.trial(number), job.context()
    refit = plan.purpose != "train"
    fitted = trained(job, Task(number, None, last_step) if refit else Task(number, 0))
    for variant, overrides in variants.items():
        decided = _decide(fitted, configs.replace(job.config(trial), overrides), job, context)
        write_json(trial.decision(variant), decided.decision())
        _keep(job, decided.predict(job.test, job.store, context), trial.test_predictions(variant))
    (trial.refit / "checkpoint.pt").unlink(missing_ok=True)


def _mean_of_folds(job: Job, number: int, variants: Mapping[str, Any], final: Final) -> None:
    """The folds' models, averaged; events are decided by the first fold's decision."""
    trial, context = job.trial(number), job.context()
    models = [trained(job, Task(number, fold)) for fold in range(len(job.folds))]
    for fold, fitted in enumerate(models):
        if not trial.fold_predictions(fold).exists():
            _keep(job, fitted.predict(job.test, job.store, context), trial.fold_predictions(fold))
    folds = [Predictions.load(trial.fold_predictions(fold)) for fold in range(len(models))]
    for variant, overrides in variants.items():
        config = configs.replace(job.config(trial), overrides)
        decided = _decide(models[0], config, job, context)
        write_json(trial.decision(variant, final), decided.decision())
        mean: Mean = "geometric" if final == "fold_geometric" else "arithmetic"
        merged = merged_folds(folds, mean, job.plan.exclusive(), decided, job.store)
        _keep(job, merged, trial.test_predictions(variant, final))


def merged_folds(
    folds: Sequence[Predictions], mean: Mean, exclusive: bool, decided: Fitted,
    store: WaveformStore,
) -> Predictions:  # fmt: skip
    """The mean of several models' predictions of the same clips; events as ``decided`` has them."""
    first = folds[0]
    clips = np.stack([fold.clip_scores for fold in folds if fold.clip_scores is not None])
    scores = mean_of(clips, mean, exclusive)
    if any(fold.frame_scores is None for fold in folds):
        return Predictions.of(first.clip_ids, first.classes, clip_scores=scores)
    hops = [fold.frame_hop for fold in folds]
    rows = zip(*(fold.frame_scores or () for fold in folds), strict=True)
    timed = [
        decided.timed(
            mean_of(align_frames(row, hops).swapaxes(0, 1), mean, exclusive).astype(np.float32),
            store.duration(clip_id),
        )
        for row, clip_id in zip(rows, first.clip_ids, strict=True)
    ]
    return Predictions.of(
        first.clip_ids, first.classes, clip_scores=scores, frame_hop=min(hops),
        frame_scores=tuple(frames for frames, _ in timed), events=tuple(e for _, e in timed),
    )  # fmt: skip


def _keep(job: Job, predicted: Predictions, path: Path) -> None:
    predicted.with_data(fingerprint=job.plan.fingerprint, splits="test").save(path)


def _decide(fitted: Fitted, config: Any, job: Job, context: Context) -> Fitted:
    """The fitted system with its decision adapted as the configuration says."""
    decision = job.plan.entry().decision
    if decision is None:
        return fitted
    settings: Refinement = configs.get(config, decision)
    clips = {
        "none": (),
        "labelled": job.refit.labelled.clip_ids,
        "unlabelled": job.refit.unlabelled["unlabelled"].clip_ids,
        "target": job.test,
    }[settings.on]
    return fitted.adapt(settings, clips, job.store, context)
