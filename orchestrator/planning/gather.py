"""Which trials of which runs a stack over several runs combines."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import MemberRef, Plan
from orchestrator.plan.signature import rows_of
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search
from systems import registry
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
        like = RunDir(Path(found[0].run)).plan if found else None
        address = registry.get(system).address
        found += _of_system(address, 3 if top_k is None else top_k, root, like)
    return list(dict.fromkeys(found))


def _of_name(name: str, top_k: int | None, root: Path, mlflow: str | None) -> list[MemberRef]:
    with contextlib.suppress(OSError):  # a name that no file can have: too long, say
        for path in (Path(name).expanduser(), root / name):
            if (path / "plan.json").exists():
                return best_of(RunDir(path.resolve()), top_k)
    if not MLFLOW_ID.fullmatch(name):
        raise UserError(f"no run '{name}': no folder with a plan.json, below {root} or elsewhere, "
                        "and no MLflow run id.")  # fmt: skip
    from orchestrator.tracking.locate import locate

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
    for run in runs_below(root):
        plan = run.plan
        if plan.system == address and plan.purpose == "search":
            refs = best_of(run, None, every=True, required=False)
            found += [(plan, refs)] if refs else []
    if not found:
        raise UserError(f"no run of {address} below {root} has a completed trial.")
    wanted = rows_of(like or max((plan for plan, _ in found), key=lambda plan: plan.created))
    alike = [ref for plan, refs in found if rows_of(plan) == wanted for ref in refs]
    if not alike:
        raise UserError(
            f"no run of {address} below {root} is of the rows of the other members "
            f"({'; '.join(map(in_short, wanted.values()))})."
        )
    return ranked(alike)[:top_k]


def runs_below(root: Path) -> Iterator[RunDir]:
    """All runs of a storage root by name; what has no readable plan is none."""
    for path in sorted(root.glob("*/plan.json")):
        run = RunDir(path.parent.resolve())
        try:
            _ = run.plan
        except UserError:
            continue
        yield run


def best_of(
    run: RunDir, top_k: int | None, *, every: bool = False, required: bool = True
) -> list[MemberRef]:
    """The best completed trials of a run, best first; of a stack, the trials that it combines."""
    plan = run.plan
    if plan.purpose == "stack":
        return list(plan.members)
    count = 10**9 if every else (plan.stage.top_k if top_k is None else top_k)
    trials = study_of(run).best(count) if run.study.exists() else []
    if not trials and required:
        raise UserError(f"the run '{plan.name}' has no completed trial: "
                        f"soundsweep run --resume {run.path}.")  # fmt: skip
    return [MemberRef(str(run.path), trial.number, plan.system) for trial in trials]


def study_of(run: RunDir) -> Search:
    """The study of a run, to be read."""
    plan = run.plan
    return Search(
        run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial, read_only=True
    )


def begun_trials(run: RunDir) -> int:
    """How many trials of a run have been begun."""
    return study_of(run).asked() if run.plan_file.exists() and run.study.exists() else 0


def ranked(members: Sequence[MemberRef]) -> list[MemberRef]:
    """Best first, by the value that each was selected by; of equals the earlier named."""
    plan = RunDir(Path(members[0].run)).plan
    sign = -1 if metric(plan.metric).mode == "max" else 1

    def value(ref: MemberRef) -> float:
        path = RunDir(Path(ref.run)).trial(ref.trial).result
        if not path.exists():
            raise UserError(
                f"trial {ref.trial} of the run {ref.run} is not there any more: no {path}."
            )
        result = read_json(path)
        return sign * float(result.get("score", result["value"]))

    return sorted(members, key=value)


def in_short(value: Any) -> str:
    return f"{len(value)}: {', '.join(value)}" if isinstance(value, tuple) else str(value)
