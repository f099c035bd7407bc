"""A stack over several runs: which members it combines, whether they may be, and its plan."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.plan import (
    Final,
    MemberRef,
    Plan,
    describe_splits,
    load_plan,
    reload,
    stack_names,
)
from orchestrator.rundir import RunDir, read_json
from orchestrator.stacking.base import Learner
from orchestrator.stacking.families import learner
from orchestrator.stacking.frame_pooling import Pool
from orchestrator.study import Search
from systems import registry
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.metrics import metric

MLFLOW_ID = re.compile(r"[0-9a-f]{32}")


def gather(
    names: Sequence[str], systems: Sequence[str], top_k: int | None, root: Path, mlflow: str | None
) -> list[MemberRef]:
    """The trials that a stack is to combine, each once.

    Args:
        names: run directories, names of runs below ``root``, or MLflow run ids: of a whole run,
            which stands for its best trials, or of one trial.
        systems: ``PAPER/SYSTEM``: its best trials over all runs below ``root`` of the same rows:
            those of the members that are named before it, else those of its latest run.
        top_k: best trials of each run or system; ``None``: as many as the run itself chose, three
            of a system.
        root: the storage root.
        mlflow: tracking URI of the ids; ``None`` is the store below ``root``.

    Raises:
        UserError: no such run, id or system, or one without a completed trial.
    """
    found: list[MemberRef] = []
    for name in names:
        found += _of_name(name, top_k, root, mlflow)
    for system in systems:
        like = load_plan(RunDir(Path(found[0].run))) if found else None
        address = registry.get(system).address
        found += _of_system(address, 3 if top_k is None else top_k, root, like)
    return list(dict.fromkeys(found))


def _of_name(name: str, top_k: int | None, root: Path, mlflow: str | None) -> list[MemberRef]:
    for path in (Path(name).expanduser(), root / name):
        if (path / "plan.json").exists():
            return best_of(RunDir(path.resolve()), top_k)
    if not MLFLOW_ID.fullmatch(name):
        raise UserError(f"no run '{name}': no folder with a plan.json, below {root} or elsewhere, "
                        "and no MLflow run id.")  # fmt: skip
    from orchestrator.tracking import locate

    run, trial = locate(name, mlflow or f"sqlite:///{root / 'mlflow.db'}", root)
    if trial is None:
        return best_of(run, top_k)
    completed = {ref.trial: ref for ref in best_of(run, None, every=True)}
    if trial not in completed:
        raise UserError(
            f"the MLflow run {name} is trial {trial} of {run.path.name}, which did not complete; "
            f"completed are {', '.join(map(str, sorted(completed)))}."
        )
    return [completed[trial]]


def _of_system(address: str, top_k: int, root: Path, like: Plan | None) -> list[MemberRef]:
    """The best trials of a system over all runs below the root that predict the same rows."""
    found: list[tuple[Plan, list[MemberRef]]] = []
    for run, plan in runs_below(root):
        if plan.system == address and plan.purpose == "search":
            refs = best_of(run, None, every=True, required=False)
            found += [(plan, refs)] if refs else []
    if not found:
        raise UserError(f"no run of {address} below {root} has a completed trial.")
    wanted = _rows_of(like or max((plan for plan, _ in found), key=lambda plan: plan.created))
    alike = [ref for plan, refs in found if _rows_of(plan) == wanted for ref in refs]
    if not alike:
        raise UserError(
            f"no run of {address} below {root} is of the rows of the other members "
            f"({'; '.join(map(_short, wanted.values()))})."
        )
    return ranked(alike)[:top_k]


def runs_below(root: Path) -> Iterator[tuple[RunDir, Plan]]:
    """All runs of a storage root and their plans, by name; what has no readable plan is none."""
    for path in sorted(root.glob("*/plan.json")):
        run = RunDir(path.parent.resolve())
        try:
            plan = load_plan(run)
        except UserError:
            continue
        yield run, plan


def best_of(
    run: RunDir, top_k: int | None, *, every: bool = False, required: bool = True
) -> list[MemberRef]:
    """The best completed trials of a run, best first; of a stack, the trials that it combines."""
    plan = load_plan(run)
    if plan.purpose == "stack":
        return list(plan.members)
    count = 10**9 if every else (plan.top_k if top_k is None else top_k)
    trials = study_of(run, plan).best(count) if run.study.exists() else []
    if not trials and required:
        raise UserError(f"the run '{plan.name}' has no completed trial: "
                        f"soundsweep run --resume {run.path}.")  # fmt: skip
    return [MemberRef(str(run.path), trial.number, plan.system) for trial in trials]


def study_of(run: RunDir, plan: Plan) -> Search:
    """The study of a run, to be read."""
    return Search(
        run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial, read_only=True
    )


def ranked(members: Sequence[MemberRef]) -> list[MemberRef]:
    """Best first, by the value that each was selected by; of equals the earlier named."""
    plan = load_plan(RunDir(Path(members[0].run)))
    sign = -1 if metric(plan.metric).mode == "max" else 1

    def value(ref: MemberRef) -> float:
        path = RunDir(Path(ref.run)).trial(ref.trial).result
        if not path.exists():
            raise UserError(
                f"trial {ref.trial} of the run {ref.run} is not there any more: no {path}."
            )
        return sign * float(read_json(path)["value"])

    return sorted(members, key=value)


def make_stack_plan(
    members: Sequence[MemberRef],
    *,
    stack: str = "standard",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    final: Final = "refit",
    by_fold: bool = False,
    pool: Pool = "clips",
    events_of: int | None = None,
    parts: Sequence[Mapping[str, Any]] = (),
    row_weights: Mapping[str, Mapping[str, float]] | None = None,
    name: str | None = None,
    protocol: str = "honest",
    mlflow: str | None = None,
    ray_address: str | None = None,
    fusion: str | None = None,
    fitted_on: str = "out_of_fold",
    stage_trials: int = 0,
) -> tuple[Plan, Dataset, Splits]:
    """The plan of a stack over members of one or several runs; nothing is written.

    Raises:
        UserError: fewer than two members, or members whose data set, split, classes, kind of
            predictions or metric differ: says which and how.
    """
    if not members:
        raise UserError("a stack needs members: name runs, MLflow run ids, or --system.")
    ordered = ranked(members) if fusion is None else list(members)
    plans = [load_plan(RunDir(Path(ref.run))) for ref in ordered]
    _check_alike(plans)
    _check_keys(ordered)
    first = plans[0]
    plan = replace(
        first,
        name=name or f"stack-{first.dataset}-{time.strftime('%Y%m%d-%H%M%S')}",
        run_id=uuid.uuid4().hex,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        purpose="stack",
        members=tuple(ordered),
        space=(),
        moved={},
        trials=0,
        halving=None,
        time_budget=None,
        top_k=len(ordered),
        final=final,
        by_fold=by_fold,
        pool=pool,
        events_of=events_of,
        row_weights={column: dict(w) for column, w in (row_weights or {}).items()},
        fusion_parts=tuple(dict(part) for part in parts),
        fusion=fusion,
        protocol=protocol,
        mlflow=mlflow,
        ray_address=ray_address,
        stage_trials=stage_trials,
        learner_settings={key: dict(value) for key, value in (settings or {}).items()},
        fitted_on="out_of_fold" if protocol == "honest" else fitted_on,  # type: ignore[arg-type]
    )
    dataset, splits = reload(plan)
    digest = describe_splits(splits)["digest"]
    if digest != first.splits["digest"]:
        raise UserError(
            f"the run '{first.name}' holds out {first.splits['protocol']}; stage two needs "
            "predictions of every fold: use runs of `soundsweep run`."
        )
    shared = set.intersection(*(set(p.entry().gives) for p in plans))
    gives = tuple(sorted(shared))
    names = stack_names(stack, dataset, gives, registered=fusion is not None)
    if plan.fitted_on == "test":
        for name_ in names:
            _check_fits_test(learner(name_, None, plan.manner()), plan.by_fold)
    return replace(plan, stack=names), dataset, splits


def _check_fits_test(fitted: Learner, by_fold: bool) -> None:
    """Refuse what needs more than the final models' predictions of the test part."""
    if "epoch_scores" in fitted.takes:
        raise UserError(f"{fitted.name} cannot be fitted on the test part: it takes all epochs.")
    if by_fold or fitted.one_model or fitted.uses_folds:
        raise UserError(f"{fitted.name} cannot be fitted on the test part: no fold held it out.")


def _check_keys(members: Sequence[MemberRef]) -> None:
    """Refuse two runs of one name: a member is told by its run's name and its number."""
    folders: dict[str, str] = {}
    for ref in members:
        if folders.setdefault(Path(ref.run).name, ref.run) != ref.run:
            raise UserError(
                f"{folders[Path(ref.run).name]} and {ref.run} have the same name: rename one of "
                "the folders, so that their trials can be told apart."
            )


def _check_alike(plans: Sequence[Plan]) -> None:
    """Refuse members that are not of the same rows."""
    first = plans[0]
    for other in plans[1:]:
        theirs_by_name = _rows_of(other)
        for what, one in _rows_of(first).items():
            two = theirs_by_name[what]
            if one != two:
                raise UserError(
                    f"{first.name} and {other.name} cannot be stacked: their {what} differs "
                    f"({_short(one)} and {_short(two)}). Stack runs over the same rows."
                )
        ours, theirs = first.entry().gives, other.entry().gives
        if not set(ours) & set(theirs):
            raise UserError(
                f"{first.name} and {other.name} cannot be stacked: {first.system} gives "
                f"{', '.join(ours)}, {other.system} {', '.join(theirs)}."
            )


def _rows_of(plan: Plan) -> dict[str, Any]:
    """What runs must share to be stacked. A seed counts by what it draws: the split's digest."""
    return {
        "data set": f"{plan.dataset} {plan.fingerprint}",
        "classes": plan.classes,
        "split": f"{plan.splits['protocol']}, {plan.splits['digest']}",
        "kind of predictions": metric(plan.metric).predictions,
        "metric": plan.metric,
    }


def _short(value: Any) -> str:
    return f"{len(value)}: {', '.join(value)}" if isinstance(value, tuple) else str(value)
