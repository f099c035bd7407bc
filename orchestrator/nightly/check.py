"""Whether what was best yesterday is worse with today's code, data set, drivers.

The winner of a search is lucky: trained again it is worse as a rule. So tonight's trainings of its
configuration are compared with *reference* trainings of it, which an earlier night made and nothing
selected. All differ in their seeds alone, so on a night on which nothing has changed they are
exchangeable, and

1. one training of tonight is compared with the middle one of three references, by the paired
   bootstrap over groups of validation clips. Only if the whole 95 % interval says worse,
2. three more are trained tonight. A regression is flagged if each of the three is worse than each
   of the three references.

Of six exchangeable values three given ones are the worst three in 1 of 20 orders: a false alarm is
no more likely than that in any night of any study, whatever the spread of seeds is.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.progress import Progress
from orchestrator.nightly.drive import End, Limit, drive_until
from orchestrator.nightly.record import Guard, note_night
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import StageSettings
from orchestrator.planning.gather import begun_trials
from orchestrator.runs.counts import Stored, load_counts
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.metrics import metric
from systems.metrics.intervals import Difference

REFERENCES = 3
CONFIRMING = 3
EVERY = 10**6  # trials that are members: all are scored


@dataclass(frozen=True)
class Verdict:
    """What the rule says: see the module's text. ``values``: training -> value, in order."""

    metric: str
    references: dict[int, float]
    first: tuple[int, float]
    difference: Difference
    says_worse: bool
    confirming: dict[int, float]
    regression: bool

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "difference": self.difference._asdict()}


def screen(
    name: str, references: Sequence[np.ndarray], first: np.ndarray, groups: Sequence[str]
) -> tuple[Difference, bool]:
    """The paired difference of a training to the middle reference, and whether it says worse.

    Args:
        name: of the metric.
        references: counts [N, ...] of each reference.
        first: of tonight's training, over the same clips.
        groups: of each clip.
    """
    about = metric(name)
    middle = sorted(references, key=about.value)[len(references) // 2]
    found = about.difference(first, middle, groups)
    if found.low is None or found.high is None:
        return found, False  # of a single group nothing can be said
    return found, found.high < 0 if about.mode == "max" else found.low > 0


def confirms(name: str, references: Sequence[float], tonight: Sequence[float]) -> bool:
    """Whether every one of tonight's values is worse than every reference."""
    sign = 1 if metric(name).mode == "max" else -1
    enough = len(references) >= REFERENCES and len(tonight) >= CONFIRMING
    return enough and max(sign * v for v in tonight) < min(sign * v for v in references)


class Retrainings:
    """Trainings of a guard's configuration that differ in their seeds: a run of their own, which
    opens no test labels. The one that has the seed of the guard's own trial is left out."""

    def __init__(self, root: Path, guard: Guard) -> None:
        self.guard, self.source = guard, RunDir(root / guard.run)
        self.run = RunDir(root / f"{guard.run}-check-{guard.trial}")

    def train(
        self, count: int, like: Plan, dataset: Dataset, splits: Splits, night: str, limit: Limit,
        progress: Progress,
    ) -> End:  # fmt: skip
        """See to it that the night has ``count`` trainings, by the code and plan of today.

        Raises:
            UserError: the configuration cannot be trained any more, say.
        """
        first = note_night(self.run, night, begun_trials(self.run), like.git_commit)
        wanted = first + count
        if first <= self.guard.trial < wanted:
            wanted += 1
        if self._are_there(wanted):
            return "done"
        plan = self._plan(like, wanted)
        return drive_until(limit, self.run, plan, dataset, splits, progress)

    def _are_there(self, count: int) -> bool:
        """Whether so many trainings have ended, and those that ended well are counted."""
        stored = self._stored() if self.run.plan_file.exists() else {}
        results = [self.run.trial(number).result for number in range(count)]
        return all(
            path.exists() and (n in stored or read_json(path)["outcome"] != "complete")
            for n, path in enumerate(results)
        )

    def _plan(self, like: Plan, trials: int) -> Plan:
        """The plan of today with the guard's values in place of the search."""
        params = read_json(self.source.trial(self.guard.trial).config)["params"]
        config = configs.replace(like.base_config(), params)
        known = self.run.plan if self.run.plan_file.exists() else None
        return replace(
            like,
            name=self.run.path.name,
            run_id=known.run_id if known else uuid.uuid4().hex,
            created=known.created if known else time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            config=json.loads(configs.to_json(config)),
            space=(), first_trial={}, moved={}, halving=None, time_budget=None,
            trials=max(trials, known.trials if known else 0),
            stage=StageSettings(top_k=EVERY, final=like.stage.final),
            teaches=True,
        )  # fmt: skip

    def _stored(self) -> dict[int, np.ndarray]:
        found = self._load()
        own = self.run.plan.metric
        return {int(row.who.split()[-1]): row.counts[own] for row in found.rows} if found else {}

    def _load(self) -> Stored | None:
        path = self.run.validation_counts
        return load_counts(path) if path.exists() else None

    def counts(self) -> dict[int, np.ndarray]:
        """Counts [N, ...] of the out-of-fold rows of each finished training, by its number."""
        return {n: c for n, c in sorted(self._stored().items()) if n != self.guard.trial}

    def values(self) -> dict[int, float]:
        """Value of each finished training, by its number."""
        about = metric(self.run.plan.metric)
        return {number: about.value(counts) for number, counts in self.counts().items()}

    def groups(self) -> tuple[str, ...]:
        found = self._load()
        return found.groups if found else ()

    def of_night(self, night: str) -> list[int]:
        """The finished trainings of a night."""
        return [n for n in self.counts() if (self.run.night_of(n) or {}).get("night") == night]

    def references(self, night: str, since: str) -> list[int]:
        """The first finished trainings of the nights before one, none of them before ``since``."""
        found = []
        for number in self.counts() if self.run.plan_file.exists() else ():
            made = str((self.run.night_of(number) or {}).get("night"))
            if since <= made < night:
                found.append(number)
        return found[:REFERENCES]

    def failures(self, night: str) -> list[str]:
        """Why trainings of a night did not end well."""
        causes = []
        for trial in self.run.trials():
            of_night = (self.run.night_of(trial.number) or {}).get("night") == night
            if of_night and trial.result.exists():
                result = read_json(trial.result)
                if result["outcome"] != "complete":
                    causes.append(f"training {trial.number}: {result['cause']}")
        return causes


@dataclass(frozen=True)
class Checked:
    """How a check came out: how it ended, and what it says if it came so far."""

    end: End
    verdict: Verdict | None = None


def check(
    made: Retrainings, like: Plan, dataset: Dataset, splits: Splits, night: str, since: str,
    limit: Limit, progress: Progress,
) -> Checked:  # fmt: skip
    """Train the guard again tonight, and say whether it is worse than its references.

    Raises:
        UserError: it cannot be trained, or its training does not end well, which is a regression
            of another kind.
    """
    references = made.references(night, since)
    progress.say(f"nightly: {made.guard.run} trial {made.guard.trial} is trained again")
    end = made.train(1, like, dataset, splits, night, limit, progress)
    if end != "done":
        return Checked(end)
    counts, own = made.counts(), like.metric
    _raise_failures(made, night)
    first = made.of_night(night)[0]
    difference, worse = screen(
        own, [counts[n] for n in references], counts[first], made.groups()
    )  # fmt: skip
    about = metric(own)
    found = Verdict(own, {n: about.value(counts[n]) for n in references},
                    (first, about.value(counts[first])), difference, worse, {}, False)  # fmt: skip
    if not worse:
        return Checked("done", found)
    progress.say(f"nightly: {made.guard.run} seems worse: {CONFIRMING} more seeds are trained")
    end = made.train(1 + CONFIRMING, like, dataset, splits, night, limit, progress)
    if end != "done":
        return Checked(end, found)
    _raise_failures(made, night)
    values = made.values()
    confirming = {n: values[n] for n in made.of_night(night)[1 : 1 + CONFIRMING]}
    regression = confirms(own, [*found.references.values()], [*confirming.values()])
    return Checked("done", replace(found, confirming=confirming, regression=regression))


def _raise_failures(made: Retrainings, night: str) -> None:
    if causes := made.failures(night):
        raise UserError(f"the retraining of {made.run.path.name} failed: {'; '.join(causes)}")
