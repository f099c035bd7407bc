"""Which clips' sound a run needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.plan.plan import Plan
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError


def stored_clips(plan: Plan, dataset: Dataset, splits: Splits) -> tuple[str, ...]:
    """Every clip whose sound the run needs, in the data set's order, test part included."""
    roles = {role for config in _corners(plan) for role in _roles(plan, config)}
    needed = {i for fold in splits.folds for i in (*fold.train, *fold.validation)}
    needed |= {i for role in roles for i in splits.unlabelled.get(role, ())}
    needed |= {clip.clip_id for clip in dataset.part(dataset.test_part)}
    return tuple(clip.clip_id for clip in dataset.clips if clip.clip_id in needed)


def _roles(plan: Plan, config: Any) -> tuple[str, ...]:
    inputs = plan.entry().build(config).inputs()
    if set(inputs) != {"audio"}:
        raise UserError(f"{plan.system} takes other inputs than sound: {', '.join(inputs)}.")
    return inputs["audio"].roles


def _corners(plan: Plan) -> Iterator[Any]:
    """The first trial's configuration, and it with each searched value at either end."""
    yield plan.trial_config(plan.first_trial)
    for parameter in plan.space:
        for value in parameter.choices or (parameter.low, parameter.high):
            yield plan.trial_config({**plan.first_trial, parameter.key: value})
