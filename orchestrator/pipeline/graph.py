"""Fusions, and systems that learn from others: what they need is trained first, or reused.

``--system PAPER/FUSION`` walks the graph of :func:`registry.resolve`. Each system gets a run of its
own below the storage root, ``NAME.SYSTEM``; one that is there already, of the same data, splits,
configuration, budget and seed, is reused. A killed walk goes on by the same command and ``--name``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import begin, go_on
from orchestrator.plan.options import Changes, Options
from orchestrator.plan.plan import MemberRef, Plan
from orchestrator.plan.signature import TRAINED, Of, differing
from orchestrator.plan.stage import StageSettings
from orchestrator.planning import gather, stacks
from orchestrator.planning.fusions import check_graph, trainings
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import root_of, writable
from orchestrator.stacking.stage import refused
from systems import registry
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.registry import Entry, Fusion


def run_graph(options: Options, progress: Progress) -> tuple[RunDir, bool]:
    """Train what a system or fusion needs, then itself.

    Members are trained at their published point, or searched where ``trials`` says so.

    Returns:
        the last run that was worked on, and whether all came to their end.
    """
    order = registry.resolve(options.system)
    target = order[-1]
    name = options.name or _name(target)
    check_graph(order, replace(options, name=name))
    writable(root_of(options.storage))
    runs: dict[str, RunDir] = {}
    wanted = trainings(order)
    for entry in order:
        last = entry is target
        own = name if last else f"{name}.{entry.address.replace('/', '.')}"
        asked = replace(options, system=entry.address, name=own)
        if isinstance(entry, Fusion):
            folder, finished = _fuse(entry, asked, runs, progress)
        else:
            required = {
                key: str(runs[registry.find(requirement.address).address].path)
                for key, requirement in entry.requires.items()
            }
            asked = asked if last else _of_member(asked, max(1, wanted[entry.address]))
            folder, finished = _train(entry, asked, required, last, progress)
        if not finished:
            progress.say(f"go on with the same command and --name {name}")
            return folder, False
        runs[entry.address] = folder
    return folder, True


def _name(target: Entry | Fusion) -> str:
    return f"{target.address.replace('/', '.')}-{time.strftime('%Y%m%d-%H%M%S')}"


def _of_member(options: Options, trainings: int) -> Options:
    """A member's options: where nothing is searched, trainings of the published point."""
    return replace(
        options, trials=options.trials or trainings, repeat=options.trials is None, stack="none",
        top_k=trainings, final="refit", by_fold=False,
    )  # fmt: skip


def _train(
    entry: Entry, options: Options, required: dict[str, str], last: bool, progress: Progress
) -> tuple[RunDir, bool]:
    """A system's run: reused, gone on with, or begun."""
    plan, dataset, splits = make_plan(options)
    plan = replace(plan, required=required, notes=(*plan.notes, *biased_teachers(entry, splits)))
    root = root_of(options.storage)
    found = reusable(plan, root, stage=last)
    if found is not None:
        progress.say(f"{entry.address}: {found.path.name} is reused")
        return found, True
    folder = RunDir(root / plan.name)
    return folder, _go_on_or_begin(folder, plan, dataset, splits, progress)


def biased_teachers(entry: Entry, splits: Splits) -> list[str]:
    """Notes on fitted fusions that teach a system on whose validation rows they were fitted.

    Of several folds the others' rows fit the teacher again; of a single one there are none.
    """
    if len(splits.folds) > 1:
        return []
    return [
        f"The teacher {one.address} is a fusion whose meta-learner was fitted on the one "
        "validation part, which scores this system too: its validation figures are biased; the "
        "test part's are not."
        for one in entry.requires.values()
        if one.rows == "same_fold" and isinstance(registry.find(one.address), Fusion)
    ]


def _go_on_or_begin(
    folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits, progress: Progress
) -> bool:
    """Begin a run, or go on with the one of this name. Raises UserError where that is another."""
    if not folder.plan_file.exists():
        return begin(folder, plan, dataset, splits, progress)
    other = differing(folder.plan, plan, *TRAINED, "stage")
    if other:
        raise UserError(
            f"a run named '{plan.name}' exists in {folder.root} and was asked for otherwise "
            f"({', '.join(other)}): give another --name, or ask as before."
        )
    return go_on(folder, Changes(), progress)


def reusable(plan: Plan, root: Path, *, stage: bool = False) -> RunDir | None:
    """A finished run below the root that is what this plan would give; of several the first.

    ``stage``: its stage two too.
    """
    of: tuple[Of, ...] = (*TRAINED, "stage") if stage else TRAINED
    for run in gather.runs_below(root):
        same = not differing(run.plan, plan, *of)
        if same and run.scores.exists() and _is_searched(run):
            return run
    return None


def _is_searched(run: RunDir) -> bool:
    study = gather.study_of(run)
    return study.asked() >= run.plan.trials and not study.running()


def _fuse(
    fusion: Fusion, options: Options, runs: Mapping[str, RunDir], progress: Progress
) -> tuple[RunDir, bool]:
    """A fusion's run: its meta-learner over the best trials of its members."""
    folder = RunDir(root_of(options.storage) / str(options.name))
    members, parts = _flat(fusion, runs)
    places = {member: place for place, member in enumerate(members)}
    nested = any(part["learner"] is not None for part in parts)
    plan, dataset, splits = stacks.make_stack_plan(
        members,
        StageSettings(
            trials=options.stage_trials or 0,
            final=fusion.final,
            by_fold=fusion.by_fold,
            pool=fusion.pool,
            events_of=_gate(fusion, runs, places),
            row_weights=fusion.row_weights,
            parts=tuple(_placed(part, places) for part in parts) if nested else (),
            settings={fusion.learner: fusion.settings},
            fitted_on=fusion.fitted_on,
        ),
        stack=fusion.learner,
        name=options.name,
        protocol=options.protocol,
        mlflow=options.mlflow,
        ray_address=options.ray_address,
        fusion=fusion.address,
    )
    finished = _go_on_or_begin(folder, plan, dataset, splits, progress)
    for row in refused(folder, plan.stage.learners):
        raise UserError(f"{fusion.address} could not be fitted: {row['why']}")
    return folder, finished


def _flat(
    fusion: Fusion, runs: Mapping[str, RunDir]
) -> tuple[list[MemberRef], list[dict[str, Any]]]:
    """The trials below a fusion, each once, and its members as parts over them, in order.

    A part's ``members`` are trials; :func:`_placed` turns them into places.
    """
    taken: Counter[str] = Counter()
    parts: list[dict[str, Any]] = []
    for name in fusion.members:
        entry = registry.find(name)
        if isinstance(entry, Fusion):
            parts.append(_fused_part(entry, runs))
            continue
        trial = _trial(runs[entry.address], taken[entry.address])
        taken[entry.address] += 1
        parts.append({"name": name, "members": [trial], "learner": None})
    return list(dict.fromkeys(m for part in parts for m in part["members"])), parts


def _fused_part(inner: Fusion, runs: Mapping[str, RunDir]) -> dict[str, Any]:
    """A fusion as a member of another."""
    members, parts = _flat(inner, runs)
    places = {member: place for place, member in enumerate(members)}
    nested = any(part["learner"] is not None for part in parts)
    manner = {
        "by_fold": inner.by_fold, "pool": inner.pool, "events_of": _gate(inner, runs, places),
        "parts": [_placed(part, places) for part in parts] if nested else [],
    }  # fmt: skip
    return {
        "name": inner.address, "members": members, "learner": inner.learner,
        "settings": dict(inner.settings), "manner": manner,
    }  # fmt: skip


def _placed(part: Mapping[str, Any], places: Mapping[MemberRef, int]) -> dict[str, Any]:
    """A part whose members are places in the order of all."""
    about = {key: value for key, value in part.items() if key != "members"}
    return {**about, "places": [places[member] for member in part["members"]]}


def _gate(
    fusion: Fusion, runs: Mapping[str, RunDir], places: Mapping[MemberRef, int]
) -> int | None:
    """The place of the member whose events a fusion's tags gate."""
    if fusion.events_of is None:
        return None
    return places[_trial(runs[registry.find(fusion.events_of).address], 0)]


def _trial(run: RunDir, rank: int) -> MemberRef:
    """The trial of a member's run that is best but for ``rank`` others."""
    best = gather.best_of(run, rank + 1)
    if len(best) <= rank:
        raise UserError(
            f"the run '{run.path.name}' has {len(best)} completed trials, the fusion takes "
            f"{rank + 1}: soundsweep run --resume {run.path} --trials +1."
        )
    return best[rank]
