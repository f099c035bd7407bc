"""A paper's figures beside ours: which row of results.csv is what a run has scored.

A row is (system, variant, data set, split, metric, label). It is set beside ours only where all
six are the same, and the clips of the part that a figure is of (``Figure.where``); else a code says
why not (:data:`orchestrator.report.words.WHY_NOT`).
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, scored_as, trained_figures
from systems import data, registry
from systems.figures import Figure, figure_of, subset_name, variant_of
from systems.metrics import Metric, named
from systems.registry import Entry, Fusion

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


def paper_rows(plan: Plan, scores: Scores | None, held_out: Sequence[Row] = ()) -> list[Row]:
    """Each figure that the paper reports, with ours where this run has one, or why it has none.

    ``scores``: scores.json, where the test part has been scored; ``held_out``: rows like its, of
    what the folds held out. ``ours``: value and 95 % interval; of several trainings mean, standard
    deviation and number. ``transductive``: ours adapted on the sound of the test part. ``why``: a
    code; ``reason``: in the words of the paper's module, where it says that a figure cannot be run.
    """
    ours = _Ours.of(plan, scores, held_out)
    return [{**row, **_beside(row, ours)} for row in published(ours.node.paper)]


@dataclass(frozen=True)
class _Ours:
    """What a run has: ``figures``, by name, of what it trained -> the decision variant that each is
    scored as, ``None`` where that was not asked for; a fusion is scored as its ``learner``."""

    plan: Plan
    node: Entry | Fusion
    learner: str | None
    figures: Mapping[str, str | None]
    test: Scores | None
    held_out: Sequence[Row]

    @classmethod
    def of(cls, plan: Plan, test: Scores | None, held_out: Sequence[Row]) -> _Ours:
        if plan.fusion is not None:
            node = registry.find(plan.fusion.partition("#")[0])
            assert isinstance(node, Fusion)
            own = registry.node(plan.fusion, plan.dataset)
            assert isinstance(own.entry, Fusion)
            figures = [figure.name for figure in node.figures
                       if registry.fusion_node(node, figure.overrides).key == own.key]  # fmt: skip
            return cls(plan, node, own.entry.learner, dict.fromkeys(figures), test, held_out)
        asked = decision_variants(plan)
        scored = {figure.name: scored_as(plan, figure) for figure in trained_figures(plan)}
        scored_or_not = {f: name if name in asked else None for f, name in scored.items()}
        return cls(plan, plan.entry(), None, scored_or_not, test, held_out)

    def rows(self, figure: Figure, *, held_out: bool) -> tuple[list[Row], str]:
        """The scored rows that are a figure, and the code if there are none."""
        if figure.name not in self.figures:
            return [], "training"
        every = self.held_out if held_out else (self.test or {"rows": ()})["rows"]
        if self.learner is not None:
            return [row for row in every if row["learner"] == self.learner], "unscored"
        variant = self.figures[figure.name]
        if variant is None:
            return [], "transductive"
        if held_out:  # under the run's own decision alone
            own = variant == next(iter(decision_variants(self.plan)))
            rows = [row for row in every if own and row["trial"] is not None]
        else:
            rows = [row for row in every if row["trial"] is not None and row["variant"] == variant]
        if not self.plan.repeats:  # else trials are seeds
            rows = [row for row in rows if row["best"]]
        return rows, "members" if self.plan.purpose == "stack" else "unscored"


def _beside(row: Row, ours: _Ours) -> Row:
    plan, node = ours.plan, ours.node
    if row["system"] not in names_of(node):
        return _none("system")
    if row["variant"] in node.unmapped:
        return _none("unmapped", node.unmapped[row["variant"]])
    figure = figure_of(node.figures, row)
    if figure is None:
        return _none("unmapped")
    if row["dataset"] != plan.dataset:
        return _none("dataset")
    part, where = data.split_of(plan.dataset, row["split"])
    held_out = part in (data.OUT_OF_FOLD, data.VALIDATION)
    if held_out and (part == data.OUT_OF_FOLD) != (len(plan.splits["folds"]) > 1):
        return _none("held_out")
    if not held_out and plan.parts.get(part, {}).get("labels") == "withheld":
        return _none("withheld")
    if not held_out and ours.test is None:
        return _none("unscored")
    if not held_out and ours.test is not None and part != ours.test["part"]:
        return _none("split")
    scored, why = ours.rows(figure, held_out=held_out)
    if not scored:
        return _none(why)
    subset = subset_name({**where, **figure.where})
    found = [one.get("subsets", {}).get(subset) if subset else one for one in scored]
    if None in found:
        return _none("subset")
    values = [_value(one, row, figure) for one in found]
    if None in values:
        return _none("label" if row["label"] else "metric")
    return {"ours": _over_seeds(values), "transductive": scored[0]["transductive"], "why": None,
            "reason": None}  # fmt: skip


def _none(why: str, reason: str | None = None) -> Row:
    return {"ours": None, "transductive": False, "why": why, "reason": reason}


def names_of(node: Entry | Fusion) -> tuple[str, ...]:
    """What results.csv calls a system or fusion."""
    fusion = isinstance(node, Fusion)
    return (node.name, f"ensemble:{node.name}") if fusion else (node.name,)


def _value(scored: Row, row: Row, figure: Figure) -> Row | None:
    """A scored row's figure in the published one's unit: of the class, or of the correlation, that
    the figure says."""
    scale, of = 100.0 if row["unit"] == "%" else 1.0, figure.of
    metrics = _meant(row) if of is None else []
    wanted, own = of or (row["label"], row["metric"])
    wanted = data.card(row["dataset"]).labels.get(wanted, wanted)
    if figure.output:
        pairs = {(one["output"], one["value"]): one["r"] for one in scored.get("correlations", ())}
        score = {"value": pairs.get((figure.output, wanted))}
    elif wanted:
        label = next((c for c in scored["classes"] if c.lower() == wanted.lower()), None)
        of_class = scored["classes"][label] if label else {}
        names = [own, *(m.class_name for m in metrics)]
        value = next((of_class[name] for name in names if name in of_class), None)
        score = {"value": value}
    else:
        names = [m.name for m in metrics] if of is None else [own]
        found = (scored["metrics"][name] for name in names if name in scored["metrics"])
        score = next(found, {"value": None})
    if score["value"] is None or not math.isfinite(score["value"]):
        return None
    return {key: value if value is None else scale * value for key, value in score.items()}


def _meant(row: Row) -> list[Metric]:
    """The metrics that a published name may mean: those of the data set's papers first."""
    own = {name: place for place, name in enumerate(data.card(row["dataset"]).metrics)}
    return sorted(named(row["metric"]), key=lambda metric: own.get(metric.name, len(own)))


def _over_seeds(ours: Sequence[Any]) -> Row:
    """One training's figure itself; of several, mean and standard deviation."""
    if len(ours) == 1:
        return dict(ours[0])
    values = [one["value"] for one in ours]
    return {"value": statistics.fmean(values), "sd": statistics.stdev(values), "seeds": len(ours)}
