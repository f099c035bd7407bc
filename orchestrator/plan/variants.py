"""The decision variants of a paper that a plan scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.plan import Plan
from systems import config as configs

CONFIGURED = "as configured"


def variants_of(plan: Plan, variants: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The decision variants under which the member at this place predicts the test part."""
    every = (place == 0 and plan.purpose == "search") or plan.purpose == "train"
    return dict(variants) if every else dict(list(variants.items())[:1])


def decision_variants(plan: Plan) -> dict[str, dict[str, Any]]:
    """The paper's variants that differ in the decision alone; the plan's own comes first.

    What adapts on the test part's sound (``target``) is there only where it was asked for.
    """
    entry = plan.entry()
    config = plan.trial_config(plan.first_trial)
    if entry.decision is None:
        return {CONFIGURED: {}}
    prefix = entry.decision + "."
    variants = {
        name: dict(overrides)
        for name, overrides in entry.figures.items()
        if all(key.startswith(prefix) for key in overrides)
        and (plan.transductive or not is_transductive(plan, overrides))
    }
    searched = any(parameter.key.startswith(prefix) for parameter in plan.space)
    own = [
        name
        for name, overrides in variants.items()
        if not searched and configs.replace(config, overrides) == config
    ]
    first = {own[0]: variants[own[0]]} if own else {CONFIGURED: {}}
    return {**first, **variants}


def is_transductive(plan: Plan, overrides: Mapping[str, Any]) -> bool:
    """Whether a variant adapts on the sound of the clips that it is scored on."""
    decision = plan.entry().decision
    if decision is None:
        return False
    decided = configs.replace(plan.trial_config(plan.first_trial), overrides)
    return bool(configs.get(decided, f"{decision}.on") == "target")
