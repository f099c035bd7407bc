"""Two runs side by side: paired differences over the same clips, from stored counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.plan.plan import Plan
from orchestrator.plan.signature import differing
from orchestrator.runs.counts import Scored, load_counts
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems.errors import UserError
from systems.metrics import metric


def compare(first: RunDir, second: RunDir) -> dict[str, Any]:
    """Differences ``second - first`` of everything that both runs have scored.

    Returns:
        ``settings``: what was asked for otherwise, key -> (first, second); ``rows``: part, who,
        metric, its mode (``min``: less is better), clips and their groups, both values, and the
        paired difference with its 95 % interval (bootstrap over groups of clips). A part whose
        clips differ, such as the validation clips of a search with folds and of a training with a
        hold-out, has no rows.

    Raises:
        UserError: the runs are not of the same data and classes, or one has scored nothing.
    """
    plans = [run.plan for run in (first, second)]
    for what in differing(plans[0], plans[1], "data"):
        values = [getattr(plan, what) for plan in plans]
        raise UserError(
            f"{plans[0].name} and {plans[1].name} cannot be compared: their {what} differs "
            f"({values[0]} and {values[1]})."
        )
    rows: list[dict[str, Any]] = []
    for part in ("validation", "test", *plans[0].test_parts[1:]):
        paths = [_counts(run, part) for run in (first, second)]
        if all(path.exists() for path in paths):
            rows += _rows(part, *paths)
    if not rows:
        unscored = [p.name for p, r in zip(plans, (first, second), strict=True)
                    if not r.validation_counts.exists()]  # fmt: skip
        raise UserError(
            f"{' and '.join(unscored) or 'these runs'} have no scores in common: let the run end "
            "(soundsweep run --resume NAME)."
        )
    return {"runs": [plan.name for plan in plans], "settings": _settings(*plans), "rows": rows}


def _counts(run: RunDir, part: str) -> Path:
    known = {"validation": run.validation_counts, "test": run.test_counts}
    return known.get(part) or run.further_counts(part)


def _rows(part: str, first: Path, second: Path) -> list[dict[str, Any]]:
    ours, theirs = load_counts(first), load_counts(second)
    if set(ours.clip_ids) != set(theirs.clip_ids):
        return []  # a search's folds and a training's hold-out: no pairs
    order = np.array([theirs.clip_ids.index(clip_id) for clip_id in ours.clip_ids])
    by_key = {row.key: row for row in theirs.rows}
    return [
        _difference(part, row, by_key[row.key], order, ours.groups, name)
        for row in ours.rows
        if row.key in by_key
        for name in row.counts
        if name in by_key[row.key].counts
    ]


def _difference(
    part: str, first: Scored, second: Scored, order: np.ndarray, groups: Sequence[str], name: str
) -> dict[str, Any]:
    about = metric(name)
    a, b = first.counts[name], second.counts[name][order]
    return {
        "part": part,
        "who": first.key,
        "metric": name,
        "mode": about.mode,
        "clips": len(a),
        "groups": len(set(groups)),
        "first": about.value(a),
        "second": about.value(b),
        "difference": about.difference(b, a, groups)._asdict(),
    }


def _settings(first: Plan, second: Plan) -> dict[str, tuple[Any, Any]]:
    """What the two runs were asked for otherwise; configurations by key."""
    asked = [
        {
            "system": plan.system, "budget": plan.budget.text, "trials": plan.trials,
            "seed": plan.seed, "protocol": plan.protocol, "purpose": plan.purpose,
            **configs.flatten(plan.budget.apply(plan.base_config())),
        }
        for plan in (first, second)
    ]  # fmt: skip
    keys = dict.fromkeys([*asked[0], *asked[1]])
    pairs = {key: (asked[0].get(key), asked[1].get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
