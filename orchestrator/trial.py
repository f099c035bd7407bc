"""One trial: configuration -> system -> folds -> checkpoints, predictions, outcome.

It runs the same in a Tune trial and in a bare process; only ``report`` differs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan import Plan
from orchestrator.rundir import (
    RunDir,
    TrialDir,
    best_line,
    check_generation,
    read_json,
    write_json,
)
from systems import config as configs
from systems.context import Context, seed_of
from systems.data.splits import TrainingData
from systems.data.store import WaveformStore
from systems.errors import Diverged, UserError
from systems.metrics import clip_metric
from systems.postprocessing.refinement import Refinement
from systems.predictions import Predictions
from systems.system import Fitted

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """What trials of a run share: the plan, the sound, and what each fold may see.

    No test label is in here. ``test`` names the clips that a refit predicts once it is selected.
    """

    run: str
    generation: int
    plan: Plan
    folds: tuple[TrainingData, ...]
    refit: TrainingData
    store: WaveformStore
    test: tuple[str, ...]
    device: str

    def context(self, folder: Path, report: Callable[..., None], seed: int) -> Context:
        return Context(
            folder,
            device=self.device,
            seed=seed,
            threads=self.plan.resources.cpus,
            on_report=report,
            may_publish=partial(check_generation, Path(self.run), self.generation),
        )


def run_trial(job: Job, number: int, params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train one configuration on the folds that the search scores, and return its outcome.

    The outcome is ``complete`` with the value, ``diverged`` with the cause, or ``failed`` with the
    error; it is also in the trial's ``result.json``. Every exception ends in one of them.
    """
    trial = RunDir(Path(job.run)).trial(number)
    for line in trial.read_metrics():  # what an earlier driver may not have heard
        if line["fold"] == 0:
            report(_progress(job.plan, line["step"], line))
    if trial.result.exists():
        outcome: dict[str, Any] = read_json(trial.result)
        return outcome
    attempt = trial.begin_attempt(
        {"pid": os.getpid(), "host": socket.gethostname(), "device": job.device,
         "threads": job.plan.resources.cpus, "generation": job.generation}
    )  # fmt: skip
    try:
        outcome = _train_folds(job, trial, params, report)
    except Diverged as error:
        outcome = {"outcome": "diverged", "cause": str(error)}
    except UserError as error:
        outcome = {"outcome": "failed", "cause": str(error)}
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        outcome = {"outcome": "failed", "cause": cause, "traceback": traceback.format_exc()}
    check_generation(Path(job.run), job.generation)
    trial.end_attempt(attempt, outcome)
    write_json(trial.result, outcome)
    return outcome


def _train_folds(
    job: Job, trial: TrialDir, params: dict[str, Any], report: Report
) -> dict[str, Any]:
    plan = job.plan
    config = plan.trial_config(params)
    write_json(trial.config, {"params": params, "config": json.loads(configs.to_json(config))})
    scores, best_steps = [], []
    for fold in range(plan.splits["searched"]):
        best_steps.append(train_fold(job, trial, config, fold, report))
        scores.append(_best_scores(trial, fold))
    targets = np.concatenate([job.folds[f].validation.targets for f in range(len(scores))])  # type: ignore[union-attr]
    value = clip_metric(plan.metric)(targets, np.concatenate(scores))
    return {"outcome": "complete", "value": value, "best_steps": best_steps}


def train_fold(
    job: Job, trial: TrialDir, config: Any, fold: int, report: Report | None = None
) -> int:
    """Train one fold to its end and keep model, predictions and epoch scores; its best step.

    A fold whose predictions are there is not trained again. Folds after the first report that they
    are alive, no metric: they are never stopped early, only by an interruption.
    """
    plan, data = job.plan, job.folds[fold]
    assert data.validation is not None
    if not trial.predictions(fold).exists():

        def on_report(step: int, metrics: Mapping[str, float]) -> None:
            trial.append_metrics(fold, step, metrics)
            if report is not None:
                report(
                    _progress(plan, step, metrics) if fold == 0 else {"fold": fold, "step": step}
                )

        seed = seed_of(plan.seed, "trial", trial.number, fold)
        context = job.context(trial.path / f"fold{fold}", on_report, seed)
        fitted = plan.entry().build(config).train(data, job.store, context)
        check_generation(Path(job.run), job.generation)
        fitted.save(trial.model(fold))
        epochs = np.stack([scores.numpy() for scores in fitted.history.validation_scores])
        trial.predictions(fold).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(trial.epoch_scores(fold), scores=epochs)
        predicted = fitted.predict(data.validation.clip_ids, job.store, context, fold)
        predicted.with_data(
            fingerprint=plan.fingerprint, splits=plan.splits["digest"]
        ).save(trial.predictions(fold))  # fmt: skip
    shutil.rmtree(trial.path / f"fold{fold}", ignore_errors=True)
    return best_step(trial, fold, plan)


def _progress(plan: Plan, step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": step, "metric": metrics[plan.metric], "loss": metrics["loss"]}


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


def run_refit(job: Job, number: int, last_step: int, variants: Mapping[str, Any]) -> None:
    """Train a member on all labelled clips for a share of the schedule; predict the test part.

    Args:
        job: what the run shares.
        number: the trial whose configuration is trained.
        last_step: where the schedule ends.
        variants: decision variants to predict under: name -> overrides of the decision's keys.

    Does nothing where all predictions are there.
    """
    plan = job.plan
    trial = RunDir(Path(job.run)).trial(number)
    if all(trial.test_predictions(variant).exists() for variant in variants):
        return
    config = plan.trial_config(read_json(trial.config)["params"])
    system = plan.entry().build(config)
    seed = seed_of(plan.seed, "refit", number)
    context = job.context(trial.refit, lambda step, metrics: None, seed)
    context.last_step = last_step
    model = trial.refit / "model"
    fitted: Fitted
    if (model / "model.json").exists():
        fitted = system.load(model)
    else:
        fitted = system.train(job.refit, job.store, context)
        fitted.save(model)
    for variant, overrides in variants.items():
        decided = _decide(fitted, configs.replace(config, overrides), job, context)
        write_json(trial.decision(variant), decided.decision())
        predicted = decided.predict(job.test, job.store, context)
        predicted.with_data(fingerprint=plan.fingerprint, splits="test").save(
            trial.test_predictions(variant)
        )
    (trial.refit / "checkpoint.pt").unlink(missing_ok=True)


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
