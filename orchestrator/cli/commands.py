"""What each command of the command line prints, and the code it ends with."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cli import words
from orchestrator.plan.options import Changes, Options, StackOptions
from orchestrator.runs.files import write_json
from orchestrator.runs.storage import find_run, root_of
from systems import data
from systems.config import short
from systems.errors import UserError, unknown

RESUMABLE = 3  # exit code of an interrupted run
console = Console(highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, markup=False)


def run(options: Options, dry_run: bool) -> int:
    """Plan and run; returns the exit code."""
    from orchestrator.cli.terminal import Terminal
    from orchestrator.pipeline.launch import launch

    if dry_run:
        return _dry_run(options)
    return _code(launch(options, Terminal(console)).interrupted)


def _dry_run(options: Options) -> int:
    from orchestrator.planning.estimate import estimate
    from orchestrator.planning.fusions import Graph, preview
    from orchestrator.planning.resolve import make_plan

    graph = Graph(options)
    if options.purpose != "train" and len(graph.nodes) > 1:
        say(*(f"{kind:<8} {name}" for kind, name in preview(graph)))
        return 0
    plan, dataset, splits = make_plan(options)
    say(*words.plan_lines(plan), "first configuration", *words.config_lines(plan))
    found = estimate(plan, dataset, splits)
    say(*(words.estimate_lines(found) if found else ()))
    return 0


def resume(
    name: str, storage: str, changes: Changes, asked: Mapping[str, Any], dry_run: bool
) -> int:
    """Go on with a run; ``asked`` are the options on the command line. Returns the exit code."""
    from orchestrator.cli.terminal import Terminal
    from orchestrator.pipeline.launch import resume as go_on
    from orchestrator.planning.changes import changed, refuse_other
    from orchestrator.planning.resolve import reload

    plan = find_run(name, storage).plan
    refuse_other(plan, asked)
    if dry_run:
        plan = changed(plan, changes)
        reload(plan)
        say(*words.plan_lines(plan))
        return 0
    return _code(go_on(name, changes, Terminal(console), storage).interrupted)


def stack(options: StackOptions) -> int:
    """Fit meta-learners over the best trials of one run, or of several; returns the exit code."""
    from orchestrator.cli.terminal import Terminal
    from orchestrator.pipeline.launch import stack as fit

    return _code(fit(options, Terminal(console)).interrupted)


def reproduce(paper: str, options: Options, asked: Mapping[str, Any]) -> int:
    """Print a paper's table beside ours; returns the exit code."""
    from orchestrator.cli.terminal import Terminal
    from orchestrator.pipeline.reproduce import reproduce as make
    from orchestrator.report.reproduce import in_words

    table = make(paper, options, Terminal(console), asked)
    if table is None:
        return RESUMABLE
    say(*table.notes, *in_words(table.rows), f"table: {table.page}")
    return 0


def _code(interrupted: bool) -> int:
    return RESUMABLE if interrupted else 0


def compare(first: str, second: str, storage: str, output: str | None) -> None:
    """Print what differs between two runs, and by how much."""
    from orchestrator.report.notes import FEW_GROUPS
    from orchestrator.report.words import count
    from orchestrator.scoring.compare import compare

    found = compare(find_run(first, storage), find_run(second, storage))
    names = found["runs"]
    for key, (a, b) in found["settings"].items():
        console.print(f"{key:<28} {short(a)} | {short(b)}", markup=False)
    console.print(f"{'part':<11} {'who':<34} {'metric':<14} {names[0]} | {names[1]} | difference",
                  markup=False)  # fmt: skip
    for row in found["rows"]:
        d = row["difference"]
        bounds = "" if d["low"] is None else f"[{d['low']:+.3f}, {d['high']:+.3f}]"
        console.print(
            f"{row['part']:<11} {row['who']:<34} {row['metric']:<14} {row['first']:z.3f} | "
            f"{row['second']:z.3f} | {d['value']:+z.3f} {bounds}",
            markup=False,
        )
    few = {row["part"]: row["groups"] for row in found["rows"] if row["groups"] < FEW_GROUPS}
    for part, groups in few.items():
        console.print(
            f"{part}: {count(groups, 'group')} of clips. Intervals are widened for so few, and "
            "remain rough; of one group there is none.",
            markup=False,
        )
    if output:
        write_json(Path(output), found)


def predict(
    name: str, storage: str, files: list[str], model: str, format_: str, output: str | None,
    device: str,
) -> None:  # fmt: skip
    """Tags and events of audio files."""
    from orchestrator.models.files import predict_command

    text = predict_command(
        find_run(name, storage), files, model=model, format=format_, output=output, device=device
    )
    print(text, end="" if text.endswith("\n") or not text else "\n")


def clean(storage: str, stores: bool, dry_run: bool) -> None:
    """List and remove what can go."""
    from orchestrator.pipeline.clean import removable, remove

    root = root_of(storage, runs=True)
    if not root.is_dir():
        raise UserError(f"there is no storage root {root}.")
    items = removable(root, stores=stores)
    for item in items:
        console.print(f"{words.size(item.size):>9}  {item.path}  ({item.why})", markup=False)
    total = words.size(sum(item.size for item in items))
    if not dry_run:
        remove(root, items)
    console.print(f"{total} {'could be' if dry_run else 'were'} freed", markup=False)


def report(name: str, storage: str) -> None:
    """Write results.json and the report of a run again."""
    from orchestrator.report.report import write_report

    run = find_run(name, storage)
    console.print(f"report: {write_report(run)}", markup=False)
    run.publish()


def sync(name: str, storage: str, models: list[str]) -> None:
    """Bring MLflow up to date, and say where it is seen."""
    from orchestrator.tracking.sync import sync

    done = sync(find_run(name, storage), models=models)
    say(f"MLflow: {done.uri}, experiment '{done.experiment}'")
    if not done.uri.startswith("http"):
        say(f"  served by: mlflow ui --backend-store-uri {done.uri}")
    say(f"  table: {done.page}")


def systems(cite: str | None) -> None:
    """List all systems, or print the BibTeX of one paper or all."""
    from systems.catalogue import catalogue

    found = catalogue()
    if cite:
        paper = cite.partition("/")[0]
        if paper not in (*found.bibtex, "all"):
            raise unknown("paper", paper, found.bibtex)
        for name in found.bibtex if paper == "all" else [paper]:
            print(found.bibtex[name])
        return
    for row in found.rows:
        name = f"{row.paper} (= {row.address})" if row.is_main else row.address
        console.print(name, style="bold", markup=False)
        if row.kind == "system":
            say(f"  {row.task}, {row.dataset}. {row.summary}")
        else:
            about = f"fusion ({row.learner}) of {', '.join(row.members)}"
            say(f"  {about}. {row.summary}".rstrip(". ") + ".")


def datasets() -> None:
    """List all data sets."""
    for name in data.readers():
        module = data.reader(name)
        console.print(name, style="bold", markup=False)
        layout = getattr(module, "LAYOUT", "embedded: made on first use")
        console.print(textwrap.indent(f"{module.TASK}\n{layout}", "  "), markup=False)
