"""What a person asks for, done: a run, a stack over runs, a paper's table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin, go_on
from orchestrator.pipeline.graph import run_graph
from orchestrator.pipeline.run import Comparison, Run
from orchestrator.pipeline.stack import stack_runs
from orchestrator.plan.options import Changes, Options, StackOptions
from orchestrator.planning.fusions import Graph
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import find_run, root_of
from orchestrator.scoring.compare import compare as paired
from systems import registry
from systems.errors import UserError


def launch(options: Options, progress: Progress | None = None) -> Run:
    """Plan a run and carry it out: search, stack, score once, report.

    A fusion, or a system that learns from others, trains these first. Where the run was
    interrupted, ``Run.interrupted`` says so and :func:`resume` goes on.

    Raises:
        UserError: what cannot be planned, or what a user can mend; nothing is lost.
    """
    graph, progress = Graph(options), progress or Progress()
    if len(graph.nodes) > 1:
        if options.purpose == "train":
            registry.get(options.system)  # a fusion is none
            raise UserError(
                f"{graph.target.name} learns from {', '.join(graph.target.needs)}: `soundsweep run "
                f"--system {options.system}` trains them first."
            )
        folder, finished = run_graph(graph, progress)
        return Run(folder.path, interrupted=not finished)
    plan, dataset, splits = make_plan(options)
    folder = RunDir(root_of(options.storage) / plan.name)
    finished = begin(folder, plan, dataset, splits, progress)
    return Run(folder.path, interrupted=not finished)


def resume(
    name: str | Path, changes: Changes | None = None, progress: Progress | None = None,
    storage: str = "runs",
) -> Run:  # fmt: skip
    """Go on with a run: its folder, or its name below ``storage``.

    Raises:
        UserError: no such run, a change that cannot be, or data that is not what it was.
    """
    folder = find_run(name, storage)
    finished = go_on(folder, changes or Changes(), progress or Progress())
    return Run(folder.path, interrupted=not finished)


def stack(options: StackOptions, progress: Progress | None = None) -> Run:
    """Fit meta-learners over the best trials of one run, or of several, and score them.

    Raises:
        UserError: no such run, or members that cannot be stacked: says which and how.
    """
    folder, finished = stack_runs(options, progress or Progress())
    return Run(folder.path, interrupted=not finished)


def open_run(path: str | Path, storage: str = "runs") -> Run:
    """A run that is there: its folder, or its name below ``storage``.

    Raises:
        UserError: there is none.
    """
    return Run(find_run(path, storage).path)


def compare(first: Run, second: Run) -> Comparison:
    """Paired differences of two runs over the same clips.

    Raises:
        UserError: they are not of the same data and classes, or one has scored nothing.
    """
    found = paired(first.files, second.files)
    rows = [{**row, **row["difference"], "difference": row["difference"]["value"]}
            for row in found["rows"]]  # fmt: skip
    table = pd.DataFrame(rows).drop(columns=["value", "p_not_better"])
    return Comparison(tuple(found["runs"]), found["settings"], table)
