"""Whether the data's clips are long enough for what may be trained: told before anything starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.planning.sound import stored_clips
from systems.config import short
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError

MOST = 256  # combinations of values that are looked at
Values = tuple[tuple[str, Any], ...]  # of some keys


def check_lengths(plan: Plan, dataset: Dataset, splits: Splits) -> None:
    """Each configuration that a trial may have can hear the clips.

    Raises:
        UserError: names the values that no clip can take, and why.
    """
    seconds = {clip.clip_id: clip.duration for clip in dataset.clips}
    trained = [max(fold.train, key=seconds.__getitem__) for fold in splits.folds]
    longest = min(trained, key=seconds.__getitem__)
    shortest = min(stored_clips(plan, dataset, splits), key=seconds.__getitem__)

    def why(values: Mapping[str, Any]) -> str:
        system = plan.entry().build(plan.trial_config({**plan.first_trial, **values}))
        for one in system.inputs().values():
            if round(seconds[shortest] * one.rate) < 1:
                return f"the shortest clip is shorter than a sample at {one.rate} Hz"
        return system.too_short(seconds[longest], seconds[shortest], len(plan.classes))

    lengths = f"the longest clip that trains is {longest}, the shortest of all {shortest}"
    if first := why({}):
        raise UserError(
            f"{plan.system} cannot hear these clips: {first} ({lengths}). Take longer clips, or "
            "other values (--set KEY=VALUE)."
        )
    told: dict[Values, str] = {}
    for candidates in _candidates(plan):
        faults = {tuple(values.items()): why(values) for values in candidates}
        told |= _least_told({values: text for values, text in faults.items() if text}, faults)
    if told:
        lines = [
            f"  {', '.join(f'{key}={short(value)}' for key, value in values)}: {text}"
            for values, text in told.items()
        ]
        raise UserError(
            f"values of the search space do not fit these clips ({lengths}):\n"
            + "\n".join(lines)
            + "\nLeave them out (--space KEY=one-of:A,B), or take longer clips."
        )


def _least_told(wrong: Mapping[Values, str], every: Iterable[Values]) -> dict[Values, str]:
    """Of wrong combinations the values that are wrong in all of theirs, and what else is wrong."""
    alone = {
        one: text
        for values, text in wrong.items()
        for one in values
        if all(other in wrong for other in every if one in other)
    }
    found: dict[Values, str] = {(one,): text for one, text in alone.items()}
    rest = {values: text for values, text in wrong.items() if not alone.keys() & {*values}}
    return {**found, **rest}


def _candidates(plan: Plan) -> Iterator[list[dict[str, Any]]]:
    """The values of each searched key (of a range its ends); those of keys that change how much
    sound a frame takes together, in every combination."""
    values = {p.key: p.choices or (p.low, p.high) for p in plan.space}
    least = _least(plan, {})
    together = [
        key
        for key, choices in values.items()
        if any(_least(plan, {key: value}) != least for value in choices)
    ]
    every = itertools.product(*(values[key] for key in together))
    combined = [dict(zip(together, one, strict=True)) for one in itertools.islice(every, MOST)]
    yield combined if together else []
    for key, choices in values.items():
        if key not in together:
            yield [{key: value} for value in choices]


def _least(plan: Plan, values: Mapping[str, Any]) -> float:
    return plan.entry().build(plan.trial_config({**plan.first_trial, **values})).least_seconds
