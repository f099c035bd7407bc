"""After the search: the best trials, completed over all folds, and their final models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from orchestrator.counts import save_counts
from orchestrator.interrupts import Interrupted, Stop
from orchestrator.plan import Plan, Resources
from orchestrator.progress import Progress
from orchestrator.rundir import RunDir, read_json, write_json
from orchestrator.stacking.base import Snapshots
from orchestrator.stacking.rows import Member, OutOfFold, members_of, selected_value
from orchestrator.study import Search
from orchestrator.sweep import start_ray
from orchestrator.training import Job
from orchestrator.trial import best_step, cause_in_words, disk_is_full, run_final, train_fold
from systems import config as configs
from systems.errors import UserError
from systems.metrics import clip_interval, score_counts

CONFIGURED = "as configured"


def choose(
    run: RunDir, plan: Plan, job: Job, study: Search, stop: Stop, progress: Progress
) -> tuple[Member, ...]:
    """The best ``top_k`` trials, completed over all folds."""
    numbers = [trial.number for trial in study.best(plan.top_k)]
    complete(job, missing_folds(members_of(run, plan, numbers)), stop, progress)
    if run.members.exists():
        before = [member["trial"] for member in read_json(run.members)["members"]]
        if before != numbers:
            run.forget_scores()  # they are of other members
            run.judged.unlink(missing_ok=True)
    return members_of(run, plan, numbers)


def missing_folds(members: Sequence[Member]) -> list[tuple[int, int]]:
    """The trials, and their folds, that members lack predictions of."""
    return [
        (member.number, fold)
        for member in members
        for fold in range(len(member.plan.splits["folds"]))
        if not member.run.trial(member.number).predictions(fold).exists()
    ]


def complete(job: Job, missing: Sequence[tuple[int, int]], stop: Stop, progress: Progress) -> None:
    """Train the folds that members of one run lack."""
    if missing:
        trials = len({number for number, _ in missing})
        progress.phase(f"folds: {len(missing)} of {trials} of the best trials", len(missing))
        in_parallel(train_fold, job, missing, job.plan.resources, stop, progress)


def note(run: RunDir, plan: Plan, rows: OutOfFold) -> None:
    """Write members.json, and per clip what each member gets right and wrong."""
    counted = np.flatnonzero(rows.targets.counted())
    truth, scores = rows.targets.values[counted], rows.scores[counted]
    counts = [score_counts(plan.metric, truth, scores[:, m]) for m in range(len(rows.members))]
    save_counts(
        run.validation_counts,
        [rows.clip_ids[row] for row in counted],
        [{"who": member.name, "variant": "out of fold", "learner": None,
          "best": place == rows.best}
         for place, member in enumerate(rows.members)],
        [(tags, None) for tags in counts],
    )  # fmt: skip
    write_json(
        run.members,
        {
            "members": [
                {
                    "trial": member.key,
                    "system": member.plan.system,
                    "selected_value": selected_value(member),
                    "best_steps": [
                        best_step(member.run.trial(member.number), fold, member.plan)
                        for fold in range(len(member.plan.splits["folds"]))
                    ],
                    "last_step": last_step,
                    "out_of_fold": clip_interval(plan.metric, truth, scores[:, m])._asdict(),
                }
                for m, (member, last_step) in enumerate(
                    zip(rows.members, rows.last_steps, strict=True)
                )
            ]
        },
    )


def final_tasks(
    plan: Plan, rows: OutOfFold, run: RunDir, snapshots: Snapshots
) -> list[tuple[Any, ...]]:
    """What is missing of the final models, and test predictions, of the members that are a run's.

    The best member of a search predicts under every decision variant of the paper, the others under
    one; trainings without a search, which differ in their seed, predict under all. ``snapshots``
    are the epochs of trainings whose models a meta-learner asks for.
    """
    tasks = []
    for place, (member, last_step) in enumerate(zip(rows.members, rows.last_steps, strict=True)):
        if member.run.path != run.path:
            continue
        wanted = variants_of(plan, decision_variants(member.plan), place)
        trial = member.run.trial(member.number)
        epochs = {fold: chosen for (of, fold), chosen in snapshots.items() if of == place}
        files = [trial.test_predictions(v, plan.final) for v in wanted]
        files += [trial.snapshot_predictions(e, f) for f, chosen in epochs.items() for e in chosen]
        if not all(file.exists() for file in files):
            tasks.append((member.number, last_step, wanted, plan.final, epochs))
    return tasks


def finish(
    plan: Plan, job: Job, tasks: Sequence[tuple[Any, ...]], stop: Stop, progress: Progress
) -> None:
    """Make the final models that are missing of a run's members, and predict the test part."""
    if tasks:
        what = "refit on all labelled clips" if plan.final_is_refit() else "predict the test part"
        progress.phase(f"{what}: {len(tasks)} members", len(tasks))
        in_parallel(run_final, job, tasks, plan.resources, stop, progress)


def variants_of(plan: Plan, variants: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The decision variants under which the member at this place predicts the test part."""
    every = (place == 0 and plan.purpose == "search") or plan.purpose == "train"
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
