"""The search: one Optuna study in a journal, as a function of its own history.

The study owns what to try next, what to stop and what happened. Nothing here knows Ray.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.search.evolving import LINEAGE, Given, individual
from orchestrator.search.halving import Halving
from orchestrator.search.journal import Journal
from orchestrator.search.states import STUDY_NAME, cause_of, state_name
from search_spaces import SearchSpace
from search_spaces.evolution import Child, Evolution
from systems.context import seed_of

__all__ = ["HalvingSettings", "SamplerSettings", "Search", "TrialState", "cause_of", "state_name"]


MOST_ATTEMPTS = 3


class Search:
    """Ask, report, prune, tell: the study as the sweep sees it. A trial is known by its number."""

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        sampler: SamplerSettings,
        halving: HalvingSettings | None,
        published: Mapping[str, Any],
        *,
        read_only: bool = False,
        may_append: Callable[[], None] = lambda: None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space = space
        self.sampler = sampler
        self.evolution = None
        if sampler.kind == "evolution":
            self.evolution = Evolution(space, sampler.limit, sampler.seed, published)
        self.journal = Journal(path, read_only=read_only, may_append=may_append)
        storage: BaseStorage = JournalStorage(self.journal)
        empty = not list(self.journal.read_logs(0))
        if empty and read_only:
            storage = optuna.storages.InMemoryStorage()
        if empty:  # creating appends, so only where nothing is there
            optuna.create_study(
                storage=storage,
                study_name=STUDY_NAME,
                direction="maximize" if space.mode == "max" else "minimize",
            )
        self.study = optuna.load_study(
            storage=storage,
            study_name=STUDY_NAME,
            pruner=Halving(halving) if halving else optuna.pruners.NopPruner(),
            sampler=optuna.samplers.RandomSampler(0),
        )
        if not self.trials() and not read_only:
            self.study.enqueue_trial(dict(published), user_attrs={"published": True})

    def trials(self) -> list[FrozenTrial]:
        """All trials in order, the waiting one too."""
        return self.study.get_trials(deepcopy=False)

    def asked(self) -> int:
        """How many trials have been started."""
        return sum(trial.state != TrialState.WAITING for trial in self.trials())

    def running(self) -> list[int]:
        """Numbers of the trials that an earlier driver left running."""
        return [trial.number for trial in self.trials() if trial.state == TrialState.RUNNING]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The next trial: its number and parameters. Not while it :meth:`waits`."""
        return self._drawn(self.asked(), lambda: self.study.ask())

    def adopt(self, number: int) -> tuple[int, dict[str, Any]]:
        """A trial that an earlier driver left running; what it had not drawn yet is drawn now."""
        return self._drawn(number, lambda: Trial(self.study, self._id(number)))

    def waits(self) -> bool:
        """Whether what comes next depends on trials that are still running."""
        return self.evolution is not None and self._child(self.asked()) is None

    def _drawn(self, number: int, begin: Callable[[], Trial]) -> tuple[int, dict[str, Any]]:
        if self.evolution is None:
            self.study.sampler = self._sampler(number)
            return number, self.space.suggest(_Seeded(self, begin()))
        child = self._child(number)
        assert child is not None
        self.study.sampler = Given(child.genome)
        trial = begin()
        self._note(number, LINEAGE, child.lineage())
        return number, self.space.suggest(trial)

    def _child(self, number: int) -> Child | None:
        assert self.evolution is not None
        before = [individual(trial) for trial in self.trials()[:number]]
        return self.evolution.child(before, number)

    def report(self, number: int, step: int, value: float) -> bool:
        """Note the best value so far at a step, and say whether the trial is to be stopped.

        A step that is there is left as it is; of those that a restarted trial tells again only the
        last is decided on. The published point is never stopped.
        """
        trial = self.trials()[number]
        sign = 1 if self.space.mode == "max" else -1
        if step not in trial.intermediate_values:
            before = [sign * v for v in trial.intermediate_values.values()]
            best = max([sign * value, *before])
            self.study._storage.set_trial_intermediate_value(self._id(number), step, sign * best)
        if trial.user_attrs.get("published") or step < (trial.last_step or 0):
            return False
        return self.study.pruner.prune(self.study, self.study._storage.get_trial(self._id(number)))

    def complete(self, number: int, value: float) -> None:
        self._tell(number, TrialState.COMPLETE, value)

    def stop(self, number: int, cause: str | None = None) -> None:
        """Stopped by the pruner, or for another cause, such as the end of the time budget."""
        if cause is not None and self._is_running(number):
            self._note(number, "stopped", cause)
        self._tell(number, TrialState.PRUNED)

    def diverge(self, number: int, cause: str) -> None:
        """The loss is not finite: told as pruned, which teaches the sampler to stay away."""
        if self._is_running(number):
            self._note(number, "diverged", cause)
        self._tell(number, TrialState.PRUNED)

    def fail(self, number: int, error: str) -> None:
        if self._is_running(number):
            self._note(number, "error", error)
        self._tell(number, TrialState.FAIL)

    def best(self, count: int) -> list[FrozenTrial]:
        """The best completed trials, best first; of equals the earlier."""
        sign = -1 if self.space.mode == "max" else 1
        done = [t for t in self.trials() if t.state == TrialState.COMPLETE and t.value is not None]
        return sorted(done, key=lambda t: (sign * (t.value or 0.0), t.number))[:count]

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        if self._is_running(number):  # Tune may report an end twice
            values = None if value is None else [value]
            self.study._storage.set_trial_state_values(self._id(number), state, values)

    def _is_running(self, number: int) -> bool:
        return self.trials()[number].state == TrialState.RUNNING

    def _note(self, number: int, key: str, value: Any) -> None:
        self.study._storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        return self.trials()[number]._trial_id

    def _sampler(self, number: int, key: str = "") -> BaseSampler:
        return TPESampler(
            seed=seed_of(self.sampler.seed, number, key) % 2**32,
            multivariate=True,
            group=True,
            n_startup_trials=self.sampler.n_startup_trials,
            constant_liar=True,
        )


class _Seeded:
    """A trial whose every parameter is drawn by a sampler seeded by (seed, trial, key).

    A kill between two suggestions leaves some drawn. What is drawn then must not depend on how many
    draws the same sampler has made before.
    """

    def __init__(self, search: Search, trial: Trial) -> None:
        self.search, self.trial = search, trial
        _ = trial.relative_params  # Optuna draws these together and lazily: draw them first

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self._seed(name)
        return self.trial.suggest_float(name, low, high, log=log)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self._seed(name)
        return self.trial.suggest_int(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self._seed(name)
        return self.trial.suggest_categorical(name, choices)

    def _seed(self, name: str) -> None:
        self.search.study.sampler = self.search._sampler(self.trial.number, name)
