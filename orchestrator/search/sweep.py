"""The sweep: the study decides, an executor carries out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import IN_PROCESS, Plan, Resources
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.search import in_process
from orchestrator.search.referee import OUT_OF_TIME, Referee, is_over
from orchestrator.search.study import MOST_ATTEMPTS, Search, TrialState, cause_of
from orchestrator.training.elsewhere import hand_over, publish_first
from orchestrator.training.job import Job
from orchestrator.training.trial import run_trial_there
from systems.errors import UserError

# (what trials share, number, parameters, report) -> outcome
Trial = Callable[[Any, int, dict[str, Any], Callable[[dict[str, Any]], None]], dict[str, Any]]


def search(
    run: RunDir, job: Job, study: Search, stop: Stop, progress: Progress, clock: Clock
) -> None:
    """Run what is missing of the search: adopted trials first, then new ones.

    Raises:
        UserError: no trial completed, or the run was halted, by a full disk say.
    """
    plan = run.plan
    if study.running() or (study.asked() < plan.trials and not is_over(study, clock)):
        progress.phase(
            f"search: {plan.trials} trials, {plan.resources.concurrency} at a time", plan.trials
        )
        if plan.ray_address != IN_PROCESS:
            _say_dashboard(plan, stop, progress)
        referee = Referee(
            study, plan.trials, stop, progress, clock, plan.resources.gpus, partial(hand_over, job)
        )
        publish_first(job)
        sweep(run_trial_there, job, referee, plan.resources, plan.ray_address, run.path)
        _settle_held(run, referee, stop)
    clock.note()
    for number in study.running():
        if len(run.trial(number).attempts()) >= MOST_ATTEMPTS and not stop.requested:
            study.fail(number, f"its process was lost {MOST_ATTEMPTS} times")
            progress.ended(number, "failed", "its process was lost")
    stop.check()
    for number in study.running() if is_over(study, clock) else []:
        study.stop(number, OUT_OF_TIME)
    for trial in study.trials():
        if trial.state in (TrialState.PRUNED, TrialState.FAIL):
            run.trial(trial.number).clear_checkpoints()
    if not study.best(1):
        causes = map(cause_of, study.trials())
        first = next((cause for cause in causes if cause), "no trial ended")
        raise UserError(f"no trial of {run.path} completed. The first cause: {first}")


def _say_dashboard(plan: Plan, stop: Stop, progress: Progress) -> None:
    from orchestrator.search.ray_session import dashboard, start_ray  # loads Ray

    start_ray(plan.resources.total_cpus, stop, plan.ray_address)
    if page := dashboard():
        progress.link("Ray dashboard", page)


def _settle_held(run: RunDir, referee: Referee, stop: Stop) -> None:
    """Trials that failed before any came to a report: of a halted search they are as if never
    begun, else they have failed."""
    if stop.cause is None:
        referee.release()
    for number in referee.held:
        run.trial(number).forget_failure(run.generation)


def sweep(
    trial: Trial, shared: Any, referee: Referee, resources: Resources, ray_address: str | None,
    path: Path,
) -> None:  # fmt: skip
    """Carry out what the study asks for, on Ray or in this process.

    Raises:
        UserError: what a user can mend, such as a full disk at ``path``.
    """
    if ray_address == IN_PROCESS:
        in_process.execute(trial, shared, referee)
        return
    from orchestrator.search import on_tune  # loads Ray

    on_tune.execute(trial, shared, referee, resources, ray_address, path)
