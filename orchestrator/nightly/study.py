"""A study's night: what was best is checked, the search goes on, what is best now is watched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from orchestrator.console.progress import Progress
from orchestrator.nightly.check import REFERENCES, Checked, Retrainings, check
from orchestrator.nightly.drive import End, Limit, drive_until, within
from orchestrator.nightly.record import Guard, StudyRecord, note_night
from orchestrator.nightly.settings import Settings, Study
from orchestrator.plan.plan import Plan
from orchestrator.plan.signature import differing
from orchestrator.planning.fusions import Graph
from orchestrator.planning.gather import begun_trials, study_of
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError

# What of a training a study may change from night to night: more trials, and what follows from it.
GROWS = {"trials", "sampler", "mixed_precision"}


class StudyNight:
    """The work of one study in one night. It is done in steps, each of which finds what of it is
    there: a night that was cut off is gone on with by doing it again.

    Args:
        name: of the study.
        asked: what the nightly file asks of it.
        settings: the file.
        night: its date.
        record: what is known of this study's night; it is changed.
        limit: when its time is up.
        progress: what is told.
        noted: called whenever the record has changed.
    """

    def __init__(
        self, name: str, asked: Study, settings: Settings, night: str, record: StudyRecord,
        limit: Limit, progress: Progress, noted: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name, self.asked, self.night, self.record = name, asked, night, record
        self.limit, self.progress, self.noted = limit, progress, noted
        self.root = root_of(settings.storage)
        self.since = "" if asked.since is None else asked.since.isoformat()
        self.options = asked.options(name, settings)
        if len(Graph(self.options).nodes) > 1:
            raise UserError(
                f"studies.{name}: {asked.system} learns from other systems; nights take those that "
                "learn from their data alone."
            )

    def work(self) -> End:
        """Check, go on, watch. Returns how it ended.

        Raises:
            UserError: what a user can mend. Where the check failed the study has gone on before.
        """
        fresh, dataset, splits = make_plan(self.options)
        self.record.metric, self.record.mode = fresh.metric, fresh.mode
        failed: UserError | None = None
        try:
            end = self._check(fresh, dataset, splits)
        except UserError as error:
            failed, end = error, "done"
        if end == "done":
            end = self._search(fresh, dataset, splits)
        if failed is not None:  # what is watched stays so, as after a regression
            raise failed
        if end == "done":
            end = self._watch(fresh, dataset, splits)
        return end

    def _check(self, fresh: Plan, dataset: Dataset, splits: Splits) -> End:
        """Compare what was best with itself, trained again by today's code."""
        guard = self.record.guard
        if guard is None or "regression" in self.record.check:
            return "done"
        source = RunDir(self.root / guard.run)
        if not source.plan_file.exists():
            self._say(f"nothing to compare with: the run {guard.run} is not there any more")
            return "done"
        other = differing(source.plan, fresh, "data", "split")
        if other:
            self._say(f"nothing to compare with: {', '.join(other)} changed since {guard.run}")
            return "done"
        made = Retrainings(self.root, guard)
        if len(made.references(self.night, self.since)) < REFERENCES:
            self._say("nothing to compare with: no reference trainings"
                      + (f" since {self.since}" if self.since else ""))  # fmt: skip
            return "done"
        found: Checked = check(
            made, fresh, dataset, splits, self.night, self.since, self.limit, self.progress
        )
        if found.end == "done" and found.verdict is not None:
            self.record.check = found.verdict.to_json()
            self.noted()
        return found.end

    def _search(self, fresh: Plan, dataset: Dataset, splits: Splits) -> End:
        """Begin the study, or go on where it stood, within unchanged data and space."""
        run = self._latest()
        if run is not None and not self._of_tonight(run):
            other = set(differing(run.plan, fresh, "data", "split", "training")) - GROWS
            if other:
                self._say(f"a new study: {', '.join(sorted(other))} changed since {run.path.name}")
                run = None
            elif differing(run.plan, fresh, "stage"):
                self._say("stage two is as the study began it: `soundsweep stack` fits others")
        if run is None:
            run = self._new_folder()
        first = note_night(run, self.night, begun_trials(run), fresh.git_commit)
        begun, total = run.plan_file.exists(), first + self.asked.trials
        plan = replace(
            run.plan if begun else fresh, name=run.path.name, trials=total,
            teaches=not self.asked.test, resources=fresh.resources, mlflow=fresh.mlflow,
            ray_address=fresh.ray_address, data=fresh.data,
        )  # fmt: skip
        self.record.run = run.path.name
        if begun and self.record.best_before is None:
            self.record.best_before = best_of(run)
        self.noted()
        end = drive_until(
            self.limit, run, within(plan, run, self.limit), dataset, splits, self.progress
        )
        self.record.best, self.record.stack = best_of(run), best_stack(run)
        self.record.trials = (first, begun_trials(run))
        if end == "done" and self.record.trials[1] < total:
            made = self.record.trials[1] - first
            self._say(f"{made} of {self.asked.trials} new trials: the time was up")
        self.noted()
        return end

    def _watch(self, fresh: Plan, dataset: Dataset, splits: Splits) -> End:
        """Make reference trainings of what is best now, for the nights to come.

        After a regression what was watched is watched on: until it is mended, or accepted.
        """
        best, guard = self.record.best, self.record.guard
        if best is None or self.record.regression:
            self.record.next_guard = guard
            return "done"
        wanted = Guard(self.record.run, best[0])
        made = Retrainings(self.root, wanted)
        missing = REFERENCES - len(made.references(self.night, self.since))
        if missing > 0:
            self.progress.say(f"nightly: {wanted.run} trial {wanted.trial} is watched from now on: "
                              f"{missing} reference trainings")  # fmt: skip
            end = made.train(missing, fresh, dataset, splits, self.night, self.limit, self.progress)
            if end != "done" or made.failures(self.night):
                self.record.next_guard = guard
                self.record.notes += made.failures(self.night)
                return end
        self.record.next_guard = wanted
        self.noted()
        return "done"

    def _latest(self) -> RunDir | None:
        """The study's latest run: NAME, or NAME-2 and so on after what it is of had changed."""
        found = {}
        for path in self.root.glob(f"{self.name}*/plan.json"):
            if number := re.fullmatch(re.escape(self.name) + r"(?:-(\d+))?", path.parent.name):
                found[int(number[1] or 1)] = path.parent
        return RunDir(found[max(found)]) if found else None

    def _of_tonight(self, run: RunDir) -> bool:
        """Whether this night has begun the run."""
        nights = run.nights()
        return bool(nights) and nights[0]["night"] == self.night

    def _new_folder(self) -> RunDir:
        latest = self._latest()
        if latest is None:
            return RunDir(self.root / self.name)
        number = latest.path.name.removeprefix(self.name).removeprefix("-")
        return RunDir(self.root / f"{self.name}-{int(number or 1) + 1}")

    def _say(self, text: str) -> None:
        if text not in self.record.notes:
            self.record.notes.append(text)
        self.progress.say(f"nightly: {self.name}: {text}")


def best_of(run: RunDir) -> tuple[int, float] | None:
    """Number and value of the best completed trial."""
    found = study_of(run).best(1) if run.study.exists() else []
    return next(((one.number, float(one.value)) for one in found if one.value is not None), None)


def best_stack(run: RunDir) -> tuple[str, float] | None:
    """The meta-learner that is best out of fold: its name and value."""
    plan = run.plan
    sign = 1 if plan.mode == "max" else -1
    scores = [read_json(one.scores) for one in run.learners() if one.scores.exists()]
    found = [(str(one["name"]), float(one["out_of_fold"]["value"])) for one in scores
             if one["metric"] == plan.metric]  # fmt: skip
    return max(found, key=lambda one: sign * one[1], default=None)
