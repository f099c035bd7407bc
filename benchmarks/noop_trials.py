"""What the machinery costs a trial: no-op trials through the study, its adapters and Ray Tune.

A no-op trial leaves the records of a real one (configuration, attempt, three epochs, result) and
computes nothing. Beside it, in the same run, as many through Ray Tune alone with its own random
search, which leave no records. Times are of all trials but the first two, which start the workers.
MLflow is apart, since it runs in a process of its own: its first sync of all trials is timed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parse, parser, planned, ratio, row, run, scratch
from noop_work import KEY, STEPS, noop
from ray import tune

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.search import sweep
from orchestrator.search.ray_session import start_ray
from orchestrator.search.referee import Referee
from orchestrator.search.study import Search
from orchestrator.tracking import sync as tracking


@dataclass(frozen=True)
class Cost:
    """Seconds of so many no-op trials: of the sweep, and a trial by part."""

    trials: int
    sweep: float
    parts: dict[str, float]

    @property
    def trial(self) -> float:
        """Seconds a trial."""
        return self.sweep / (self.trials - 2)


def bare_noop(config: dict[str, Any]) -> None:
    """The same reports, without records."""
    for step in range(1, STEPS + 1):
        tune.report({"step": step, "metric": config[KEY], "loss": 0.0})
    tune.report({"outcome": "complete", "metric": config[KEY]})


class TimedSearch(Search):
    """Adds up the seconds spent in the study, and notes when each trial was asked for."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.spent = dict.fromkeys(("ask", "report", "tell"), 0.0)
        self.asked_at: dict[int, float] = {}

    def ask(self) -> tuple[int, dict[str, Any]]:
        number, params = self._timed("ask", super().ask)
        self.asked_at[number] = time.time()
        return number, params

    def report(self, number: int, step: int, value: float) -> bool:
        return bool(self._timed("report", super().report, number, step, value))

    def complete(self, number: int, value: float) -> None:
        self._timed("tell", super().complete, number, value)

    def _timed(self, part: str, function: Callable[..., Any], *given: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*given)
        finally:
            self.spent[part] += time.monotonic() - began


class Ends(Progress):
    """Notes when each trial ends."""

    def __init__(self, plan: Plan) -> None:
        self.ends: list[float] = []

    def ended(self, number: int, state: str, detail: str = "") -> None:
        self.ends.append(time.monotonic())


def ours(plan: Plan, folder: RunDir) -> Cost:
    """The no-op trials of a plan by study and adapters."""
    folder.write_plan(plan)
    study = TimedSearch(folder.study, plan.search_space(), plan.sampler, None, plan.first_trial)
    ends, stop = Ends(plan), Stop()
    referee = Referee(study, plan.trials, stop, ends, Clock(folder.clock, None))
    about = (str(folder.path), plan.metric)
    sweep.sweep(noop, about, referee, plan.resources, plan.ray_address, folder.path)
    stop.check()
    assert len(ends.ends) == plan.trials
    starts = [folder.trial(n).attempts()[0]["started"] - at for n, at in study.asked_at.items()]
    parts = {part: seconds / plan.trials for part, seconds in study.spent.items()}
    return Cost(plan.trials, ends.ends[-1] - ends.ends[1],
                {**parts, "start": float(np.median(starts))})  # fmt: skip


class TuneEnds(tune.Callback):
    """Notes when each trial of Ray Tune ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.ends.append(time.monotonic())


def tune_alone(trials: int, at_once: int, folder: Path) -> float:
    """Seconds of the no-op trials by Ray Tune alone."""
    ends = TuneEnds()
    tune.Tuner(
        tune.with_resources(bare_noop, {"CPU": 1}),
        param_space={KEY: tune.uniform(0, 0.6)},
        tune_config=tune.TuneConfig(
            num_samples=trials, max_concurrent_trials=at_once, reuse_actors=True,
            metric="metric", mode="max",
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), name=f"noop{trials}", verbose=0, callbacks=[ends]
        ),
    ).fit()  # fmt: skip
    return ends.ends[-1] - ends.ends[1]


def exponent(trials: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of the number of trials with which the seconds of a sweep grow."""
    return float(np.polyfit(np.log(trials), np.log(seconds), 1)[0])


def synced(folder: RunDir) -> tuple[float, float]:
    """Seconds of MLflow's first sync of a run directory, and of one with nothing new."""
    took = []
    for _ in range(2):
        began = time.monotonic()
        tracking.sync(folder, driving=False)
        took.append(time.monotonic() - began)
    return took[0], took[1]


def main() -> None:
    made = parser(__doc__, "gcrnn_vat")
    made.add_argument(
        "--trials", type=int, nargs="+", default=[100, 300, 1000], metavar="N",
        help="numbers of trials, a sweep each, from few to many (default: 100 300 1000)",
    )  # fmt: skip
    made.add_argument("--concurrency", type=int, default=2, help="trials at once (default: 2)")
    given = parse(made, {"trials": [6, 12]})
    with scratch() as root:
        start_ray(given.concurrency, Stop())
        costs, alone = [], []
        for trials in given.trials:
            plan, *_ = planned(
                given, trials=trials, concurrency=given.concurrency, name=f"{trials}"
            )
            folder = RunDir(Path(root) / plan.name).drive()
            costs.append(ours(dataclasses.replace(plan, halving=None), folder))
            alone.append(tune_alone(trials, given.concurrency, Path(root) / "tune"))
            show(costs[-1], alone[-1], *synced(folder))
            folder.close()
    conclude(costs, alone)


def show(cost: Cost, alone: float, first: float, again: float) -> None:
    """The table of one number of trials."""
    n = cost.trials
    print(f"{n} no-op trials of {STEPS} epochs")
    row("study, adapters and Ray Tune", f"{cost.trial:.4f} s a trial", f"{cost.sweep:.1f} s")
    row("Ray Tune alone", f"{alone / (n - 2):.4f} s a trial", f"{alone:.1f} s")
    for part, text in (("ask", "ask (sampler)"), ("report", f"report ({STEPS} epochs)"),
                       ("tell", "tell")):  # fmt: skip
        row(f"  of ours: {text}", f"{cost.parts[part]:.4f} s a trial")
    row("  from the answer to the trial's first line", f"{cost.parts['start']:.4f} s (median)")
    row("MLflow, apart: first sync", f"{first / n:.4f} s a trial", f"{first:.1f} s")
    row("MLflow, apart: nothing new", f"{again / n:.4f} s a trial", f"{again:.1f} s")


def conclude(costs: Sequence[Cost], alone: Sequence[float]) -> None:
    """The claims, at the largest number of trials."""
    last = costs[-1]
    ratio(f"seconds a trial over 0.15 s, {last.trials} trials", last.trial / 0.15, "<= 1")
    ratio(f"ours over Ray Tune alone, {last.trials} trials", last.sweep / alone[-1])
    if len(costs) > 1:
        counts = [cost.trials - 2 for cost in costs]
        growth = exponent(counts, [cost.sweep for cost in costs])
        ratio("exponent of seconds a sweep over trials", growth, "<= 1.2")
        ratio("  the same of Ray Tune alone", exponent(counts, alone))


if __name__ == "__main__":
    run(main)
