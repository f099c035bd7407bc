"""The sweep: the study decides, Ray Tune executes. Two thin adapters join them.

Tune's own experiment snapshots are not read back: resuming asks the study what is left to do.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan, Resources
from orchestrator.runs.clock import Clock
from orchestrator.runs.files import disk_is_full
from orchestrator.runs.rundir import RunDir
from orchestrator.search.ray_session import start_ray
from orchestrator.search.study import MOST_ATTEMPTS, Search, TrialState, cause_of
from orchestrator.training.job import Job
from orchestrator.training.trial import run_trial
from systems.errors import UserError

OUT_OF_TIME = "time budget"  # why a trial was stopped that the pruner did not stop


class StudySearcher(Searcher):
    """Tune's questions, answered by the study: first the trials that a kill left running."""

    def __init__(
        self, search: Search, total: int, stop: Stop, progress: Progress, clock: Clock
    ) -> None:
        super().__init__(metric="metric", mode="max")
        self.search, self.total, self.stop, self.progress = search, total, stop, progress
        self.clock = clock
        self._left_running = search.running()

    def suggest(self, trial_id: str) -> Any:
        self.stop.install()  # Tune always puts a handler of its own for SIGUSR1 in its place
        if self.stop.requested or _is_over(self.search, self.clock):
            return Searcher.FINISHED
        if self._left_running:
            number, params = self.search.adopt(self._left_running.pop(0))
        elif self.search.asked() < self.total:
            number, params = self.search.ask()
        else:
            return Searcher.FINISHED
        published = bool(self.search.trials()[number].user_attrs.get("published"))
        self.progress.started(number, published)
        return {"number": number, "params": params}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: outcomes are told where they are reported, and an interruption is none."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher into snapshots that are not read back."""
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study is the memory."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""


class StudyScheduler(FIFOScheduler):
    """Each report goes to the study, which says whether the trial goes on."""

    def __init__(self, search: Search, stop: Stop, progress: Progress, clock: Clock) -> None:
        super().__init__()
        self.search, self.stop, self.progress, self.clock = search, stop, progress, clock

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: as the searcher."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        self.clock.beat()
        if "outcome" in result:
            self._settle(number, result)
            return TrialScheduler.CONTINUE
        if "fold" in result:  # a later fold: alive, but never judged
            self.progress.fold(number, result["fold"], result["step"])
        else:
            self.progress.step(number, result["step"], result["metric"], result["loss"])
            if self.search.report(number, result["step"], result["metric"]):
                self.search.stop(number)
                self.progress.ended(number, "stopped")
                return TrialScheduler.STOP
        if self.stop.requested:
            return TrialScheduler.STOP
        # Without a completed trial there is nothing to refit: then the budget waits for one.
        if _is_over(self.search, self.clock):
            self.search.stop(number, OUT_OF_TIME)
            self.progress.ended(number, "stopped", OUT_OF_TIME)
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process was lost; Tune starts another one unless it was the last attempt."""
        self.progress.say(f"trial {trial.config['number']} lost its process")

    def _settle(self, number: int, result: dict[str, Any]) -> None:
        if result["outcome"] == "complete":
            self.search.complete(number, result["value"])
            self.progress.ended(number, "complete", f"value {result['value']:.4f}")
        elif result["outcome"] == "diverged":
            self.search.diverge(number, result["cause"])
            self.progress.ended(number, "diverged", result["cause"])
        elif result["outcome"] == "halted":  # no fault of its own: it stays running, for --resume
            self.stop.fail(f"trial {number}: {result['cause']}")
        else:
            self.search.fail(number, result["cause"])
            self.progress.ended(number, "failed", result["cause"])


def tune_trial(config: dict[str, Any], job: Job) -> None:
    """The function that Tune runs, in an actor that is reused from trial to trial."""
    # An outcome is a report of its own: Tune's last result of a function repeats the one before.
    tune.report(run_trial(job, config["number"], config["params"], tune.report))


def search(
    run: RunDir, plan: Plan, job: Job, study: Search, stop: Stop, progress: Progress, clock: Clock
) -> None:
    """Run what is missing of the search: adopted trials first, then new ones.

    Raises:
        UserError: no trial completed, or the run was halted, by a full disk say.
    """
    if study.running() or (study.asked() < plan.trials and not _is_over(study, clock)):
        progress.phase(
            f"search: {plan.trials} trials, {plan.resources.concurrency} at a time", plan.trials
        )
        trainable = tune.with_parameters(tune_trial, job=job)
        sweep(
            trainable, run, plan.trials, plan.resources, plan.ray_address, study, stop, progress,
            clock,
        )  # fmt: skip
    clock.note()
    for number in study.running():
        if len(run.trial(number).attempts()) >= MOST_ATTEMPTS and not stop.requested:
            study.fail(number, f"its process was lost {MOST_ATTEMPTS} times")
            progress.ended(number, "failed", "its process was lost")
    stop.check()
    for number in study.running() if _is_over(study, clock) else []:
        study.stop(number, OUT_OF_TIME)
    for trial in study.trials():
        if trial.state in (TrialState.PRUNED, TrialState.FAIL):
            run.trial(trial.number).clear_checkpoints()
    if not study.best(1):
        causes = map(cause_of, study.trials())
        first = next((cause for cause in causes if cause), "no trial ended")
        raise UserError(f"no trial of {run.path} completed. The first cause: {first}")


def _is_over(study: Search, clock: Clock) -> bool:
    return clock.search_is_over() and bool(study.best(1))


def sweep(
    trainable: Any,
    run: RunDir,
    total: int,
    resources: Resources,
    ray_address: str | None,
    study: Search,
    stop: Stop,
    progress: Progress,
    clock: Clock,
) -> None:
    """Let Tune execute what the study asks for, up to so many trials in all.

    ``trainable`` takes a trial's number and parameters and reports its outcome.
    """
    cpus, gpus = resources.of_process()
    start_ray(resources.total_cpus, stop, ray_address)
    scratch = Path(tempfile.mkdtemp(prefix="soundsweep-"))
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": cpus, "GPU": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, total, stop, progress, clock),
            scheduler=StudyScheduler(study, stop, progress, clock),
            num_samples=-1,
            max_concurrent_trials=resources.concurrency,
            reuse_actors=resources.workers == 1,  # a stopped trial's workers end with its actor
            trial_name_creator=lambda trial: f"trial_{trial.config['number']:05d}",
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MOST_ATTEMPTS - 1),
        ),
    )
    try:
        tuner.fit()
    except TuneError as error:
        raise _cause(error, run.path) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cause(error: BaseException, path: Path) -> BaseException:
    """What a user can mend of what Tune has wrapped; the error itself where nothing is."""
    cause: BaseException | None = error
    while cause is not None:
        full = disk_is_full(cause, path)
        if full or isinstance(cause, UserError):
            return UserError(full) if full else cause
        cause = cause.__cause__ or cause.__context__
    return error
