"""A paper's figures beside ours: which row of results.csv is what a run has scored.

A row is (system, variant, data set, split, metric, label). It is set beside ours only where all
six are the same; else a code says why not (:data:`orchestrator.report.words.WHY_NOT`).
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, scored_as, trained_figures
from systems import data, registry
from systems.figures import Figure, figure_of, variant_of

Row = dict[str, Any]
Scores = Mapping[str, Any]  # scores.json


def published(paper: str) -> list[Row]:
    """The paper's rows of results.csv, in its order."""
    file = importlib.resources.files("systems") / "tables" / "results.csv"
    rows = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))
    return [
        {**row, "variant": variant_of(row), "value": float(row["value"])}
        for row in rows
        if row["paper"] == paper
    ]


def paper_rows(plan: Plan, scores: Scores | None) -> list[Row]:
    """Each figure that the paper reports, with ours where this run has one, or why it has none.

    ``ours``: value and 95 % interval; of several trainings mean, standard deviation and number.
    ``transductive``: ours adapted on the sound of the test part. ``why``: a code; ``reason``: in
    the words of the paper's module, where it says that a figure cannot be run.
    """
    node = registry.find(plan.fusion or plan.system)
    variants = _variants(plan)
    return [{**row, **_beside(row, node, plan, scores, variants)} for row in published(node.paper)]


def _variants(plan: Plan) -> dict[str, str | None]:
    """Figure of the plan's trainings -> what it is scored as; ``None``: that was not asked for."""
    if plan.fusion is not None:
        return {}
    asked = decision_variants(plan)
    names = {figure.name: scored_as(plan, figure) for figure in trained_figures(plan)}
    return {figure: name if name in asked else None for figure, name in names.items()}


def _beside(
    row: Row, node: registry.Entry | registry.Fusion, plan: Plan, scores: Scores | None,
    variants: Mapping[str, str | None],
) -> Row:  # fmt: skip
    if row["system"] not in _names(node):
        return _none("system")
    if row["variant"] in node.unmapped:
        return _none("unmapped", node.unmapped[row["variant"]])
    figure = figure_of(node.figures, row)
    if figure is None:
        return _none("unmapped")
    if row["dataset"] != plan.dataset:
        return _none("dataset")
    if scores is None:
        return _none("unscored")
    if data.part_of_split(plan.dataset, row["split"]) != scores["part"]:
        return _none("split")
    if isinstance(node, registry.Fusion):
        scored = [one for one in scores["rows"] if one["learner"] == node.learner]
        why = "unscored"
    else:
        scored, why = _scored(figure, plan, scores, variants)
    if not scored:
        return _none(why)
    ours = [_value(one, row) for one in scored]
    if None in ours:
        return _none("label" if row["label"] else "metric")
    return {"ours": _over_seeds(ours), "transductive": scored[0]["transductive"], "why": None,
            "reason": None}  # fmt: skip


def _none(why: str, reason: str | None = None) -> Row:
    return {"ours": None, "transductive": False, "why": why, "reason": reason}


def _names(node: registry.Entry | registry.Fusion) -> tuple[str, ...]:
    """What results.csv calls a system or fusion."""
    fusion = isinstance(node, registry.Fusion)
    return (node.name, f"ensemble:{node.name}") if fusion else (node.name,)


def _scored(
    figure: Figure, plan: Plan, scores: Scores, variants: Mapping[str, str | None]
) -> tuple[list[Row], str]:
    """The rows of the test part that are a system's figure, and the code if there are none."""
    if figure.name not in variants:
        return [], "training"
    variant = variants[figure.name]
    if variant is None:
        return [], "transductive"
    rows = [row for row in scores["rows"] if row["variant"] == variant and row["trial"] is not None]
    if plan.purpose != "train":  # trials are seeds in a training alone
        rows = [row for row in rows if row["best"]]
    return rows, "members" if plan.purpose == "stack" else "unscored"


def _value(scored: Row, row: Row) -> Row | None:
    """A scored row's figure in the published one's unit."""
    scale = 100.0 if row["unit"] == "%" else 1.0
    score: Mapping[str, Any] | None
    if row["label"]:
        name = next((c for c in scored["classes"] if c.lower() == row["label"].lower()), None)
        score = {"value": scored["classes"][name].get(row["metric"])} if name else None
    else:
        score = scored["metrics"].get(row["metric"])
    if score is None or score["value"] is None or not math.isfinite(score["value"]):
        return None
    return {key: value if value is None else scale * value for key, value in score.items()}


def _over_seeds(ours: Sequence[Any]) -> Row:
    """One training's figure itself; of several, mean and standard deviation."""
    if len(ours) == 1:
        return dict(ours[0])
    values = [one["value"] for one in ours]
    return {"value": statistics.fmean(values), "sd": statistics.stdev(values), "seeds": len(ours)}
