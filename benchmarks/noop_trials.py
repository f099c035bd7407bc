"""What the machinery costs a trial: no-op trials through the study and its adapters.

Beside it, in the same run, the same trials through Ray Tune alone with its own random search.
MLflow is apart: it runs in a process of its own. Prints seconds a trial (after the first two, which
start the workers) and the ratio.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator import sweep
from orchestrator.interrupts import Stop
from orchestrator.plan import Options, Resources, make_plan
from orchestrator.progress import Progress
from orchestrator.rundir import RunDir
from orchestrator.study import Search

TRIALS, STEPS = 100, 3


def noop(config: dict[str, Any]) -> None:
    value = config.get("params", config)["network.dropout"]
    for step in range(1, STEPS + 1):
        tune.report({"step": step, "metric": value, "loss": 0.0, "started": time.time()})
    tune.report({"outcome": "complete", "value": value, "metric": value})


class Clock(Progress):
    """Notes when each trial ends and prints nothing."""

    def __init__(self) -> None:
        super().__init__("metric", "max", STEPS)
        self.ends: list[float] = []

    def say(self, text: str) -> None:
        pass

    def ended(self, number: int, state: str, detail: str = "") -> None:
        self.ends.append(time.monotonic())


def ours() -> float:
    plan, _, _ = make_plan(Options(trials=TRIALS))
    plan = dataclasses.replace(plan, resources=Resources(2, 1, 0.0))
    run = RunDir(Path(tempfile.mkdtemp()))
    study = Search(run.study, plan.search_space(), plan.sampler, None, plan.first_trial)
    clock = Clock()
    sweep.sweep(noop, run, plan, study, Stop(), clock)
    assert len(clock.ends) == TRIALS
    return (clock.ends[-1] - clock.ends[1]) / (TRIALS - 2)


class Ends(tune.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.ends.append(time.monotonic())


def tune_alone() -> float:
    ends = Ends()
    tune.Tuner(
        tune.with_resources(noop, {"CPU": 1}),
        param_space={"network.dropout": tune.uniform(0, 0.6)},
        tune_config=tune.TuneConfig(
            num_samples=TRIALS, max_concurrent_trials=2, reuse_actors=True, metric="metric",
            mode="max",
        ),
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(), name="noop", verbose=0, callbacks=[ends]
        ),
    ).fit()  # fmt: skip
    return (ends.ends[-1] - ends.ends[1]) / (TRIALS - 2)


def main() -> None:
    sweep.start_ray(2, Stop())
    mine, plain = ours(), tune_alone()
    print(f"{TRIALS} no-op trials of {STEPS} steps, two at a time")
    print(f"  study and adapters     {mine:.3f} s a trial (target 0.15)")
    print(f"  Ray Tune alone         {plain:.3f} s a trial")
    print(f"  ratio                  {mine / plain:.2f}")


if __name__ == "__main__":
    main()
