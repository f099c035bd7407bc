"""What a sweep costs beside its trainings.

The same trainings run twice, as many at once: by our sweep (study, Ray Tune, adapters, checkpoints,
predictions, reports), and by a plain pool of processes that calls System.train and writes nothing
(with --checkpoints: a checkpoint each epoch). Nothing is stopped early. Start-up, and the time at
the end when one process has nothing left to do, are printed apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from measuring import TINY, parse, parser, processes, ratio, ready, row, run, scratch

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Plan
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.search import sweep
from orchestrator.search.ray_session import start_ray
from orchestrator.search.study import Search
from orchestrator.tracking.projector import Projector
from orchestrator.training.job import Job, Task

# What changes the cost of a training is fixed: every trial takes as long as every other.
FIXED = ("network.blocks=3", "network.attention_over=classes", "front_end.window=1024")
CALIBRATION_EPOCHS = 3


@dataclass(frozen=True)
class Training:
    """A training: when it began and ended (s since 1970), its best validation value in fold 0, and
    the seconds of an epoch (median)."""

    began: float
    ended: float
    best: float
    epoch: float


@dataclass(frozen=True)
class Wall:
    """Seconds of one way of running all trainings."""

    startup: float
    trainings: float  # from the first one's start to the last one's end
    last_slot: float  # part of these in which a process has nothing left
    whole: float

    @classmethod
    def of(cls, began: float, done: Sequence[Training], ended: float, at_once: int) -> Wall:
        ends = sorted(training.ended for training in done)
        first = min(training.began for training in done)
        idle = ends[-1] - ends[-min(at_once, len(ends))]
        return cls(first - began, ends[-1] - first, idle, ended - began)


def train_plainly(
    job: Job, number: int, params: dict[str, Any], epochs: int | None, folder: Path | None
) -> Training:
    """The training of a trial without any of our orchestrator; it runs in a pool's process."""
    began = time.time()
    config = job.plan.trial_config(params)
    system = job.plan.entry().build(config)
    histories = []
    for fold in range(job.plan.splits["searched"]):
        context = job.context(
            folder and folder / f"{number}-{fold}",
            seed=Task(number, fold).seed(job.plan),
            last_step=epochs,
        )
        histories.append(system.train(job.folds[fold], job.sounds(config), context).history)
    epoch = statistics.median(metrics["seconds"] for metrics in histories[0].metrics)
    return Training(began, time.time(), histories[0].kept_worths[0], epoch)


def by_pool(job: Job, trials: Sequence[dict[str, Any]], at_once: int, folder: Path | None) -> Any:
    """All trainings in a pool of processes: their wall times and each of them."""
    began = time.time()
    with processes(at_once) as pool:
        tasks = [
            pool.submit(train_plainly, job, number, params, None, folder)
            for number, params in enumerate(trials)
        ]
        done = [task.result() for task in tasks]
        ended = time.time()
    return Wall.of(began, done, ended, at_once), done


def by_sweep(folder: RunDir, job: Job, mlflow: bool) -> Any:
    """All trainings by our sweep: the wall times, each training, and the parameters drawn."""
    plan, stop = job.plan, Stop()
    began = time.time()
    with Projector(folder) if mlflow else nullcontext():
        study = Search(folder.study, plan.search_space(), plan.sampler, None, plan.first_trial)
        progress = Progress()
        sweep.search(folder, job, study, stop, progress, Clock(folder.clock, None))
        ended = time.time()
    done = [_of_trial(folder, number, plan.metric) for number in range(plan.trials)]
    wall = Wall.of(began, done, ended, plan.resources.concurrency)
    return wall, done, [trial.params for trial in study.trials()]


def _of_trial(folder: RunDir, number: int, metric: str) -> Training:
    trial = folder.trial(number)
    (attempt,) = trial.attempts()
    lines = [line for line in trial.read_metrics() if line["fold"] == 0]
    epoch = statistics.median(line["seconds"] for line in lines)
    best = max(line[metric] for line in lines)
    return Training(attempt["started"], attempt["ended"], best, epoch)


def calibrated(job: Job, seconds: float) -> int:
    """Epochs that a training needs to last so many seconds, with as many at once as later."""
    at_once = job.plan.resources.concurrency
    with processes(at_once) as pool:
        tasks = [
            pool.submit(train_plainly, job, number, job.plan.first_trial, CALIBRATION_EPOCHS, None)
            for number in range(at_once)
        ]
        epoch = statistics.fmean(task.result().epoch for task in tasks)
    return math.ceil(1.1 * seconds / (epoch * job.plan.splits["searched"]))


def prepared(given: argparse.Namespace, root: Path, epochs: int) -> tuple[RunDir, Job]:
    """A run whose trainings all have so many epochs, without early stopping."""
    options = (*FIXED, *given.sizes, f"training.epochs={epochs}", f"training.patience={epochs}")

    def unpruned(plan: Plan) -> Plan:
        return dataclasses.replace(plan, halving=None)

    folder, job, _ = ready(
        given, root, change=unpruned, trials=given.trials, concurrency=given.concurrency,
        set=options, name=f"epochs{epochs}",
    )  # fmt: skip
    return folder, job


def main() -> None:
    made = parser(__doc__, "gcrnn_vat/gcrnn")
    made.add_argument("--trials", type=int, default=20, help="trainings (default: 20)")
    made.add_argument(
        "--seconds", type=float, default=30.0, help="length of a training in s (default: 30)"
    )
    made.add_argument(
        "--concurrency", type=int, default=2, help="trainings at once, a core each (default: 2)"
    )
    made.add_argument(
        "--checkpoints", action="store_true", help="the baseline writes checkpoints too"
    )
    made.add_argument(
        "--mlflow", action="store_true", help="keep MLflow up to date beside the sweep, as a run"
    )
    made.set_defaults(sizes=())
    given = parse(made, {"trials": 3, "seconds": 0.2, "sizes": TINY})
    with scratch() as root:
        compare(given, Path(root))


def compare(given: argparse.Namespace, root: Path) -> None:
    """Both ways, one after the other, and what they took."""
    _, job = prepared(given, root, 1000)
    folder, job = prepared(given, root, calibrated(job, given.seconds))
    began = time.time()
    start_ray(job.plan.resources.total_cpus, Stop())
    ray_init = time.time() - began
    ours, mine, trials = by_sweep(folder, job, given.mlflow)
    ray.shutdown()
    checkpoints = root / "baseline" if given.checkpoints else None
    pool, plain = by_pool(job, trials, given.concurrency, checkpoints)
    show(given, job, ray_init, ours, pool, mine, plain)


def show(
    given: argparse.Namespace, job: Job, ray_init: float, ours: Wall, pool: Wall,
    mine: Sequence[Training], plain: Sequence[Training],
) -> None:  # fmt: skip
    """The table and the claims."""
    print(
        f"{given.trials} trainings of {job.plan.steps()} epochs of {given.system}, "
        f"{given.concurrency} at once, 1 thread each; the sweep writes checkpoints, the pool "
        f"{'too' if given.checkpoints else 'none'}"
    )
    row("", "sweep", "process pool")
    row("ray.init", f"{ray_init:.1f} s", "")
    for name, key in (("start-up to the first training", "startup"),
                      ("all trainings", "trainings"),
                      ("  of these, a process idle at the end", "last_slot"),
                      ("whole, without ray.init", "whole")):  # fmt: skip
        row(name, f"{getattr(ours, key):.1f} s", f"{getattr(pool, key):.1f} s")
    medians = [statistics.median(t.ended - t.began for t in done) for done in (mine, plain)]
    row("one training (median)", *(f"{seconds:.1f} s" for seconds in medians))
    same = sum(a.best == b.best for a, b in zip(mine, plain, strict=True))
    row("trainings of equal best value", f"{same}/{given.trials}", "")
    ratio("sweep over process pool, all trainings", ours.trainings / pool.trainings, "<= 1.10")
    busy = [wall.trainings - wall.last_slot for wall in (ours, pool)]
    ratio("  the same without the last slot", busy[0] / busy[1])
    ratio("  the same with start-up and ray.init", (ours.whole + ray_init) / pool.whole)


if __name__ == "__main__":
    run(main)
