"""The search of a meta-learner's settings and members, by the sweep that searches trainings.

It sees the rows that it is given and no others: judged by cross-fitting inside them. So it may be
called for each outer fold of a cross-fitting, which then is a nested one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Interrupted, Stop
from orchestrator.console.progress import Progress
from orchestrator.members.seen import Members, Targets, answer
from orchestrator.plan.plan import Resources
from orchestrator.plan.search import SamplerSettings
from orchestrator.plan.stage import Manner
from orchestrator.runs.clock import Clock
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.referee import Referee
from orchestrator.search.study import Search, cause_of, state_name
from orchestrator.search.sweep import sweep
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.chosen import OverChosen
from search_spaces import BEST_MEMBERS, learner_space
from systems import config as configs
from systems.errors import CannotFit, UserError
from systems.metrics import metric


@dataclass(frozen=True)
class Bench:
    """What the trials of one search share. ``order`` lists the members, best first."""

    folder: Path
    name: str
    settings: Any
    manner: Manner
    members: Members
    targets: Targets
    order: tuple[int, ...]
    seed: int

    def made(self, params: Mapping[str, Any]) -> Learner:
        """A fresh learner with these values, over the members that they ask for."""
        own = {key: value for key, value in params.items() if key != BEST_MEMBERS}
        made = learner(self.name, configs.replace(self.settings, own), self.manner)
        best = params.get(BEST_MEMBERS, len(self.order))
        return OverChosen(made, sorted(self.order[:best]), len(self.order))

    def fitted(self, params: Mapping[str, Any], members: Members, targets: Targets) -> Learner:
        made = self.made(params)
        made.fit(members, targets, self.seed)
        return made

    def worth(self, params: Mapping[str, Any]) -> float:
        """The metric of the rows, each by a learner that other groups' rows fitted."""
        crossed = cross_fitted(
            lambda m, t: self.fitted(params, m, t), self.members, self.targets, self.seed + 1
        )
        judged_by = self.made(params).judged_by
        if judged_by is not None:
            counted = np.flatnonzero(self.targets.counted())
            truth = self.targets.rows(counted).truth(self.members.classes)
            assert crossed.events is not None
            return metric(judged_by).worth(truth, [crossed.events[row] for row in counted])
        return self.targets.worth(answer(crossed, self.targets.kind))


def searched(
    folder: Path, name: str, settings: Any, manner: Manner, members: Members, targets: Targets,
    seed: int, trials: int, choose_members: bool, resources: Resources, stop: Stop,
    progress: Progress, ray_address: str | None,
) -> Learner:  # fmt: skip
    """The learner with the best settings and members on these rows, fitted on all of them.

    Its trials lie below ``folder``, with the study's journal: a killed search goes on. A registered
    fusion names its members, so that none may be left out (``choose_members``).

    Raises:
        Interrupted: a signal came.
        CannotFit: no trial completed, with the first cause.
    """
    count = members.scores.shape[1]
    space = learner_space(name, settings, count if choose_members else 1)
    order = _order(members, targets)
    bench = Bench(folder, name, settings, manner, members, targets, order, seed)
    if space is None:
        return bench.fitted({}, members, targets)
    folder.mkdir(parents=True, exist_ok=True)
    first = space.first(lambda key: count if key == BEST_MEMBERS else configs.get(settings, key))
    sampler = SamplerSettings(seed, max(3, min(10, trials // 4)))
    study = Search(folder / "study.log", space, sampler, None, first)
    if study.running() or study.asked() < trials:
        _sweep(bench, study, trials, resources, stop, progress, ray_address)
    stop.check()
    best = study.best(1)
    _note(folder, study)
    if not best:
        causes = (cause_of(trial) for trial in study.trials())
        raise CannotFit(f"no trial of its search completed: {next(filter(None, causes), 'none')}")
    return bench.fitted(best[0].params, members, targets)


def _sweep(
    bench: Bench, study: Search, trials: int, resources: Resources, stop: Stop,
    progress: Progress, ray_address: str | None,
) -> None:  # fmt: skip
    one_core = Resources(resources.concurrency, 1, 0)
    clock = Clock(bench.folder / "clock.json", None)
    quiet = Progress()  # nothing of a search's many small trials
    referee = Referee(study, trials, stop, quiet, clock)
    sweep(outcome, bench, referee, one_core, ray_address, bench.folder)
    if stop.requested:
        raise Interrupted


def outcome(
    bench: Bench, number: int, params: dict[str, Any], report: Any = None
) -> dict[str, Any]:
    """Judge one trial and keep its result; values that cannot be fitted fail with the cause."""
    trial = RunDir(bench.folder).trial(number)
    write_json(trial.config, {"params": params})
    try:
        found = {"outcome": "complete", "value": bench.worth(params)}
    except (UserError, ValueError, np.linalg.LinAlgError) as error:
        found = {"outcome": "failed", "cause": f"{type(error).__name__}: {error}"}
    write_json(trial.result, found)
    return found


def _note(folder: Path, study: Search) -> None:
    """The trials, for the report."""
    rows = [
        {"number": t.number, "params": t.params, "value": t.value, "state": state_name(t),
         "cause": cause_of(t)}
        for t in study.trials()
    ]  # fmt: skip
    write_json(folder / "trials.json", rows)


def _order(members: Members, targets: Targets) -> tuple[int, ...]:
    """The members by their metric on these rows, best first."""
    worth = [targets.worth(members.scores[:, m]) for m in range(members.scores.shape[1])]
    return tuple(int(m) for m in np.argsort([-w for w in worth], kind="stable"))
