"""What a plan's trainings are of the paper's figures, and the decision variants that it scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.plan import Plan
from systems import config as configs
from systems.figures import Figure
from systems.registry import Entry

CONFIGURED = "as configured"


@dataclass(frozen=True)
class Training:
    """One training that figures name. ``changes``: what of the published values it changes."""

    changes: dict[str, Any]
    figures: tuple[Figure, ...]


def trainings(entry: Entry, dataset: str) -> list[Training]:
    """The distinct trainings behind a system's figures on a data set, in the figures' order."""
    found: list[Training] = []
    for figure in entry.figures:
        if figure.dataset not in (None, dataset):
            continue
        changes = _changes(entry, figure, dataset)
        same = next((i for i, one in enumerate(found) if one.changes == changes), None)
        if same is None:
            found.append(Training(changes, (figure,)))
        else:
            found[same] = Training(changes, (*found[same].figures, figure))
    return found


def _changes(entry: Entry, figure: Figure, dataset: str) -> dict[str, Any]:
    """The values, decision apart, in which a figure's configuration differs from the system's."""
    published = entry.published_config(dataset)
    overrides = {k: v for k, v in figure.overrides.items() if not _decides(entry, k)}
    before = configs.flatten(published)
    after = configs.flatten(configs.replace(published, overrides))
    return {k: v for k, v in after.items() if k not in before or before[k] != v}


def _decides(entry: Entry, key: str) -> bool:
    return entry.decision is not None and key.startswith(f"{entry.decision}.")


def trained_figures(plan: Plan) -> tuple[Figure, ...]:
    """The figures that the plan's trainings are of: by the configuration that both resolve to.

    Of several trainings whose changes the plan's configuration has, it is the one with the most.
    """
    entry, ours = plan.entry(), configs.flatten(plan.base_config())
    matching = [
        training
        for training in trainings(entry, plan.dataset)
        if all(k in ours and ours[k] == value for k, value in training.changes.items())
    ]
    return max(matching, key=lambda one: len(one.changes)).figures if matching else ()


def variants_of(plan: Plan, variants: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The decision variants under which the member at this place predicts the test part."""
    every = (place == 0 and plan.purpose == "search") or plan.repeats
    return dict(variants) if every else dict(list(variants.items())[:1])


def decision_variants(plan: Plan) -> dict[str, dict[str, Any]]:
    """The paper's variants that differ in the decision alone; the plan's own comes first.

    What adapts on the test part's sound (``target``) is there only where it was asked for.
    """
    entry = plan.entry()
    if entry.decision is None:
        return {CONFIGURED: {}}
    config = plan.trial_config(plan.first_trial)
    variants: dict[str, dict[str, Any]] = {}
    for figure in trained_figures(plan):
        decision = _decision(entry, figure)
        wanted = plan.transductive or not is_transductive(plan, decision)
        if decision and decision not in variants.values() and wanted:
            variants[figure.name] = decision
    searched = any(_decides(entry, parameter.key) for parameter in plan.space)
    own = [
        name
        for name, overrides in variants.items()
        if not searched and configs.replace(config, overrides) == config
    ]
    first = {own[0]: variants[own[0]]} if own else {CONFIGURED: {}}
    return {**first, **variants}


def _decision(entry: Entry, figure: Figure) -> dict[str, Any]:
    return {key: value for key, value in figure.overrides.items() if _decides(entry, key)}


def scored_as(plan: Plan, figure: Figure) -> str:
    """The decision variant that one of the :func:`trained_figures` is scored as."""
    entry = plan.entry()
    decision = _decision(entry, figure)
    if not decision:
        return next(iter(decision_variants(plan)))  # the plan's own
    return next(f.name for f in trained_figures(plan) if _decision(entry, f) == decision)


def is_transductive(plan: Plan, overrides: Mapping[str, Any]) -> bool:
    """Whether a variant adapts on the sound of the clips that it is scored on."""
    decision = plan.entry().decision
    if decision is None:
        return False
    decided = configs.replace(plan.trial_config(plan.first_trial), overrides)
    return bool(configs.get(decided, f"{decision}.on") == "target")
