"""What each command of the command line does."""

from __future__ import annotations

import dataclasses
import os
import shutil
import textwrap
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.plan import Options, Plan, make_plan, reload
from orchestrator.rundir import RunDir, read_json, write_json
from systems import data, registry
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError

console = Console(highlight=False, soft_wrap=True)
RESUMABLE = 3  # exit code of an interrupted run


def run(given: dict[str, Any], trials: str | None, dry_run: bool) -> int:
    """Plan and run; returns the exit code."""
    plan, dataset, splits = make_plan(Options(**given, trials=_count(trials)))
    print_plan(plan)
    if dry_run:
        return 0
    folder = RunDir(Path(given["storage"]).expanduser().resolve() / plan.name)
    if folder.plan.exists():
        raise UserError(
            f"a run named '{plan.name}' exists in {folder.root}: give another --name, or go on "
            f"with --resume {plan.name}."
        )
    _writable(folder.root)
    with folder.drive():
        write_json(folder.plan, plan.to_json())
        return _go(folder, plan, dataset, splits)


def resume(name: str, storage: str, trials: str | None) -> int:
    """Go on with a run, perhaps with more trials; returns the exit code."""
    folder = find(name, storage)
    plan = Plan.from_json(read_json(folder.plan))
    if trials:
        more = int(trials[1:]) if trials[1:].isdigit() and trials[0] == "+" else None
        total = plan.trials + more if more is not None else _count(trials) or plan.trials
        if total < plan.trials:
            raise UserError(f"--trials {trials}: the run has {plan.trials} trials already.")
        plan = dataclasses.replace(plan, trials=total)
    dataset, splits = reload(plan)
    print_plan(plan)
    with folder.drive():
        if trials:
            _forget_later_steps(folder)
            write_json(folder.plan, plan.to_json())
        return _go(folder, plan, dataset, splits)


def report(name: str, storage: str) -> None:
    """Write results.json and the report of a run again."""
    from orchestrator.job import write_report

    console.print(f"report: {write_report(find(name, storage))}", markup=False)


def sync(name: str, storage: str) -> None:
    """Bring MLflow up to date."""
    from orchestrator import tracking

    done = tracking.sync(find(name, storage))
    console.print(f"MLflow: {done.uri}, experiment '{done.experiment}'", markup=False)


def systems() -> None:
    """List all systems."""
    for entry in registry.entries():
        name = f"{entry.paper} (= {entry.address})" if entry.is_main else entry.address
        console.print(f"{name}", style="bold", markup=False)
        console.print(f"  {entry.task}, {entry.dataset}. {entry.summary}", markup=False)


def datasets() -> None:
    """List all data sets."""
    for name in data.readers():
        module = data.reader(name)
        console.print(name, style="bold", markup=False)
        layout = getattr(module, "LAYOUT", "embedded: made on first use")
        console.print(textwrap.indent(f"{module.TASK}\n{layout}", "  "), markup=False)


def find(name: str, storage: str) -> RunDir:
    """The run of this folder or name. Raises UserError where there is none."""
    candidates = [Path(name).expanduser(), Path(storage).expanduser() / name]
    for path in candidates:
        if (path / "plan.json").exists():
            return RunDir(path.resolve())
    raise UserError(
        f"no run '{name}': neither {candidates[0]} nor {candidates[1]} has a plan.json."
    )


def print_plan(plan: Plan) -> None:
    """The resolved plan in words."""
    lines = [
        ("run", plan.name),
        ("system", plan.system),
        ("data", f"{plan.dataset} {plan.data or '(embedded)'}  fingerprint {plan.fingerprint}"),
        *((f"  {part}", f"{about['clips']} clips, labels: {about['labels']}")
          for part, about in plan.parts.items()),
        ("splits", f"{plan.splits['protocol']}: {len(plan.splits['folds'])} fold(s)"
                   f" {plan.splits['folds']}, the search scores {plan.splits['searched']}"),
        ("metric", f"{plan.metric} ({plan.mode})"),
        ("budget", f"{plan.budget.text}; scaled: " + (
            ", ".join(f"{k} {_short(a)} -> {_short(b)}" for k, (a, b) in plan.scaled.items())
            or "nothing")),
        ("trials", f"{plan.trials}, {plan.resources.concurrency} at once, each "
                   f"{plan.resources.cpus} CPU core(s) and {plan.resources.gpus:g} GPU"),
        ("stopping", "none" if plan.halving is None else
            f"halving from epoch {plan.halving.min_step}, factor {plan.halving.reduction_factor}"),
        ("seed", str(plan.seed)),
        ("stage two", f"{', '.join(plan.stack) or 'none'} over the best {plan.top_k}"),
        ("space", ""),
        *((f"  {p.key}", p.text()) for p in plan.space),
        ("first trial", "the published point" + (f", moved into the space: {plan.moved}"
                                                 if plan.moved else "")),
    ]  # fmt: skip
    for name, value in lines:
        console.print(f"{name:<28} {value}".rstrip(), markup=False)


def _short(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, list | tuple) else str(value)


def _go(folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits) -> int:
    from orchestrator.interrupts import Stop
    from orchestrator.job import run_job

    finished = run_job(folder, plan, dataset, splits, Stop().install())
    console.print(f"results: {folder.results}", markup=False)
    console.print(f"report:  {folder.report / 'index.html'}", markup=False)
    if not finished:
        console.print(f"go on with: soundsweep run --resume {folder.path}", markup=False)
        return RESUMABLE
    _print_outcome(read_json(folder.results))
    return 0


def _print_outcome(results: dict[str, Any]) -> None:
    for row in results["test"]["rows"]:
        values = "  ".join(
            f"{name} {s['value']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"
            for name, s in row["metrics"].items()
        )
        who = row["who"] + (f", {row['variant']}" if row["variant"] else "")
        console.print(f"test  {who:<44} {values}", markup=False)


def _forget_later_steps(folder: RunDir) -> None:
    """More trials may change who the members are: what follows the search is made again."""
    for path in (folder.members, folder.scores):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.path / "stack", ignore_errors=True)


def _count(trials: str | None) -> int | None:
    if trials is None:
        return None
    if not trials.isdigit():
        raise UserError(f"--trials takes a number (with --resume also +N), not '{trials}'.")
    return int(trials)


def _writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the storage root {root} cannot be made: {error.strerror}.") from error
    if not os.access(root, os.W_OK):
        raise UserError(f"no permission to write in the storage root {root}.")
