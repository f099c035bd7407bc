"""A paper's own table beside ours: each of its systems is trained, then the table is made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin, go_on
from orchestrator.plan.options import Changes, Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.changes import refuse_other
from orchestrator.planning.resolve import make_plan
from orchestrator.report import reproduce as tables
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of, writable
from systems import registry
from systems.config import short


@dataclass(frozen=True)
class Table:
    """A paper's table: its page, what is not the paper's conditions, and a row a figure."""

    page: Path
    notes: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


def reproduce(
    paper: str, options: Options, progress: Progress | None = None,
    asked: Mapping[str, Any] | None = None,
) -> Table | None:  # fmt: skip
    """Train a paper's systems ``options.trials`` times each, and set its table beside ours.

    A table that was begun under this name is gone on with; ``asked`` are the options, by name,
    that must be those that it was begun with.

    Returns:
        the table; ``None`` where a signal interrupted a training: the same call goes on.

    Raises:
        UserError: no such paper, or none of its figures is mapped to a configuration.
    """
    progress = progress or Progress()
    trainings = tables.to_run(paper, options.dataset)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = options.name or f"reproduce-{paper.replace('/', '-')}-{stamp}"
    root = root_of(options.storage)
    writable(root)
    folders = [RunDir(root / f"{name}-{one.suffix}") for one in trainings]
    for training, folder in zip(trainings, folders, strict=True):
        address = training.entry.address
        if folder.plan_file.exists():
            refuse_other(folder.plan, {"system": address, **(asked or {})})
            finished = go_on(folder, Changes(), progress)
        else:
            one = replace(
                options, system=address, name=folder.path.name, purpose="train",
                protocol="paper", trials=options.trials or 1,
                set={**training.changes, **options.set},
            )  # fmt: skip
            finished = begin(folder, *make_plan(one), progress)
        if not finished:
            progress.say(f"go on with the same command and --name {name}")
            return None
    plan, entry = folders[0].plan, trainings[0].entry
    rows = tables.table(entry.paper, folders)
    notes = _conditions(plan, entry)
    about = {"paper": entry.paper, "runs": [folder.path.name for folder in folders],
             "seeds": plan.trials, "dataset": plan.dataset, "budget": plan.budget.text,
             "notes": notes}  # fmt: skip
    return Table(tables.write(root / name, about, rows), tuple(notes), tuple(rows))


def _conditions(plan: Plan, entry: registry.Entry) -> list[str]:
    """In which points our figures are not the paper's conditions."""
    notes = [f"{plan.trials} training(s) of each system, one split: {plan.splits['protocol']}"]
    if plan.dataset != entry.dataset:
        notes.append(f"the data is {plan.dataset}, the paper's {entry.dataset}")
    sizes = ", ".join(f"{part} {about['clips']}" for part, about in plan.parts.items())
    notes.append(f"clips here: {sizes}")
    if plan.scaled:
        scaled = (f"{k} {short(a)} -> {short(b)}" for k, (a, b) in plan.scaled.items())
        notes.append(f"the budget {plan.budget.text} is not the paper's: {', '.join(scaled)}")
    return notes
