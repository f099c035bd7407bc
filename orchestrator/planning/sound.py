"""Which clips' sound a run needs, and what inputs they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.training.job import inputs_of
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError
from systems.system import Input, by_key


def stored_clips(
    plan: Plan, dataset: Dataset, splits: Splits, more: Sequence[str] = ()
) -> tuple[str, ...]:
    """Every clip whose sound the run needs, in the data set's order, test part included.

    ``more``: roles that are asked for beside its own.
    """
    roles = {role for config in _corners(plan) for role in _roles(plan, config)} | {*more}
    needed = {i for fold in splits.folds for i in (*fold.train, *fold.validation)}
    needed |= {i for role in roles for i in splits.unlabelled.get(role, ())}
    needed |= {clip.clip_id for clip in dataset.test_clips()}
    return tuple(clip.clip_id for clip in dataset.clips if clip.clip_id in needed)


def stored_inputs(plan: Plan) -> dict[str, Input]:
    """The distinct inputs of the run's configurations by key; the first trial's come first.

    Raises:
        UserError: what changes an input is searched over a range: each value is a store of its own.
    """
    for parameter in plan.space:
        ends = () if parameter.choices else (parameter.low, parameter.high)
        at_ends = (inputs_of(plan, one) for one in _configs_at(plan, parameter.key, ends))
        if len({tuple(by_key(inputs.values())) for inputs in at_ends}) > 1:
            raise UserError(
                f"'{parameter.key}' is searched over a range and changes the sound that is stored "
                "(its sampling rate, or what is left of a clip), kept once for each value: name "
                f"its values, --space {parameter.key}=one-of:{parameter.low},{parameter.high}."
            )
    return by_key(one for config in _corners(plan) for one in inputs_of(plan, config).values())


def _roles(plan: Plan, config: Any) -> tuple[str, ...]:
    return tuple(role for one in inputs_of(plan, config).values() for role in one.roles)


def _corners(plan: Plan) -> Iterator[Any]:
    """The first trial's configuration, and it with each searched value at either end."""
    yield plan.trial_config(plan.first_trial)
    for parameter in plan.space:
        values = parameter.choices or (parameter.low, parameter.high)
        yield from _configs_at(plan, parameter.key, values)


def _configs_at(plan: Plan, key: str, values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield plan.trial_config({**plan.first_trial, key: value})
