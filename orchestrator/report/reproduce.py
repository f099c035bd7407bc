"""A paper's own table beside ours: its systems x decision variants, some seeds of each.

Each system is a run of its own (``NAME-SYSTEM``: trainings of the published point, no search); the
table is made from their results and lies in ``ROOT/NAME``.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.report.results import figures
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from systems import registry
from systems.errors import UserError

COLUMNS = ("system", "variant", "transductive", "metric", "label", "unit", "paper", "ours", "sd",
           "difference", "seeds", "why", "source")  # fmt: skip


def reproducible(name: str) -> list[registry.Entry]:
    """The systems of ``PAPER`` (or the one of ``PAPER/SYSTEM``) that a published figure maps to.

    Raises:
        UserError: no such paper or system, or none with a figure.
    """
    entry = registry.get(name)
    paper = [e for e in registry.entries() if e.paper == entry.paper]
    found = [e for e in ([entry] if "/" in name else paper) if e.figures]
    if not found:
        raise UserError(f"no published figure of {name} is mapped to a configuration.")
    return found


def table(paper: str, runs: Mapping[str, RunDir]) -> list[dict[str, Any]]:
    """Every published figure of the paper, macro figures first, with the mean over our seeds.

    Args:
        paper: its key.
        runs: system -> run directory, finished.
    """
    results = {system: read_json(run.results) for system, run in runs.items()}
    published = figures()
    rows = [
        _row(figure, results.get(figure["system"]), paper)
        for figure in published[published.paper == paper].to_dict("records")
    ]
    return sorted(rows, key=lambda row: row["label"] != "")


def _row(figure: Mapping[Any, Any], results: Any, paper: str) -> dict[str, Any]:
    variant = figure["variant"].removesuffix("; macro")
    scored = [] if results is None else [
        row for row in results["test"]["rows"] if row["variant"] == variant
    ]  # fmt: skip
    scale = 100.0 if figure["unit"] == "%" else 1.0
    values = [scale * v for v in (_value(row, figure) for row in scored) if v is not None]
    ours = statistics.fmean(values) if values else None
    return {
        "system": figure["system"],
        "variant": variant,
        "transductive": any(row["transductive"] for row in scored),
        "metric": figure["metric"],
        "label": figure["label"],
        "unit": figure["unit"],
        "paper": float(figure["value"]),
        "ours": ours,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "difference": None if ours is None else ours - float(figure["value"]),
        "seeds": len(values),
        "why": None if values else _why(figure, variant, results, paper),
        "source": figure["source"],
    }


def _value(row: Mapping[str, Any], figure: Mapping[Any, Any]) -> float | None:
    if not figure["label"]:
        score = row["metrics"].get(figure["metric"])
        return None if score is None else float(score["value"])
    by_class = {name.lower(): values for name, values in row["classes"].items()}
    value = by_class.get(figure["label"], {}).get(figure["metric"])
    return None if value is None or not math.isfinite(value) else float(value)


def _why(figure: Mapping[Any, Any], variant: str, results: Any, paper: str) -> str:
    if results is not None:
        return "this data has no such class or metric"
    entries = {e.name: e for e in registry.entries() if e.paper == paper}
    entry = entries.get(figure["system"])
    if entry is None:
        main = registry.get(paper)
        return main.unmapped.get(variant, "not a system of this paper's module")
    return entry.unmapped.get(variant, "not asked for")


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
    target.write_text(page, encoding="utf-8")
    return target


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The macro rows as lines for a terminal."""
    lines = [f"{'system':<12} {'variant':<16} {'metric':<9} {'paper':>8}  ours (sd, seeds)"]
    for row in rows:
        if row["label"]:
            continue
        mark = "*" if row["transductive"] else ""
        if row["ours"] is None:
            ours = row["why"]
        else:
            sd = "" if row["sd"] is None else f" ({row['sd']:.2f}, {row['seeds']})"
            ours = f"{row['ours']:.2f}{sd}"
        lines.append(
            f"{row['system']:<12} {row['variant'] + mark:<16} {row['metric']:<9} "
            f"{row['paper']:>8.2f}  {ours}"
        )
    if any(row["transductive"] for row in rows):
        lines.append("* transductive: adapted on the sound of the clips that it is scored on")
    return lines
