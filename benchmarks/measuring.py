"""What the benchmarks share: options, a run that is ready to train, processes, and how they print.

Every claim is one line ``RATIO name: value (target)``, against a baseline of the same run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.training.job import Job, inputs_of
from systems.data.dataset import Dataset
from systems.data.prepare import prepared
from systems.data.store import open_store
from systems.errors import UserError

# Sizes of --smoke.
TINY = ("network.width=4", "network.recurrent_units=4", "training.steps_per_epoch=1")


def parser(text: str | None, system: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks take; ``text`` is the script's docstring."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--system", default=system, help=f"PAPER/SYSTEM (default: {system})")
    made.add_argument("--dataset", help="data set (default: embedded; with --data, the paper's)")
    made.add_argument("--data", metavar="PATH", help="folder of the data set")
    made.add_argument(
        "--smoke", action="store_true", help="only show that it runs; its figures mean nothing"
    )
    return made


def parse(made: argparse.ArgumentParser, smoke: Mapping[str, Any]) -> argparse.Namespace:
    """The options of the command line; ``smoke`` replaces values under ``--smoke``."""
    given = made.parse_args()
    if given.smoke:
        vars(given).update(smoke)
    return given


def planned(given: argparse.Namespace, **options: Any) -> tuple[Plan, Dataset, Any]:
    """The plan on CPUs of what was asked for, the data set and its splits.

    ``set`` and ``space`` are texts ``key=value``, as on the command line.
    """
    for name in ("set", "space"):
        texts = options.get(name, ())
        options[name] = {key: value for key, _, value in (text.partition("=") for text in texts)}
    return make_plan(
        Options(
            system=given.system, dataset=given.dataset, data=given.data,
            **{"budget": "quick", "gpus_per_trial": 0.0, **options},
        )
    )  # fmt: skip


def ready(
    given: argparse.Namespace,
    root: Path,
    *,
    change: Callable[[Plan], Plan] = lambda plan: plan,
    **options: Any,
) -> tuple[RunDir, Job, Dataset]:
    """A run directory below ``root`` with its plan, and what its trials share; the store is built.

    ``change`` alters the plan that the options (those of :class:`Options`) resolve to.
    """
    plan, dataset, splits = planned(given, **options)
    plan = change(plan)
    inputs = inputs_of(plan, plan.trial_config(plan.first_trial)).values()
    clips = tuple(clip.clip_id for clip in dataset.clips)
    run = RunDir(root / plan.name).drive()
    run.write_plan(plan)
    sounds = {
        one.key: prepared(open_store(dataset, clips, one.rate, root / "store"), one.prepare, clips)
        for one in inputs
    }
    return run, Job.of(run, plan, dataset, splits, sounds), dataset


def processes(count: int) -> ProcessPoolExecutor:
    """A pool of fresh processes, as Ray's workers are: nothing is inherited by a fork."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def row(name: str, *values: str) -> None:
    """A line of a table."""
    print(f"  {name:<44}" + "".join(f"{value:>16}" for value in values), flush=True)


def ratio(name: str, value: float, target: str = "") -> None:
    """A claim as a ratio to its baseline."""
    print(f"RATIO {name}: {value:.3f}" + (f" (target: {target})" if target else ""), flush=True)


def paired(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of the differences of pairs and its standard error (0 of a single pair)."""
    differences = [a - b for a, b in zip(ours, others, strict=True)]
    if len(differences) < 2:
        return differences[0], 0.0
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.fmean(differences), error


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed at the end."""
    return tempfile.TemporaryDirectory(prefix="soundsweep-")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake is one message and exit code 2, as in the command line."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
