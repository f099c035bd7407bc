"""The final models of a member, and what they predict of the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan.stage import Final
from orchestrator.runs.files import write_json
from orchestrator.training.fold import events_of
from orchestrator.training.job import Job, Task
from orchestrator.training.trained import trained
from systems import config as configs
from systems.context import Context
from systems.postprocessing.decoding import align_frames, finest
from systems.postprocessing.pooling import Mean, mean_of
from systems.postprocessing.refinement import Refinement
from systems.predictions import Predictions
from systems.system import Fitted, Sounds
from systems.tracks import any_of


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

    What is there is not made again. Where nothing is tested the models are all.
    """
    trial = job.trial(number)
    sounds = job.sounds(job.config(trial))
    tested = bool(job.test)
    if not all(trial.final(variant, final, tested).exists() for variant in variants):
        if final != "refit":
            _mean_of_folds(job, number, variants, final)
        else:
            _one_model(job, number, last_step, variants)
    for fold, epochs in (snapshots or {}).items():
        for epoch in epochs:
            path = trial.snapshot_predictions(epoch, fold)
            if not path.exists():
                fitted = trained(job, Task(number, fold, epoch, snapshot=True))
                if tested:
                    _keep(job, fitted.predict(job.test, sounds, job.context()), path)
        Task(number, fold, snapshot=True).forget(trial)


def run_refit(job: Job, number: int, last_step: int) -> None:
    """Make a trial's model of all labelled clips; nothing is predicted."""
    trained(job, Task(number, None, last_step))
    Task(number, None).forget(job.trial(number))


def _one_model(job: Job, number: int, last_step: int, variants: Mapping[str, Any]) -> None:
    plan, trial, context = job.plan, job.trial(number), job.context()
    refit, sounds = plan.purpose != "train", job.sounds(job.config(trial))
    fitted = trained(job, Task(number, None, last_step) if refit else Task(number, 0))
    for variant, overrides in variants.items():
        decided = _decide(fitted, configs.replace(job.config(trial), overrides), job, context)
        write_json(trial.decision(variant), decided.decision())
        if job.test:
            _keep(job, decided.predict(job.test, sounds, context), trial.test_predictions(variant))
    Task(number, None).forget(trial)


def _mean_of_folds(job: Job, number: int, variants: Mapping[str, Any], final: Final) -> None:
    """The folds' models, averaged; events are decided by the first fold's decision."""
    trial, context = job.trial(number), job.context()
    sounds = job.sounds(job.config(trial))
    models = [trained(job, Task(number, fold)) for fold in range(len(job.folds))]
    for fold, fitted in enumerate(models):
        if job.test and not trial.fold_predictions(fold).exists():
            _keep(job, fitted.predict(job.test, sounds, context), trial.fold_predictions(fold))
    tested = range(len(models)) if job.test else ()
    folds = [Predictions.load(trial.fold_predictions(fold)) for fold in tested]
    for variant, overrides in variants.items():
        config = configs.replace(job.config(trial), overrides)
        decided = _decide(models[0], config, job, context)
        write_json(trial.decision(variant, final), decided.decision())
        if not folds:
            continue
        mean: Mean = "geometric" if final == "fold_geometric" else "arithmetic"
        merged = merged_folds(folds, mean, job.plan.exclusive(), decided, sounds)
        _keep(job, merged, trial.test_predictions(variant, final))


def merged_folds(
    folds: Sequence[Predictions], mean: Mean, exclusive: bool, decided: Fitted,
    sounds: Sounds,
) -> Predictions:  # fmt: skip
    """The mean of several models' predictions of the same clips; events as ``decided`` has them."""
    first = folds[0]
    hop, start = finest([fold.frame_hop for fold in folds], [fold.frame_start for fold in folds])
    kinds: dict[str, Any] = {"frame_hop": hop, "frame_start": start}
    for name in ("clip_scores", "clip_values", "ranking"):
        said = [one for fold in folds if (one := getattr(fold, name)) is not None]
        if said:
            scored = name == "clip_scores"
            kinds[name] = mean_of(np.stack(said), mean if scored else "arithmetic", exclusive)
    if all(fold.frame_scores is not None for fold in folds):
        timed = [
            decided.timed(frames, any_of(sounds).duration(clip_id))
            for frames, clip_id in zip(
                _mean_frames(folds, "frame_scores", mean, exclusive), first.clip_ids, strict=True
            )
        ]
        kinds["frame_scores"] = tuple(frames for frames, _ in timed)
        kinds["events"] = events_of(timed)
    if all(fold.frame_values is not None for fold in folds):
        kinds["frame_values"] = _mean_frames(folds, "frame_values", "arithmetic", False)
    return Predictions.of(first.clip_ids, first.classes, **kinds)


def _mean_frames(
    folds: Sequence[Predictions], kind: str, mean: Mean, exclusive: bool
) -> tuple[np.ndarray, ...]:
    """The mean over models of their frames, N arrays [T, K] at the finest hop."""
    hops, starts = [fold.frame_hop for fold in folds], [fold.frame_start for fold in folds]
    rows = zip(*(getattr(fold, kind) for fold in folds), strict=True)
    return tuple(
        mean_of(align_frames(row, hops, starts).swapaxes(0, 1), mean, exclusive).astype(np.float32)
        for row in rows
    )


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
    return fitted.adapt(settings, clips, job.sounds(config), context)
