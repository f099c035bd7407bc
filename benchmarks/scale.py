"""What the machinery costs on a cluster: no-op trials on simulated nodes, and what breaks first.

A head without CPUs and eight nodes, each a raylet of its own on this machine. The no-op trials are
those of ``noop_trials.py``; their workers load neither torch nor a paper. ``--parts`` measures, at
growing sizes and without a cluster, what a study of very many trials and a data set of very many
clips take.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parse, parser, planned, ratio, row, run, scratch
from noop_trials import Cost, Ends, TimedSearch, exponent, synced
from noop_work import AT_ONCE, noop, resting
from scale_parts import held, parts

from orchestrator.console.interrupts import Stop
from orchestrator.plan.plan import Plan
from orchestrator.runs.clock import Clock
from orchestrator.runs.rundir import RunDir
from orchestrator.search import sweep
from orchestrator.search.ray_session import start_ray
from orchestrator.search.referee import Referee

TRIAL = 30.0  # seconds of the trial that the cost is set against
RAY = ("-c", "from ray.scripts.scripts import main; main()", "start", "--block", "--num-gpus", "0")


@contextmanager
def cluster(cpus: int) -> Iterator[tuple[str, Callable[[], subprocess.Popen[bytes]]]]:
    """A head; its address, and what starts a node with so many CPUs."""
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir="/tmp"))  # sockets take short paths
    (folder / "ray").mkdir()
    mine = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(
        RAY_TMPDIR=str(folder), RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=os.pathsep.join(mine)
    )  # nodes find the trials
    with open(folder / "started.txt", "ab") as log:

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, *RAY, *arguments], stdout=log, stderr=log)

        head = start("--head", "--port", "0", "--num-cpus", "0", "--include-dashboard", "false",
                     "--temp-dir", str(folder / "ray"))  # fmt: skip
        noted = folder / "ray" / "ray_current_cluster"
        while not noted.exists() or not noted.read_text():
            time.sleep(0.5)
        address = noted.read_text()
        started = [head]

        def add() -> subprocess.Popen[bytes]:
            started.append(start("--address", address, "--num-cpus", str(cpus)))
            return started[-1]

        import ray

        try:
            yield address, add
        finally:
            ray.shutdown()  # before the head, with which Ray would end this process
            for process in started:
                process.terminate()
            for process in started:
                process.wait()


def join(nodes: int, add: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Let so many nodes join, one after another: Ray gives each 30 s to start."""
    import ray

    for count in range(1, nodes + 1):
        node = add()
        while sum(one["Alive"] for one in ray.nodes()) <= count:
            time.sleep(0.5)
            if node.poll() is not None:
                node = add()


def sweeping(plan: Plan, folder: RunDir, trial: Any = noop) -> Cost:
    """The trials of a plan, on the cluster that this process is connected to."""
    folder.write_plan(plan)
    study = TimedSearch(folder.study, plan.search_space(), plan.sampler, None, plan.first_trial)
    ends, stop = Ends(plan), Stop()
    referee = Referee(study, plan.trials, stop, ends, Clock(folder.clock, None))
    about = (str(folder.path), plan.metric)
    sweep.sweep(trial, about, referee, plan.resources, plan.ray_address, folder.path)
    stop.check()
    starts = [folder.trial(n).attempts()[0]["started"] - at for n, at in study.asked_at.items()]
    spent = {part: seconds / plan.trials for part, seconds in study.spent.items()}
    return Cost(plan.trials, ends.ends[-1] - ends.ends[1],
                {**spent, "start": float(np.median(starts))})  # fmt: skip


def main() -> None:
    made = parser(__doc__, "gcrnn_vat")
    made.add_argument("--trials", type=int, nargs="+", default=[100, 1000], metavar="N",
                      help="numbers of trials, a sweep each (default: 100 1000)")  # fmt: skip
    made.add_argument("--nodes", type=int, default=8, help="simulated nodes (default: 8)")
    made.add_argument("--together", type=int, default=AT_ONCE, metavar="N",
                      help="trials at once in the last sweep; 0: none (default: 64)")  # fmt: skip
    made.add_argument("--parts", action="store_true", help="only the parts, without a cluster")
    made.add_argument("--clips", type=int, nargs="+", default=[20_000, 200_000, 2_000_000],
                      metavar="N", help="with --parts: sizes of the data set")  # fmt: skip
    made.add_argument("--studies", type=int, nargs="+", default=[1000, 3000, 10_000],
                      metavar="N", help="with --parts: finished trials of a study")  # fmt: skip
    given = parse(made, {"trials": [6, 12], "nodes": 2, "together": 0, "clips": [4000, 8000],
                         "studies": [20, 40]})  # fmt: skip
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if given.parts:
        parts(given)
    else:
        on_nodes(given)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


def on_nodes(given: Any) -> None:
    """The sweeps."""
    together = max(1, given.together // given.nodes)
    with scratch() as root, cluster(together) as (address, add):
        start_ray(1, Stop(), address)
        join(given.nodes, add)
        costs = []
        for trials in given.trials:
            asked = planned(given, trials=trials, concurrency=given.nodes, ray_address=address,
                            name=f"{trials}")[0]  # fmt: skip
            folder = RunDir(Path(root) / asked.name).drive()
            before = held()
            costs.append(sweeping(dataclasses.replace(asked, halving=None), folder))
            show(costs[-1], before, held(), *synced(folder))
            folder.close()
        conclude(costs)
        if given.together:
            asked = planned(given, trials=given.together, concurrency=given.together,
                            ray_address=address, name="together")[0]  # fmt: skip
            folder = RunDir(Path(root) / asked.name).drive()
            sweeping(dataclasses.replace(asked, halving=None), folder, resting)
            show_together(folder)
            folder.close()


def show(cost: Cost, before: float, after: float, first: float, again: float) -> None:
    """The table of one number of trials."""
    n = cost.trials
    print(f"{n} no-op trials")
    row("wall time after the first two", f"{cost.sweep:.1f} s", f"{cost.trial:.4f} s a trial")
    for part in ("ask", "report", "tell"):
        row(f"  of the driver: {part}", f"{cost.parts[part]:.4f} s a trial")
    row("  from the answer to the trial's first line", f"{cost.parts['start']:.4f} s (median)")
    row("MLflow, apart: first sync", f"{first:.1f} s", f"{first / n:.4f} s a trial")
    row("MLflow, apart: nothing new", f"{again:.1f} s")
    row("driver's memory before, after", f"{before:.0f} MiB", f"{after:.0f} MiB")
    own = sum(cost.parts[part] for part in ("ask", "report", "tell")) + first / n
    ratio(f"ask, report, tell and MLflow over a trial of {TRIAL:g} s, {n} trials",
          (own + cost.parts["start"]) / TRIAL, "<= 0.05")  # fmt: skip


def conclude(costs: Sequence[Cost]) -> None:
    """How a sweep grows."""
    if len(costs) > 1:
        counts = [cost.trials - 2 for cost in costs]
        ratio("exponent of seconds a sweep over trials",
              exponent(counts, [cost.sweep for cost in costs]), "<= 1.2")  # fmt: skip


def show_together(folder: RunDir) -> None:
    """How many trials were there at one moment, and what each held."""
    import json

    seen = [json.loads(path.read_text()) for path in folder.path.glob("seen*.json")]
    most = max(sum(a["began"] <= one["began"] < a["ended"] for a in seen) for one in seen)
    print(f"FIGURE trials at once: {most}")
    print(f"FIGURE of them with torch: {sum(one['torch'] for one in seen)}")
    row("memory of a trial's process (its share)",
        f"{np.median([one['kB'] for one in seen]) / 1024:.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    if "RAY_AUTH_TOKEN" not in os.environ:  # Ray reads both when it is imported
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **token})
    run(main)
