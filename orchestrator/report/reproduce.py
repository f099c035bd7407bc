"""A paper's own table beside ours: every training that its figures name, some seeds of each.

Each training is a run of its own (no search); the table is made from their results and lies in
``ROOT/NAME``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.plan.variants import Training, trainings
from orchestrator.report.published import Row, names_of, published
from orchestrator.report.words import why_not
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from systems import data, registry
from systems.errors import UserError
from systems.figures import Figure
from systems.files import write_whole
from systems.registry import Entry, Fusion

COLUMNS = ("system", "variant", "dataset", "split", "transductive", "metric", "label", "unit",
           "paper", "ours", "sd", "difference", "seeds", "why", "source")  # fmt: skip


@dataclass(frozen=True)
class ToRun:
    """A training behind figures, or a fusion. ``suffix``: of its run's name; ``changes``: key ->
    value, of a fusion's fields; ``label``: what its node is called, if anything; ``whole``: figures
    of it are of what all folds held out."""

    entry: Entry | Fusion
    suffix: str
    changes: Mapping[str, Any]
    label: str = ""
    whole: bool = False


def to_run(name: str, dataset: str | None) -> list[ToRun]:
    """The distinct trainings behind the figures of ``PAPER`` (or of one ``PAPER/NAME``), systems
    first, then fusions.

    Raises:
        UserError: no such paper or system, or none with a figure.
    """
    node = registry.find(name)
    systems = [one for one in registry.entries() if one.paper == node.paper]
    fusions = [one for one in registry.fusions() if one.paper == node.paper]
    if "/" in name:
        systems = [one for one in systems if one == node]
        fusions = [one for one in fusions if one.address == node.address]
    found = [
        ToRun(
            one,
            _suffix(one, place),
            training.changes,
            _label(training),
            _held_out(one, training.figures),
        )
        for one in systems
        for place, training in enumerate(trainings(one, dataset or one.dataset))
    ]
    for fusion in fusions:
        variants: dict[str, Figure] = {}
        for figure in fusion.figures:
            if figure.fits(dataset):
                key = registry.fusion_node(fusion, figure.overrides).key
                variants.setdefault(key, figure)
        found += [
            ToRun(fusion, _suffix(fusion, place), figure.overrides, figure.label)
            for place, figure in enumerate(variants.values())
        ]
    if not found:
        raise UserError(f"no published figure of {name} is mapped to a configuration.")
    return found


def _suffix(node: Entry | Fusion, place: int) -> str:
    return node.name if place == 0 else f"{node.name}-{place}"


def _label(training: Training) -> str:
    """What the node of a training is called: the figure that is of no more than its changes."""
    named = (one.label for one in training.figures if dict(one.overrides) == dict(training.changes))
    return next(filter(None, named), "")


def _held_out(entry: Entry, figures: Sequence[Figure]) -> bool:
    """Whether a published row of a training is of what several folds held out."""
    rows = [row for row in published(entry.paper) if row["system"] == entry.name]
    return any(
        data.split_of(row["dataset"], row["split"])[0] == data.OUT_OF_FOLD
        and any(figure.covers(row) for figure in figures)
        for row in rows
    )


def table(paper: str, runs: Sequence[RunDir]) -> list[Row]:
    """Every published figure of the paper, macro figures first, with the mean over our seeds.

    Args:
        paper: its key.
        runs: finished runs of its systems: what each has of a figure stands in its results.json.
    """
    found = [read_json(run.results)["paper"] for run in runs]
    nodes: list[Entry | Fusion] = [*registry.entries(), *registry.fusions()]
    systems = {name for node in nodes if node.paper == paper for name in names_of(node)}
    rows = [
        _row(row, _best([paper_rows[place] for paper_rows in found]), systems)
        for place, row in enumerate(published(paper))
    ]
    return sorted(rows, key=lambda row: row["label"] != "")


def _best(rows: Sequence[Row]) -> Row:
    """Of the runs' rows for one figure the one that has it, else one that says most why not."""
    little = (None, "system", "training")
    return max(rows, key=lambda row: (row["ours"] is not None, row["why"] not in little))


def _row(figure: Row, best: Row, systems: set[str]) -> Row:
    ours = best["ours"] or {}
    value, why = ours.get("value"), best["why"]
    if why == "system":
        why = "not_asked" if figure["system"] in systems else "unregistered"
    kept = ("system", "variant", "dataset", "split", "metric", "label", "unit", "source")
    return {
        **{key: figure[key] for key in kept},
        "transductive": best["transductive"],
        "paper": figure["value"],
        "ours": value,
        "sd": ours.get("sd"),
        "difference": None if value is None else value - figure["value"],
        "seeds": 0 if value is None else ours.get("seeds", 1),
        "why": why_not({**best, "why": why}),
    }


def write(folder: Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """``table.json``, ``table.csv`` and ``index.html`` in a folder; returns the page."""
    write_json(folder / "table.json", {**about, "rows": list(rows)})
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator", "report"), autoescape=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    page = environment.get_template("reproduce.html.j2").render(about=about, rows=rows)
    target = folder / "index.html"
    write_whole(target, page)
    return target


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The macro rows as lines for a terminal."""
    cells = [("system", "variant", "split", "metric", "paper", "ours (sd, seeds)")]
    for row in rows:
        if row["label"]:
            continue
        mark = "*" if row["transductive"] else ""
        if row["ours"] is None:
            ours = row["why"]
        else:
            sd = "" if row["sd"] is None else f" ({row['sd']:.2f}, {row['seeds']})"
            ours = f"{row['ours']:.2f}{sd}"
        about = (row["system"], row["variant"] + mark, row["split"], row["metric"])
        cells.append((*about, f"{row['paper']:.2f}", ours))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    if any(row["transductive"] for row in rows):
        lines.append("* transductive: adapted on the sound of the clips that it is scored on")
    return lines
