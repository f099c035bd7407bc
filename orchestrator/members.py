"""After the search: the best trials, completed over all folds, scored out of fold, refitted.

Out-of-fold rows must not have chosen what they score. The search takes a trial's best epoch on the
very rows that it scores; here each row is scored by an epoch that other rows chose.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from orchestrator.counts import save_counts
from orchestrator.interrupts import Interrupted, Stop
from orchestrator.plan import Plan, Resources
from orchestrator.progress import Progress
from orchestrator.rundir import RunDir, read_json, write_json
from orchestrator.study import Search
from orchestrator.sweep import start_ray
from orchestrator.training import Job
from orchestrator.trial import (
    best_step,
    cause_in_words,
    disk_is_full,
    read_epoch_scores,
    run_final,
    train_fold,
)
from systems import config as configs
from systems.data.splits import cross_fitting_folds
from systems.errors import UserError
from systems.metrics import clip_interval, clip_metric
from systems.metrics.tagging import tag_counts

CONFIGURED = "as configured"


@dataclass(frozen=True)
class OutOfFold:
    """Rows that no model which scores them has seen: members' scores [N, M, K] and the truth.

    ``last_steps`` [M]: the share of the schedule that a refit of each member runs.
    """

    members: tuple[int, ...]
    clip_ids: tuple[str, ...]
    groups: tuple[str, ...]
    scores: np.ndarray
    targets: np.ndarray
    last_steps: tuple[int, ...]


def choose(
    run: RunDir, plan: Plan, job: Job, study: Search, groups: Mapping[str, str], stop: Stop,
    progress: Progress,
) -> OutOfFold:  # fmt: skip
    """Complete the best ``top_k`` trials over all folds and write members.json."""
    members = [trial.number for trial in study.best(plan.top_k)]
    missing = [
        (number, fold)
        for number in members
        for fold in range(len(job.folds))
        if not run.trial(number).predictions(fold).exists()
    ]
    if missing:
        progress.phase(f"folds: {len(missing)} of the best {len(members)} trials", len(missing))
        in_parallel(train_fold, job, missing, plan.resources, stop, progress)
    rows = out_of_fold(run, plan, job, members, groups)
    if run.members.exists():
        before = [member["trial"] for member in read_json(run.members)["members"]]
        if before != members:
            run.forget_scores()  # they are of other members
    save_counts(
        run.validation_counts,
        rows.clip_ids,
        [{"who": f"trial {number}", "variant": "out of fold", "learner": None, "best": place == 0}
         for place, number in enumerate(members)],
        [(tag_counts(rows.targets, rows.scores[:, m] > 0.5), None) for m in range(len(members))],
    )  # fmt: skip
    selected = {trial.number: trial.value for trial in study.best(plan.top_k)}
    write_json(
        run.members,
        {
            "members": [
                {
                    "trial": number,
                    "selected_value": selected[number],
                    "best_steps": [
                        best_step(run.trial(number), f, plan) for f in range(len(job.folds))
                    ],
                    "last_step": rows.last_steps[m],
                    "out_of_fold": clip_interval(
                        plan.metric, rows.targets, rows.scores[:, m]
                    )._asdict(),
                }
                for m, number in enumerate(members)
            ]
        },
    )
    return rows


def out_of_fold(
    run: RunDir, plan: Plan, job: Job, members: Sequence[int], groups: Mapping[str, str]
) -> OutOfFold:
    """Members' scores on every validation row, each by an epoch that other rows chose.

    With several folds the epoch of a fold is the median of the other folds' best epochs. With one,
    its clips are halved by group and each half is scored by the other half's best epoch.
    """
    validations = [fold.validation for fold in job.folds]
    ids = [clip_id for v in validations if v is not None for clip_id in v.clip_ids]
    targets = np.concatenate([v.targets for v in validations if v is not None])
    scores, last_steps = [], []
    for number in members:
        trial = run.trial(number)
        epochs = [read_epoch_scores(trial, fold) for fold in range(len(job.folds))]
        best = [best_step(trial, fold, plan) for fold in range(len(job.folds))]
        last_steps.append(round(statistics.median(best)))
        if len(epochs) > 1:
            chosen = [
                round(statistics.median(b for g, b in enumerate(best) if g != fold))
                for fold in range(len(best))
            ]
            parts = [e[min(step, len(e)) - 1] for e, step in zip(epochs, chosen, strict=True)]
            scores.append(np.concatenate(parts))
        else:
            halves = cross_fitting_folds(targets, [groups[i] for i in ids], plan.seed, most=2)
            scores.append(_by_other_half(epochs[0], targets, halves, plan))
    return OutOfFold(
        tuple(members), tuple(ids), tuple(groups[i] for i in ids), np.stack(scores, axis=1),
        targets, tuple(last_steps),
    )  # fmt: skip


def _by_other_half(
    epochs: np.ndarray, targets: np.ndarray, halves: np.ndarray, plan: Plan
) -> np.ndarray:
    metric, sign = clip_metric(plan.metric), 1 if plan.mode == "max" else -1
    out = np.empty_like(epochs[0])
    for half in (0, 1):
        chooses = halves != half
        values = [sign * metric(targets[chooses], scores[chooses]) for scores in epochs]
        out[~chooses] = epochs[int(np.argmax(values))][~chooses]
    return out


def finish(
    run: RunDir, plan: Plan, job: Job, rows: OutOfFold, stop: Stop, progress: Progress
) -> None:
    """Make every member's final model and predict the test part.

    The best member of a search predicts under every decision variant of the paper, the others under
    one; trainings without a search, which differ in their seed, predict under all.
    """
    variants = decision_variants(plan)
    tasks = []
    for place, (number, last_step) in enumerate(zip(rows.members, rows.last_steps, strict=True)):
        wanted = variants_of(plan, variants, place)
        if not all(run.trial(number).test_predictions(v).exists() for v in wanted):
            tasks.append((number, last_step, wanted))
    if tasks:
        what = "refit on all labelled clips" if plan.final_is_refit() else "predict the test part"
        progress.phase(f"{what}: {len(tasks)} members", len(tasks))
        in_parallel(run_final, job, tasks, plan.resources, stop, progress)


def variants_of(plan: Plan, variants: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The decision variants under which the member at this place predicts the test part."""
    every = place == 0 or plan.purpose == "train"
    return dict(variants) if every else dict(list(variants.items())[:1])


def decision_variants(plan: Plan) -> dict[str, dict[str, Any]]:
    """The paper's variants that differ in the decision alone; the plan's own comes first.

    What adapts on the test part's sound (``target``) is there only where it was asked for.
    """
    entry = plan.entry()
    config = plan.trial_config(plan.first_trial)
    if entry.decision is None:
        return {CONFIGURED: {}}
    prefix = entry.decision + "."
    variants = {
        name: dict(overrides)
        for name, overrides in entry.figures.items()
        if all(key.startswith(prefix) for key in overrides)
        and (plan.transductive or not is_transductive(plan, overrides))
    }
    searched = any(parameter.key.startswith(prefix) for parameter in plan.space)
    own = [
        name
        for name, overrides in variants.items()
        if not searched and configs.replace(config, overrides) == config
    ]
    first = {own[0]: variants[own[0]]} if own else {CONFIGURED: {}}
    return {**first, **variants}


def is_transductive(plan: Plan, overrides: Mapping[str, Any]) -> bool:
    """Whether a variant adapts on the sound of the clips that it is scored on."""
    decision = plan.entry().decision
    if decision is None:
        return False
    decided = configs.replace(plan.trial_config(plan.first_trial), overrides)
    return bool(configs.get(decided, f"{decision}.on") == "target")


def in_parallel(
    function: Callable[..., Any],
    job: Job,
    tasks: Sequence[tuple[Any, ...]],
    resources: Resources,
    stop: Stop,
    progress: Progress,
) -> None:
    """Run ``function(job, *task)`` for every task on Ray; each goes on from its checkpoint.

    Raises:
        Interrupted: a signal came; what runs is ended, its checkpoints stay.
        UserError: a task failed, with its cause.
    """
    start_ray(resources.total_cpus, stop, job.plan.ray_address)
    cpus, gpus = resources.of_process()
    remote = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
    shared = ray.put(job)
    left, waiting = list(tasks), dict[Any, tuple[Any, ...]]()
    progress.count(0, len(tasks))
    try:
        while left or waiting:
            while left and len(waiting) < resources.concurrency:
                task = left.pop(0)
                waiting[remote.remote(shared, *task)] = task
            done, _ = ray.wait(list(waiting), timeout=0.5)
            for reference in done:
                task = waiting.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    raise UserError(f"trial {task[0]}: {_cause(job, error)}") from error
                progress.count(len(tasks) - len(left) - len(waiting), len(tasks))
            if stop.requested:
                raise Interrupted
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _cause(job: Job, error: BaseException) -> str:
    inner = getattr(error, "cause", None) or error
    return disk_is_full(inner, Path(job.run)) or cause_in_words(inner)
