"""The run directory: the one truth of a run, and the only code that knows its files.

plan.json              what was asked for, resolved (RunDir.plan)
driver                 lock and lease of the one driver: its generation, signs of life (driver.py)
stop                   a request that its driver ends after the running epoch
console.log, phase     what it tells, for other terminals (console/log.py)
nights.json            which night began with which trial, where nights add trials
study.log              the search's memory
trials/00007/          config.json, attempts/, metrics.jsonl, foldN/checkpoint*,
                       model/foldN/, predictions/foldN.npz, result.json,
                       refit/ (metrics.jsonl, model/, predictions/)
members.json           the best trials, with their out-of-fold scores
stack/NAME/            a fitted meta-learner: learner.json, scores.json or refused.json,
                       out_of_fold.npz, test.npz, search/ of its settings
stack.aside/NAME.1/    one that could not be read when it was asked for again
stack/comparisons.json their gains, corrected for how many they are
stack/diagnostics.json what the report draws of stage two
statistics.npz         statistics of the clips, where a meta-learner uses them
scores.json            the scores of the test part
counts/                per clip and class what members and scored models got right and wrong
tracking.json          what MLflow was last shown, and how the files were then
relevance.json         which frequencies the best trial decides by, where its network says so
clock.json             seconds that the run has worked
store.json             which waveform stores it reads
results.json           every number of the report
report/                HTML, CSV, PNG
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.runs.driver import Driver, DriverFile, check_generation, is_driven
from orchestrator.runs.files import append_step, read_json, read_lines, write_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.lease import Superseded, is_alive, machine
from orchestrator.runs.mirror import mirror_of
from systems.errors import UserError

if TYPE_CHECKING:  # what only looks for a run loads neither numpy nor the registry
    from orchestrator.plan.plan import Plan
    from orchestrator.runs.publisher import PublishingDriver


def snapshot_name(epoch: int | str, fold: int | None) -> str:
    """What a training's snapshot is called: ``epoch10`` of a refit, ``fold2_epoch10`` of a fold."""
    return f"epoch{epoch}" if fold is None else f"fold{fold}_epoch{epoch}"


def snapshot_of(name: str) -> tuple[int | None, int] | None:
    """The fold (``None``: the refit) and epoch of a snapshot's name; ``None`` of another name."""
    found = re.fullmatch(r"(?:fold(\d+)_)?epoch(\d+)", name)
    if found is None:
        return None
    return (None if found[1] is None else int(found[1])), int(found[2])


class TrialDir:
    """The files of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = int(path.name)
        self.config = path / "config.json"
        self.result = path / "result.json"
        self.metrics = path / "metrics.jsonl"
        self.refit = path / "refit"
        self.refit_metrics = self.refit / "metrics.jsonl"

    def predictions(self, fold: int) -> Path:
        """Out-of-fold predictions of one fold, as its best epoch gives them."""
        return self.path / "predictions" / f"fold{fold}.npz"

    def epoch_scores(self, fold: int) -> Path:
        """Validation clip scores of one fold after every epoch: [E, N, K]."""
        return self.path / "predictions" / f"fold{fold}_epochs.npz"

    def crossed(self, fold: int) -> Path:
        """Out-of-fold predictions whose epoch each row's other half of the fold chose."""
        return self.path / "predictions" / f"fold{fold}_crossed.npz"

    def model(self, fold: int) -> Path:
        """The fold's trained model."""
        return self.path / "model" / f"fold{fold}"

    def test_predictions(self, variant: str, final: str = "refit") -> Path:
        """Test predictions of the final models under one decision variant."""
        how = "test" if final == "refit" else f"test_{final}"
        name = re.sub(r"[^\w.-]+", "_", variant)
        return self.refit / "predictions" / f"{how}_{name}.npz"

    def decision(self, variant: str, final: str = "refit") -> Path:
        """What a decision variant of the final models adapted to."""
        return self.test_predictions(variant, final).with_suffix(".json")

    def final(self, variant: str, final: str, tested: bool) -> Path:
        """What is there once the final models are made and, where something is tested, said it."""
        of = self.test_predictions if tested else self.decision
        return of(variant, final)

    def fold_predictions(self, fold: int) -> Path:
        """Test predictions of one fold's model."""
        return self.refit / "predictions" / f"test_fold{fold}.npz"

    def snapshot_model(self, epoch: int, fold: int | None = None) -> Path:
        """The refit, or a fold's training, as it was after an epoch."""
        return self.refit / snapshot_name(epoch, fold) / "model"

    def snapshot_predictions(self, epoch: int, fold: int | None = None) -> Path:
        """Test predictions of the refit, or of a fold's model, as it was after an epoch."""
        return self.refit / "predictions" / f"test_{snapshot_name(epoch, fold)}.npz"

    def snapshots_predicted(self, fold: int | None = None) -> dict[int, Path]:
        """Test predictions of the refit's (a fold's) epochs that are there, by epoch."""
        start = f"test_{snapshot_name('', fold)}"
        paths = (self.refit / "predictions").glob(f"{start}*.npz")
        return {int(path.stem.removeprefix(start)): path for path in sorted(paths)}

    def append_metrics(self, fold: int, step: int, values: Mapping[str, float]) -> None:
        """Add a step's raw metrics; a step that is there already is left as it is."""
        append_step(self.metrics, fold, step, values)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All steps of all folds in order; a line that a kill tore off is left out."""
        return read_lines(self.metrics)

    def clear_checkpoints(self) -> None:
        """Remove the checkpoints of a trial that has ended."""
        for path in self.path.glob("**/checkpoint*"):
            path.unlink()

    def begin_attempt(self, about: Mapping[str, Any]) -> int:
        """Note that a process starts on this trial; returns which attempt it is."""
        folder = self.path / "attempts"
        attempt = 1 + len(list(folder.glob("*.json"))) if folder.exists() else 1
        write_json(folder / f"{attempt}.json", {"started": time.time(), **about})
        return attempt

    def forget_attempt(self) -> None:
        """Take the last attempt back: it ended by no fault of the trial's."""
        paths = list((self.path / "attempts").glob("*.json"))
        if paths:
            max(paths, key=lambda path: int(path.stem)).unlink()

    def forget_failure(self, generation: int) -> None:
        """Take a failure back that was not the trial's, and this driver's attempts with it."""
        self.result.unlink(missing_ok=True)
        for path in (self.path / "attempts").glob("*.json"):
            if read_json(path).get("generation") == generation:
                path.unlink()

    def end_attempt(self, attempt: int, about: Mapping[str, Any]) -> None:
        """Add how an attempt ended."""
        path = self.path / "attempts" / f"{attempt}.json"
        write_json(path, {**read_json(path), "ended": time.time(), **about})

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts in order."""
        folder = self.path / "attempts"
        paths = sorted(folder.glob("*.json"), key=lambda p: int(p.stem)) if folder.exists() else []
        return [read_json(path) for path in paths]


class RunDir:
    """A run directory. Reading needs nothing; writing needs :meth:`drive`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_file = path / "plan.json"
        self.stop_request = path / "stop"
        self.console_log = path / "console.log"
        self.phase = path / "phase"
        self.nights_file = path / "nights.json"
        self.study = path / "study.log"
        self.members = path / "members.json"
        self.trivial = path / "trivial.json"
        self.scores = path / "scores.json"
        self.validation_counts = path / "counts" / "validation.npz"
        self.test_counts = path / "counts" / "test.npz"
        self.submission = path / "submission"
        self.clock = path / "clock.json"
        self.statistics = path / "statistics.npz"
        self.comparisons = path / "stack" / "comparisons.json"
        self.judged = path / "judged.json"
        self.diagnostics = path / "stack" / "diagnostics.json"
        self.relevance = path / "relevance.json"
        self.store = path / "store.json"
        self.results = path / "results.json"
        self.report = path / "report"
        self._driver: Driver | PublishingDriver | None = None
        self.generation = 0
        self.note = ""  # what a user should know of how it is driven

    @cached_property
    def plan(self) -> Plan:
        """What was asked for, read once.

        Raises:
            UserError: it is not there, or no plan that this version reads.
        """
        from orchestrator.plan.plan import Plan

        try:
            return Plan.from_json(self._with_runs(read_json(self.plan_file), self._found))
        except FileNotFoundError:
            raise UserError(
                f"the run {self.path} is not there any more: it has no plan.json."
            ) from None
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.plan_file} is no plan that this version reads ({type(error).__name__}: "
                f"{error}). Restore the file, or move the folder away."
            ) from error

    def write_plan(self, plan: Plan) -> None:
        """Write what is asked for from now on."""
        write_json(self.plan_file, self._with_runs(plan.to_json(), self._name_of))
        self.plan = plan

    def _with_runs(self, plan: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
        """A plan in JSON with the runs that it names changed: its members', and what it requires.

        In the file those of the same root stand by their names, so that the root may be moved.
        """
        members = [{**member, "run": change(member["run"])} for member in plan.get("members", ())]
        required = {name: change(run) for name, run in plan.get("required", {}).items()}
        return {**plan, "members": members, "required": required}

    def _found(self, run: str) -> str:
        return str(self.root / run)  # an absolute path stays as it is

    def _name_of(self, run: str) -> str:
        return Path(run).name if Path(run).parent == self.root else run

    def nights(self) -> list[dict[str, Any]]:
        """The nights that have added trials: ``night``, its ``first`` trial and ``git_commit``."""
        return list(read_json(self.nights_file)) if self.nights_file.exists() else []

    def night_of(self, number: int) -> dict[str, Any] | None:
        """The night that a trial is of; ``None`` where none made it."""
        made = [one for one in self.nights() if one["first"] <= number]
        return made[-1] if made else None

    @property
    def root(self) -> Path:
        """The storage root that holds this run, the stores, the ledger and the MLflow store."""
        return self.path.parent

    @property
    def ledger(self) -> Path:
        """Every opening of test labels, over all runs of the root."""
        return self.root / "test_ledger.jsonl"

    def further_counts(self, part: str) -> Path:
        """Counts of a test part beside the main one."""
        name = re.sub(r"[^\w.-]+", "_", part)
        return self.path / "counts" / f"test_{name}.npz"

    def trial(self, number: int) -> TrialDir:
        return TrialDir(self.path / "trials" / f"{number:05d}")

    def trials(self) -> Iterator[TrialDir]:
        """All trials that have a folder, in order."""
        folder = self.path / "trials"
        for path in sorted(folder.iterdir()) if folder.exists() else []:
            yield TrialDir(path)

    def stack(self, name: str) -> Path:
        return self.path / "stack" / name

    def learner(self, name: str) -> LearnerDir:
        return LearnerDir(self.stack(name))

    def learners(self) -> list[LearnerDir]:
        """All meta-learners that have a folder."""
        folder = self.path / "stack"
        paths = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.exists() else []
        return [LearnerDir(path) for path in paths]

    def forget_scores(self) -> None:
        """Stage two and the test scores, which are made again where they are missing."""
        self.scores.unlink(missing_ok=True)
        stack, aside = self.path / "stack", self.path / "stack.old"
        if aside.exists():
            shutil.rmtree(aside)
        if stack.exists():  # at once: a kill must not leave scores beside half a learner
            stack.rename(aside)
            shutil.rmtree(aside)

    def drive(self) -> RunDir:
        """Become the run's one driver until the process ends or :meth:`close`.

        Raises:
            UserError: another process drives it, on this machine or another.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        copy = mirror_of(self.root)
        if copy is None:
            self._driver = Driver(self.path)
        else:
            from orchestrator.runs.publisher import PublishingDriver

            self._driver = PublishingDriver(copy, self.path)
            self.__dict__.pop("plan", None)  # another machine's, maybe
        self.generation, self.note = self._driver.generation, self._driver.note
        return self

    def check_driver(self) -> None:
        """Raise UserError where this process was the run's driver and is so no more."""
        if self._driver is None:
            return
        try:
            check_generation(self.path, self.generation)
        except Superseded as error:
            raise UserError(
                f"another process has taken the run {self.path} over (this one could not renew its "
                "lease in time): it goes on there, and ends here."
            ) from error
        if not isinstance(self._driver, Driver):
            self._driver.check()

    def refresh(self) -> None:
        """Of a root in an object store: fetch what others have published of the run, and of those
        that its plan names."""
        copy = mirror_of(self.root)
        if copy is None:
            return
        copy.refresh(self.path.name)
        self.__dict__.pop("plan", None)
        plan = read_json(self.plan_file) if self.plan_file.exists() else {}
        named = [*plan.get("required", {}).values(), *(m["run"] for m in plan.get("members", ()))]
        for name in dict.fromkeys(named):
            if Path(name).name == name:  # else a run of another root
                RunDir(self.root / name).refresh()

    def publish(self) -> None:
        """Of a root in an object store: publish what has changed; its driver does so by itself."""
        copy = mirror_of(self.root)
        if copy is not None:
            copy.publish(f"{self.path.name}/")

    @property
    def address(self) -> str:
        """Where the run is, for people: its folder, or its address in an object store."""
        copy = mirror_of(self.root)
        return str(self.path) if copy is None else f"{copy.address}/{self.path.name}"

    def is_driven(self, but_by: int | None = None) -> bool:
        """Whether a process other than ``but_by`` drives the run now, here or on another node."""
        copy = mirror_of(self.root)
        here = is_driven(self.path, but_by)
        if here or copy is None:
            return here
        slate = copy.lease(self.path.name)
        about = slate.read()
        if (about.get("machine"), about.get("pid")) == (machine(), but_by):
            return False
        return is_alive(slate)

    def about_driver(self) -> dict[str, Any]:
        """Generation, host, pid and heartbeat (Unix time, s; 0 once it has given the run up) of its
        driver, or of its last one; empty if it never had any."""
        return DriverFile(self.path).read()

    def close(self) -> None:
        """Give the run up. Raises UserError where an object store does not take what is left."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()
