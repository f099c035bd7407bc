"""A paper's own table beside ours: each of its systems is trained, then the table is made."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin, go_on
from orchestrator.pipeline.graph import Walk
from orchestrator.plan.options import Changes, Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.changes import refuse_other
from orchestrator.planning.fusions import Graph, check_graph
from orchestrator.planning.resolve import make_plan
from orchestrator.report import reproduce as tables
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of, writable
from orchestrator.training.job import inputs_of
from systems import registry
from systems.config import short
from systems.registry import Fusion


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
    """Train a paper's systems ``options.trials`` times each, then its fusions, and set its table
    beside ours.

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
    root = root_of(options.storage, runs=True)
    writable(root)
    reproduction = _Reproduction(
        name, replace(options, protocol="paper", trials=options.trials or 1), asked or {}, progress
    )
    folders = []
    for graph, one in reproduction.graphs(trainings):
        folder = reproduction.run(graph, one)
        if folder is None:
            progress.say(f"go on with the same command and --name {name}")
            return None
        folders.append(folder)
    plan, address = folders[0].plan, trainings[0].entry.paper
    rows = tables.table(address, folders)
    notes = [*_conditions(plan, plan.entry()), *_trained([folder.plan for folder in folders])]
    about = {"paper": address, "runs": [folder.path.name for folder in folders],
             "seeds": plan.trials, "dataset": plan.dataset, "budget": plan.budget.text,
             "notes": notes}  # fmt: skip
    page = tables.write(root / name, about, rows)
    RunDir(root / name).publish()
    return Table(page, tuple(notes), tuple(rows))


class _Reproduction:
    """The runs behind a paper's table. What fusions combine, or what is judged on all folds, is
    trained on all folds and once; the rest on its first fold."""

    def __init__(
        self, name: str, options: Options, asked: Mapping[str, Any], progress: Progress
    ) -> None:
        self.name, self.options, self.asked, self.progress = name, options, asked, progress
        self.root = root_of(options.storage)
        self.runs: dict[str, RunDir] = {}
        self.wanted: Counter[str] = Counter()
        self.scored: set[str] = set()

    def graphs(self, trainings: Sequence[tables.ToRun]) -> list[tuple[Graph, tables.ToRun]]:
        """Each with the nodes that it needs, all fusions checked before anything is trained."""
        found = [(self._graph(one), one) for one in trainings]
        for graph, _ in found:
            check_graph(graph)
            self.scored |= graph.scored()
            if len(graph.nodes) > 1:
                self.wanted |= graph.trainings()
                self.wanted |= Counter({node.key: self._seeds for node in graph.nodes})
        return found

    @property
    def _seeds(self) -> int:
        assert self.options.trials is not None
        return self.options.trials

    def _graph(self, one: tables.ToRun) -> Graph:
        system = f"{one.entry.address}#{one.label}" if one.label else one.entry.address
        # Where nothing of it is set otherwise: what it needs has values of its own.
        named = one.label and not {*one.changes} & {*self.options.set}
        if isinstance(one.entry, Fusion) or named:
            return Graph(replace(self.options, system=system, repeat=True))
        changed = {**one.changes, **self.options.set}
        return Graph(replace(self.options, system=one.entry.address, set=changed, repeat=True))

    def run(self, graph: Graph, one: tables.ToRun) -> RunDir | None:
        """The run behind a figure; ``None`` where a signal interrupted one."""
        name = f"{self.name}-{one.suffix}"
        if not (one.whole or len(graph.nodes) > 1 or graph.target.key in self.wanted):
            return self._trained(graph, name)
        self.wanted[graph.target.key] = max(self._seeds, self.wanted[graph.target.key])
        walk = Walk(graph, self.progress, self.runs, self.wanted, self.scored)
        for node in graph.nodes:
            if walk.key(node) in self.runs:
                continue
            own = name if node is graph.target else f"{self.name}-{walk.folder_name(node)}"
            if not walk.run(node, own)[1]:
                return None
        return self.runs[walk.key(graph.target)]

    def _trained(self, graph: Graph, name: str) -> RunDir | None:
        """A system's training on its first fold, once for each seed."""
        folder = RunDir(self.root / name)
        if folder.plan_file.exists():
            refuse_other(folder.plan, {"system": graph.target.name, **self.asked})
            return folder if go_on(folder, Changes(), self.progress) else None
        options = replace(graph.options, name=name, purpose="train", repeat=False)
        return folder if begin(folder, *make_plan(options), self.progress) else None


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


def _trained(plans: Sequence[Plan]) -> list[str]:
    """How many clips the scored models learnt from: papers seldom hold any out."""
    systems: dict[str, list[str]] = {}
    for plan in plans:
        if plan.purpose != "stack":
            systems.setdefault(_clips(plan), []).append(plan.entry().address)
    return [f"{', '.join(dict.fromkeys(names))}: {clips}" for clips, names in systems.items()]


def _clips(plan: Plan) -> str:
    trained, held_out = plan.splits["folds"][0]
    inputs = inputs_of(plan, plan.trial_config(plan.first_trial)).values()
    roles = {role for one in inputs for role in one.roles}
    unlabelled = sum(n for role, n in plan.splits["unlabelled"].items() if role in roles)
    folds = "" if len(plan.splits["folds"]) == 1 else ", a model of each of the folds"
    if plan.split_by is not None and plan.split_by.same:
        labelled = f"{trained} labelled clips trained, and are those that judge"
    elif plan.final_is_refit():
        labelled = f"{trained + held_out} labelled clips trained"
    else:
        labelled = f"{trained} labelled clips trained, {held_out} were held out{folds}"
    return f"{labelled}; {unlabelled} unlabelled ones" if unlabelled else labelled
