"""Which clips' sound a run needs, and at which rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.training.job import rate_of
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError


def stored_clips(plan: Plan, dataset: Dataset, splits: Splits) -> tuple[str, ...]:
    """Every clip whose sound the run needs, in the data set's order, test part included."""
    roles = {role for config in _corners(plan) for role in _roles(plan, config)}
    needed = {i for fold in splits.folds for i in (*fold.train, *fold.validation)}
    needed |= {i for role in roles for i in splits.unlabelled.get(role, ())}
    needed |= {clip.clip_id for clip in dataset.test_clips()}
    return tuple(clip.clip_id for clip in dataset.clips if clip.clip_id in needed)


def stored_rates(plan: Plan) -> tuple[int, ...]:
    """The sampling rates in Hz of the run's configurations; the first trial's comes first.

    Raises:
        UserError: a rate that is searched over a range: each is a store of its own.
    """
    for parameter in plan.space:
        ends = () if parameter.choices else (parameter.low, parameter.high)
        found = {rate_of(plan, config) for config in _configs_at(plan, parameter.key, ends)}
        if len(found) > 1:
            raise UserError(
                f"'{parameter.key}' is searched over a range and changes the sampling rate, and "
                "each rate is a waveform store of its own: name its values, "
                f"--space {parameter.key}=one-of:{','.join(map(str, sorted(found)))}."
            )
    return tuple(dict.fromkeys(rate_of(plan, config) for config in _corners(plan)))


def _roles(plan: Plan, config: Any) -> tuple[str, ...]:
    inputs = plan.entry().build(config).inputs()
    if set(inputs) != {"audio"}:
        raise UserError(f"{plan.system} takes other inputs than sound: {', '.join(inputs)}.")
    return inputs["audio"].roles


def _corners(plan: Plan) -> Iterator[Any]:
    """The first trial's configuration, and it with each searched value at either end."""
    yield plan.trial_config(plan.first_trial)
    for parameter in plan.space:
        values = parameter.choices or (parameter.low, parameter.high)
        yield from _configs_at(plan, parameter.key, values)


def _configs_at(plan: Plan, key: str, values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield plan.trial_config({**plan.first_trial, key: value})
