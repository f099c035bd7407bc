"""After the search: the best trials, completed over all folds, and their final models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.correlations import correlations
from orchestrator.members.rows import Member, OutOfFold, members_of, selected_value
from orchestrator.members.seen import Snapshots
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, variants_of
from orchestrator.runs.counts import counted, save_counts, sizes
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search
from orchestrator.search.tasks import cpus_of_tasks, in_parallel
from orchestrator.training.final import run_final, run_refit
from orchestrator.training.job import Job
from orchestrator.training.relevance import run_relevance
from orchestrator.training.trial import best_step, train_fold
from systems import data
from systems.metrics import metric


def choose(
    run: RunDir, job: Job, study: Search, stop: Stop, progress: Progress
) -> tuple[Member, ...]:
    """The best ``top_k`` trials, completed over all folds."""
    plan = run.plan
    numbers = [trial.number for trial in study.best(plan.stage.top_k)]
    complete(job, members_of(run, numbers), stop, progress)
    if run.members.exists():
        before = [member["trial"] for member in read_json(run.members)["members"]]
        if before != numbers:
            run.forget_scores()  # they are of other members
            run.judged.unlink(missing_ok=True)
    return members_of(run, numbers)


def missing_folds(members: Sequence[Member]) -> list[tuple[int, int]]:
    """The trials, and their folds, that members lack predictions of."""
    return [
        (member.number, fold)
        for member in members
        for fold in range(len(member.plan.splits["folds"]))
        if not member.run.trial(member.number).predictions(fold).exists()
    ]


def complete(job: Job, members: Sequence[Member], stop: Stop, progress: Progress) -> None:
    """Train the folds that members of one run lack."""
    missing = missing_folds(members)
    if missing:
        trials = len({number for number, _ in missing})
        progress.phase(f"folds: {len(missing)} of {trials} of the best trials", len(missing))
        cpus = [_cpus_of_folds(members, job.plan).get(task, job.plan.resources.cpus)
                for task in missing]  # fmt: skip
        in_parallel(train_fold, job, missing, cpus, job.plan.resources, stop, progress)


def _cpus_of_folds(members: Sequence[Member], plan: Plan) -> dict[tuple[int, int], int]:
    """The CPUs of each training of a fold that the search does not make."""
    planned = [
        (member.number, fold)
        for member in members
        for fold in range(plan.splits["searched"], len(plan.splits["folds"]))
    ]
    return dict(zip(planned, cpus_of_tasks(len(planned), plan.resources), strict=True))


def note(run: RunDir, rows: OutOfFold) -> None:
    """Write members.json, and per clip what each member gets right and wrong."""
    plan = run.plan
    judged = np.flatnonzero(rows.targets.counted())
    also = data.card(plan.dataset).metrics
    truth = rows.targets.truth(plan.classes)
    groups = [rows.targets.groups[row] for row in judged]
    counts = [
        {name: all_[judged] for name, all_ in counted(said, truth, plan.metric, also).items()}
        for said in map(rows.said, range(len(rows.members)))
    ]
    save_counts(
        run.validation_counts,
        [rows.clip_ids[row] for row in judged],
        groups,
        [{"who": member.name, "variant": "out of fold", "learner": None,
          "best": place == rows.best}
         for place, member in enumerate(rows.members)],
        counts,
    )  # fmt: skip
    own = [metric(plan.metric).interval(of[plan.metric], groups) for of in counts]
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
                    "out_of_fold": interval._asdict(),
                    "correlations": correlations(rows, place, judged),
                }
                for place, (member, last_step, interval) in enumerate(
                    zip(rows.members, rows.last_steps, own, strict=True)
                )
            ],
            "judged": sizes(rows.targets.rows(judged).truth(plan.classes), groups),
        },
    )


def final_tasks(
    plan: Plan, rows: OutOfFold, run: RunDir, snapshots: Snapshots
) -> list[tuple[tuple[Any, ...], int]]:
    """What is missing of the final models, and test predictions, of the members that are a run's:
    tasks, and the CPUs of each.

    The best member of a search predicts under every decision variant of the paper, the others under
    one; trainings without a search, which differ in their seed, predict under all. ``snapshots``
    are the epochs of trainings whose models a meta-learner asks for.
    """
    tasks = []
    ours = [place for place, m in enumerate(rows.members) if m.run.path == run.path]
    cpus = dict(zip(ours, cpus_of_tasks(len(ours), plan.resources), strict=True))
    for place, (member, last_step) in enumerate(zip(rows.members, rows.last_steps, strict=True)):
        if place not in cpus:
            continue
        wanted = variants_of(plan, decision_variants(member.plan), place)
        trial = member.run.trial(member.number)
        epochs = {fold: chosen for (of, fold), chosen in snapshots.items() if of == place}
        tested = bool(plan.test_parts)
        files = [trial.final(v, plan.stage.final, tested) for v in wanted]
        files += [
            trial.snapshot_predictions(e, f) if tested
            else trial.snapshot_model(e, f) / "model.json"
            for f, chosen in epochs.items() for e in chosen
        ]  # fmt: skip
        if not all(file.exists() for file in files):
            task = (member.number, last_step, wanted, plan.stage.final, epochs)
            # Snapshots of folds are to be what the folds' trainings were after these epochs.
            as_folds = any(fold is not None for fold in epochs)
            tasks.append((task, plan.resources.cpus if as_folds else cpus[place]))
    return tasks


def finish(
    plan: Plan, job: Job, tasks: Sequence[tuple[tuple[Any, ...], int]], stop: Stop,
    progress: Progress,
) -> None:  # fmt: skip
    """Make the final models that are missing of a run's members, and predict the test part."""
    if tasks:
        predicts = "predict the test part" if plan.test_parts else "final models"
        what = "refit on all labelled clips" if plan.final_is_refit() else predicts
        progress.phase(f"{what}: {len(tasks)} members", len(tasks))
        cpus = [wanted for _, wanted in tasks]
        in_parallel(run_final, job, [t for t, _ in tasks], cpus, plan.resources, stop, progress)


def explain(run: RunDir, job: Job, best: Member, stop: Stop, progress: Progress) -> None:
    """Note which frequencies the best trial decides by, where its system can say so."""
    trial, number = best.run.trial(best.number), best.number
    if not getattr(job.plan.entry().build(job.config(trial)), "activation_maps", False):
        run.relevance.unlink(missing_ok=True)  # of another trial
    elif not run.relevance.exists() or read_json(run.relevance)["trial"] != number:
        progress.phase("which frequencies the best trial decides by", 1)
        cpus = cpus_of_tasks(1, job.plan.resources)
        in_parallel(run_relevance, job, [(number,)], cpus, job.plan.resources, stop, progress)


def refit(job: Job, number: int, last_step: int, stop: Stop, progress: Progress) -> None:
    """Make the model of all labelled clips of one trial, which another system learns from."""
    progress.phase(f"refit of {job.plan.name}, trial {number}, on all labelled clips", 1)
    cpus = cpus_of_tasks(1, job.plan.resources)
    in_parallel(run_refit, job, [(number, last_step)], cpus, job.plan.resources, stop, progress)
