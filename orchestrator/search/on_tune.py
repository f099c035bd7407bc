"""Ray Tune as the executor of a study. Two thin adapters join them.

Tune's own experiment snapshots are not read back: resuming asks the study what is left to do.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.plan.plan import Resources
from orchestrator.runs.files import disk_is_full
from orchestrator.search.actors import memory_is_a_loss
from orchestrator.search.last_words import last_words
from orchestrator.search.places import Places
from orchestrator.search.ray_session import start_ray
from orchestrator.search.referee import Referee
from orchestrator.search.study import MOST_ATTEMPTS
from orchestrator.search.tune_function import run
from orchestrator.search.watchdog import Watchdog
from systems.errors import UserError

LOOK = 1.0  # seconds between two looks for trials that hang


class StudySearcher(Searcher):
    """Tune's questions, answered by the study."""

    def __init__(self, referee: Referee, places: Places) -> None:
        super().__init__(metric="metric", mode="max")
        self.referee, self.places = referee, places
        self._number: dict[str, int] = {}  # of the trials that have not ended

    def suggest(self, trial_id: str) -> Any:
        self.referee.stop.install()  # Tune always puts a handler of its own for SIGUSR1 there
        if len(self._number) >= self.places.count() or self.referee.waits():
            return None  # not now
        found = self.referee.next()
        if found is None:
            return Searcher.FINISHED
        self._number[trial_id] = found[0]
        self.places.waits(found[0])
        return {"number": found[0], "params": found[1]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Only that a trial's processes are all lost: outcomes are told where they are reported,
        and an interruption is none."""
        number = self._number.pop(trial_id, None)  # Tune may tell it twice
        if number is not None:
            self.places.leaves(number)
            if error:
                self.referee.gave_up(number)

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

    def __init__(self, referee: Referee, places: Places) -> None:
        super().__init__()
        self.referee, self.places = referee, places
        self.watchdog = Watchdog()
        self._hung: dict[int, bool] = {}  # whether such a trial is tried again
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: as the searcher."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        self.watchdog.hears(number, self.referee.is_new(number, result))
        goes_on = self.referee.goes_on(number, result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process was lost; Tune starts another one unless it was the last attempt."""
        number = trial.config["number"]
        self.watchdog.ends(number)
        self.places.waits(number)
        if number in self._hung:  # it was ended here, and the referee knows
            return
        told = ""
        with contextlib.suppress(OSError, TypeError):  # none is written where no process began
            told = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        told = told.rpartition("Failure # ")[2]  # the last of several
        self.referee.lost(number, last_words(told))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.watchdog.ends(trial.config["number"])

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Tune asks this at every step; it starts waiting trials in their order by itself.

        Those that shall not begin any more are taken out, and those that hang are ended.
        """
        if self.referee.stop.requested or not all(self._hung.values()):
            for trial in self._live(tune_controller, Trial.PENDING):
                given_up = not self._hung.get(trial.config["number"], True)
                if self.referee.stop.requested or given_up:
                    tune_controller.stop_trial(trial)
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._end_hung(tune_controller)

    def _end_hung(self, tune_controller: Any) -> None:
        silent = self.watchdog.silent()
        if silent and self.places.workers_wait():
            return  # who of them trains, and who waits for the others, is not known
        for trial in self._live(tune_controller, Trial.RUNNING) if silent else []:
            number = trial.config["number"]
            if number in silent:
                self.watchdog.ends(number)
                self._hung[number] = self.referee.hung(number, self.watchdog.patience())
                ray.kill(trial.temporary_state.ray_actor)

    def _live(self, tune_controller: Any, status: str) -> list[Any]:
        return [trial for trial in tune_controller.get_live_trials() if trial.status == status]


class Starts(TrialProgressCallback):
    """Tune tells here alone that a trial's process works.

    In the place of Tune's own reporter, which prints a line for each trial that never began.
    """

    def __init__(self, scheduler: StudyScheduler) -> None:
        super().__init__()
        self.scheduler = scheduler

    def log_result(self, trial: Any, result: Any, error: bool = False) -> None:
        """Nothing."""

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Nothing."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self.scheduler.places.leaves(number)
        self.scheduler.watchdog.begins(number)
        self.scheduler.referee.begins(number)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self.scheduler.places.tell()


def execute(
    trial: Any, shared: Any, referee: Referee, resources: Resources, ray_address: str | None,
    path: Path,
) -> None:  # fmt: skip
    """Let Tune run ``trial(shared, number, params, report) -> outcome`` until nothing is next.

    Raises:
        UserError: what a user can mend, such as a full disk at ``path``.
    """
    start_ray(resources.total_cpus, referee.stop, ray_address)
    places = Places(resources, ray_address, referee.progress)
    scheduler = StudyScheduler(referee, places)
    scratch = Path(tempfile.mkdtemp(prefix="soundsweep-"))
    trainable = tune.with_parameters(run, trial=trial, shared=shared)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _bundle(resources)),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(referee, places),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=resources.workers == 1,  # a stopped trial's workers end with its actor
            trial_name_creator=lambda trial: f"trial_{trial.config['number']:05d}",
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MOST_ATTEMPTS - 1),
            callbacks=[Starts(scheduler)],
        ),
    )
    try:
        with memory_is_a_loss():
            tuner.fit()
    except TuneError as error:
        raise _cause(error, path) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _bundle(resources: Resources) -> dict[str, float]:
    """What a trial's own process asks Tune for, which takes no empty bundle: a byte is none."""
    cpus, gpus = resources.of_process()
    return {"CPU": cpus, "GPU": gpus} if cpus else {"memory": 1}


def _cause(error: BaseException, path: Path) -> BaseException:
    """What a user can mend of what Tune has wrapped; the error itself where nothing is."""
    cause: BaseException | None = error
    while cause is not None:
        full = disk_is_full(cause, path)
        if full or isinstance(cause, UserError):
            return UserError(full) if full else cause
        cause = cause.__cause__ or cause.__context__
    return error
