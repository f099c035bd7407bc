"""Fusions, and systems that learn from others: what they need is trained first, or reused.

``--system PAPER/FUSION`` walks the graph of :func:`registry.resolve`. Each node gets a run of its
own below the storage root, ``NAME.PAPER.SYSTEM.VARIANT``; one that is there already, of the same
data, splits, configuration, budget and seed, is reused. A killed walk goes on by the same command
and ``--name``. What only teaches others ends before its final models.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin, drive, go_on
from orchestrator.plan.options import Changes, Options
from orchestrator.plan.plan import MemberRef, Plan
from orchestrator.plan.signature import TRAINED, Of, differing
from orchestrator.plan.stage import StageSettings
from orchestrator.planning import gather, stacks
from orchestrator.planning.fusions import Graph, check_graph
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of, writable
from orchestrator.stacking.stage import refused
from systems import registry
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.registry import Fusion, Node, Requirement


def run_graph(graph: Graph, progress: Progress) -> tuple[RunDir, bool]:
    """Train what a system or fusion needs, then itself.

    Members are trained at their published point, or searched where ``trials`` says so.

    Returns:
        the last run that was worked on, and whether all came to their end.
    """
    name = graph.options.name or _name(graph.target)
    graph.options = replace(graph.options, name=name)
    check_graph(graph)
    writable(root_of(graph.options.storage, runs=True))
    walk = Walk(graph, progress)
    for node in graph.nodes:
        last = node is graph.target
        folder, finished = walk.run(node, name if last else f"{name}.{folder_name(node)}")
        if not finished:
            progress.say(f"go on with the same command and --name {name}")
            return folder, False
    return folder, True


def _name(target: Node) -> str:
    return f"{folder_name(target)}-{time.strftime('%Y%m%d-%H%M%S')}"


def folder_name(node: Node) -> str:
    """What the folder of a node's run ends with; safe on every file system, and its own."""
    plain = node.name.replace("/", ".").replace("#", ".")
    safe = re.sub(r"[^\w.-]+", "_", plain)[:80]
    return safe if safe == plain else f"{safe}-{hashlib.sha256(node.name.encode()).hexdigest()[:6]}"


class Walk:
    """Trains the nodes of a graph one after another: each run is reused, gone on with, or begun.

    ``runs``: of the nodes that are there, by :meth:`key`. Graphs that are walked one after another
    may share them; then ``wanted`` says how many trainings of each node are made, ``scored`` which
    do not only teach, both by the nodes' own keys, and each target is a member like the others.
    """

    def __init__(
        self, graph: Graph, progress: Progress, runs: dict[str, RunDir] | None = None,
        wanted: Counter[str] | None = None, scored: Set[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.graph, self.progress = graph, progress
        self.root = root_of(graph.options.storage)
        self.scored = graph.scored() | scored
        self.asked = graph.target if wanted is None else None
        self.wanted = graph.trainings() if wanted is None else wanted
        self.runs = {} if runs is None else runs

    def key(self, node: Node) -> str:
        """What a node's run follows from: its configuration, and the protocol of the fusion."""
        return f"{node.key} {self._protocol()}"

    def run(self, node: Node, name: str) -> tuple[RunDir, bool]:
        """The run of a node whose needs are there, and whether it came to its end."""
        options = replace(self.graph.of(node), name=name)
        teaches = node.key not in self.scored
        if isinstance(node.entry, Fusion):
            folder, finished = self._fuse(node, options, teaches)
        else:
            options = options if node is self.asked else self._of_member(node, options)
            folder, finished = self._train(node, options, teaches)
        if finished:
            self.runs[self.key(node)] = folder
        return folder, finished

    def folder_name(self, node: Node) -> str:
        """What a node's folder ends with; where a fusion has its own protocol, with its name."""
        own = "" if self._protocol() is None else f".{self.graph.target.entry.name}"
        return folder_name(node) + own

    def run_of(self, name: str) -> RunDir:
        """The run of what a member or a requirement names."""
        return self.runs[self.key(self.graph.node(name))]

    def _of_member(self, node: Node, options: Options) -> Options:
        """A member's options: where nothing is searched, trainings of the published point; it
        predicts the test part as the fusion takes it."""
        trainings, target = max(1, self.wanted[node.key]), self.graph.target.entry
        final = target.final if isinstance(target, Fusion) else "refit"
        of_fusion = target.address if self._protocol() is not None else options.protocol_of
        repeat = options.repeat or options.trials is None
        return replace(
            options, trials=trainings if repeat else options.trials, repeat=repeat, stack="none",
            top_k=trainings, final=final, by_fold=False, protocol_of=of_fusion,
        )  # fmt: skip

    def _protocol(self) -> Any:
        """The protocol of the fusion, which its members take."""
        target = self.graph.target.entry
        return target.protocol if isinstance(target, Fusion) else None

    def _train(self, node: Node, options: Options, teaches: bool) -> tuple[RunDir, bool]:
        """A system's run: reused, gone on with, or begun."""
        plan, dataset, splits = make_plan(options)
        requires = node.requires
        required = {key: str(self.run_of(one.address).path) for key, one in requires.items()}
        notes = (*plan.notes, *biased_teachers(requires.values(), splits))
        plan = replace(plan, required=required, notes=notes, teaches=teaches)
        found = reusable(plan, self.root, stage=self.asked in (None, node))
        if found is not None:
            self.progress.say(f"{node.name}: {found.path.name} is reused")
            if found.plan.teaches and not teaches:
                return found, _score_too(found, plan, dataset, splits, self.progress)
            return found, True
        folder = RunDir(self.root / plan.name)
        return folder, _go_on_or_begin(folder, plan, dataset, splits, self.progress)

    def _fuse(self, node: Node, options: Options, teaches: bool) -> tuple[RunDir, bool]:
        """A fusion's run: its meta-learner over the best trials of its members."""
        fusion, members, parts = self._flat(node)
        folder = RunDir(self.root / str(options.name))
        places = {member: place for place, member in enumerate(members)}
        nested = any(part["learner"] is not None for part in parts)
        plan, dataset, splits = stacks.make_stack_plan(
            members,
            StageSettings(
                trials=options.stage_trials or 0,
                final=fusion.final,
                by_fold=fusion.by_fold,
                pool=fusion.pool,
                events_of=self._gate(fusion, places),
                row_weights=fusion.row_weights,
                parts=tuple(_placed(part, places) for part in parts) if nested else (),
                settings={fusion.learner: fusion.settings},
                # What teaches must not know the labels of the clips that it speaks of.
                fitted_on="out_of_fold" if teaches else fusion.fitted_on,
            ),
            stack=fusion.learner,
            name=options.name,
            protocol=options.protocol,
            mlflow=options.mlflow,
            ray_address=options.ray_address,
            fusion=node.name,
        )
        plan = replace(plan, teaches=teaches)
        finished = _go_on_or_begin(folder, plan, dataset, splits, self.progress)
        for row in refused(folder, plan.stage.learners):
            raise UserError(f"{node.name} could not be fitted: {row['why']}")
        return folder, finished

    def _flat(self, node: Node) -> tuple[Fusion, list[MemberRef], list[dict[str, Any]]]:
        """The trials below a fusion, each once, and its members as parts over them, in order.

        A part's ``members`` are trials; :func:`_placed` turns them into places.
        """
        fusion = node.entry
        assert isinstance(fusion, Fusion)
        taken: Counter[str] = Counter()
        parts: list[dict[str, Any]] = []
        for member in map(self.graph.node, fusion.members):
            if isinstance(member.entry, Fusion):
                parts.append(self._fused_part(member))
                continue
            trial = _trial(self.runs[self.key(member)], taken[member.key])
            taken[member.key] += 1
            parts.append({"name": member.name, "members": [trial], "learner": None})
        return fusion, list(dict.fromkeys(m for part in parts for m in part["members"])), parts

    def _fused_part(self, node: Node) -> dict[str, Any]:
        """A fusion as a member of another."""
        inner, members, parts = self._flat(node)
        places = {member: place for place, member in enumerate(members)}
        nested = any(part["learner"] is not None for part in parts)
        manner = {
            "by_fold": inner.by_fold, "pool": inner.pool, "events_of": self._gate(inner, places),
            "parts": [_placed(part, places) for part in parts] if nested else [],
        }  # fmt: skip
        return {
            "name": node.name, "members": members, "learner": inner.learner,
            "settings": dict(inner.settings), "manner": manner,
        }  # fmt: skip

    def _gate(self, fusion: Fusion, places: Mapping[MemberRef, int]) -> int | None:
        """The place of the member whose events a fusion's tags gate."""
        if fusion.events_of is None:
            return None
        return places[_trial(self.run_of(fusion.events_of), 0)]


def biased_teachers(requires: Iterable[Requirement], splits: Splits) -> list[str]:
    """Notes on fitted fusions that teach a system on whose validation rows they were fitted.

    Of several folds the others' rows fit the teacher again; of a single one there are none.
    """
    if len(splits.folds) > 1:
        return []
    return [
        f"The teacher {one.address} is a fusion whose meta-learner was fitted on the one "
        "validation part, which scores this system too: its validation figures are biased; the "
        "test part's are not."
        for one in requires
        if one.rows == "same_fold" and isinstance(registry.find(one.address), Fusion)
    ]


def _go_on_or_begin(
    folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress
) -> bool:
    """Begin a run, or go on with the one of this name. Raises UserError where that is another.

    One that only taught goes on to be scored where that is asked for.
    """
    if not folder.plan_file.exists():
        return begin(folder, plan, dataset, splits, progress)
    other = differing(folder.plan, plan, *TRAINED, "stage")
    if other:
        raise UserError(
            f"a run named '{plan.name}' exists in {folder.root} and was asked for otherwise "
            f"({', '.join(other)}): give another --name, or ask as before."
        )
    if folder.plan.teaches and not plan.teaches:
        return _score_too(folder, plan, dataset, splits, progress)
    return go_on(folder, Changes(), progress)


def _score_too(
    folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress
) -> bool:
    """Go on with a run that only taught, as a plan of the same training asks for it."""
    there = replace(
        folder.plan, teaches=False, resources=plan.resources, ray_address=plan.ray_address,
        mlflow=plan.mlflow,
    )  # fmt: skip
    return drive(folder, there, dataset, splits, progress)


def reusable(plan: Plan, root: Path, *, stage: bool = False) -> RunDir | None:
    """A finished run below the root that is what this plan would give; of several the first.

    One that only taught is there where no other is. ``stage``: its stage two too, and what predicts
    the test part; a fusion makes of its members what they lack of that.
    """
    of: tuple[Of, ...] = (*TRAINED, "stage") if stage else TRAINED
    apart = set() if stage else {"final"}
    alike = [
        run for run in gather.runs_below(root)
        if not {*differing(run.plan, plan, *of)} - apart
        and run.members.exists() and _is_searched(run)
    ]  # fmt: skip
    scored = [run for run in alike if run.scores.exists()]
    teaching = [run for run in alike if run.plan.teaches or plan.teaches]
    return next(iter((*scored, *teaching)), None)


def _is_searched(run: RunDir) -> bool:
    study = gather.study_of(run)
    return study.asked() >= run.plan.trials and not study.running()


def _placed(part: Mapping[str, Any], places: Mapping[MemberRef, int]) -> dict[str, Any]:
    """A part whose members are places in the order of all."""
    about = {key: value for key, value in part.items() if key != "members"}
    return {**about, "places": [places[member] for member in part["members"]]}


def _trial(run: RunDir, rank: int) -> MemberRef:
    """The trial of a member's run that is best but for ``rank`` others."""
    best = gather.best_of(run, rank + 1)
    if len(best) <= rank:
        raise UserError(
            f"the run '{run.path.name}' has {len(best)} completed trials, the fusion takes "
            f"{rank + 1}: soundsweep run --resume {run.path} --trials +1."
        )
    return best[rank]
