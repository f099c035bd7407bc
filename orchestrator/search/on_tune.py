"""Ray Tune as the executor of a study. Two thin adapters join them.

Tune's own experiment snapshots are not read back: resuming asks the study what is left to do.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.plan.plan import Resources
from orchestrator.runs.files import disk_is_full
from orchestrator.search.last_words import last_words
from orchestrator.search.ray_session import start_ray
from orchestrator.search.referee import Referee
from orchestrator.search.study import MOST_ATTEMPTS
from systems.errors import UserError


class StudySearcher(Searcher):
    """Tune's questions, answered by the study."""

    def __init__(self, referee: Referee) -> None:
        super().__init__(metric="metric", mode="max")
        self.referee = referee
        self._number: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        self.referee.stop.install()  # Tune always puts a handler of its own for SIGUSR1 there
        found = self.referee.next()
        if found is None:
            return Searcher.FINISHED
        self._number[trial_id] = found[0]
        return {"number": found[0], "params": found[1]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Only that a trial's processes are all lost: outcomes are told where they are reported,
        and an interruption is none."""
        if error:
            self.referee.gave_up(self._number[trial_id])

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

    def __init__(self, referee: Referee) -> None:
        super().__init__()
        self.referee = referee

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: as the searcher."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self.referee.goes_on(trial.config["number"], result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process was lost; Tune starts another one unless it was the last attempt."""
        told = ""
        with contextlib.suppress(OSError, TypeError):  # none is written where no process began
            told = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        told = told.rpartition("Failure # ")[2]  # the last of several
        self.referee.lost(trial.config["number"], last_words(told))


def _run(config: dict[str, Any], trial: Any, shared: Any) -> None:
    """The function that Tune runs, in an actor that is reused from trial to trial."""
    # An outcome is a report of its own: Tune's last result of a function repeats the one before.
    tune.report(trial(shared, config["number"], config["params"], tune.report))


def execute(
    trial: Any, shared: Any, referee: Referee, resources: Resources, ray_address: str | None,
    path: Path,
) -> None:  # fmt: skip
    """Let Tune run ``trial(shared, number, params, report) -> outcome`` until nothing is next.

    Raises:
        UserError: what a user can mend, such as a full disk at ``path``.
    """
    cpus, gpus = resources.of_process()
    start_ray(resources.total_cpus, referee.stop, ray_address)
    scratch = Path(tempfile.mkdtemp(prefix="soundsweep-"))
    trainable = tune.with_parameters(_run, trial=trial, shared=shared)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"CPU": cpus, "GPU": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(referee),
            scheduler=StudyScheduler(referee),
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
        raise _cause(error, path) from error
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
