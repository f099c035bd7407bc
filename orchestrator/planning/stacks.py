"""A stack over several runs: which members it combines, whether they may be, and its plan."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.members.seen import OPTIONAL_KINDS
from orchestrator.plan.plan import MemberRef, Plan
from orchestrator.plan.signature import rows_of
from orchestrator.plan.stage import StageSettings
from orchestrator.planning.gather import in_short, ranked
from orchestrator.planning.learners import stack_names
from orchestrator.planning.resolve import describe_splits, reload
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.families import learner
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError


def make_stack_plan(
    members: Sequence[MemberRef],
    stage: StageSettings,
    *,
    stack: str = "standard",
    name: str | None = None,
    protocol: str = "honest",
    mlflow: str | None = None,
    ray_address: str | None = None,
    fusion: str | None = None,
) -> tuple[Plan, Dataset, Splits]:
    """The plan of a stack over members of one or several runs; nothing is written.

    ``stack`` names the meta-learners, as ``--stack`` does; ``stage`` is the rest of stage two.

    Raises:
        UserError: fewer than two members, or members whose data set, split, classes, kind of
            predictions or metric differ: says which and how.
    """
    if not members:
        raise UserError("a stack needs members: name runs, MLflow run ids, or --system.")
    ordered = ranked(members) if fusion is None else list(members)
    plans = [RunDir(Path(ref.run)).plan for ref in ordered]
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
        stage=replace(
            stage,
            top_k=len(ordered),
            fitted_on="out_of_fold" if protocol == "honest" else stage.fitted_on,
        ),
        fusion=fusion,
        protocol=protocol,
        mlflow=mlflow,
        ray_address=ray_address,
    )
    dataset, splits = reload(plan)
    digest = describe_splits(splits)["digest"]
    if digest != first.splits["digest"]:
        raise UserError(
            f"the run '{first.name}' holds out {first.splits['protocol']}; stage two needs "
            "predictions of every fold: use runs of `soundsweep run`."
        )
    refuse_fitted(first, splits)
    gives = _given([p.entry().gives for p in plans])
    names = stack_names(stack, dataset, gives, registered=fusion is not None)
    if plan.stage.fitted_on == "test":
        _check_test_labels(dataset, str(fusion))
        for name_ in names:
            _check_fits_test(learner(name_, None, plan.stage.manner), plan.stage.by_fold)
    return replace(plan, stage=replace(plan.stage, learners=names)), dataset, splits


def refuse_fitted(plan: Plan, splits: Splits) -> None:
    """Raise UserError where a run's members predict clips that they were fitted on."""
    if splits.same:
        raise UserError(
            f"the run '{plan.name}' was {splits.protocol}: stage two needs predictions of clips "
            "that were held out. Use runs without --protocol paper."
        )


def _given(each: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The kinds of predictions that all members give, or, of those that one may lack, some do."""
    shared = set.intersection(*map(set, each))
    return tuple(sorted(shared.union(*each) & (shared | set(OPTIONAL_KINDS))))


def _check_test_labels(dataset: Dataset, fusion: str) -> None:
    """Refuse to fit on labels that nobody has."""
    part = dataset.test_part
    if part is None or dataset.withholds(part):
        why = "has no test part" if part is None else f"withholds the labels of its part '{part}'"
        raise UserError(
            f"{fusion} was fitted on the test part by its paper, and {dataset.name} {why}: leave "
            "out --protocol paper."
        )


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
        theirs_by_name = rows_of(other)
        for what, one in rows_of(first).items():
            two = theirs_by_name[what]
            if one != two:
                raise UserError(
                    f"{first.name} and {other.name} cannot be stacked: their {what} differs "
                    f"({in_short(one)} and {in_short(two)}). Stack runs over the same rows."
                )
        ours, theirs = first.entry().gives, other.entry().gives
        if not set(ours) & set(theirs):
            raise UserError(
                f"{first.name} and {other.name} cannot be stacked: {first.system} gives "
                f"{', '.join(ours)}, {other.system} {', '.join(theirs)}."
            )
