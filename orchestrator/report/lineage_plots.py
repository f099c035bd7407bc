"""The lineage of an evolution: who comes from whom, and the scores of the generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from orchestrator.report.figures import THEME, Image, render, whole_numbers
from orchestrator.report.tables import Row, generations, tables
from orchestrator.report.words import count, number, ranked_by

ORIGINS = {  # how a genome came about -> colour
    "published": THEME.ink, "random": THEME.muted, "clone": THEME.series[0],
    "crossover": THEME.accent,
}  # fmt: skip


def draw_lineage(results: Mapping[str, Any], path: Path) -> Image | None:
    """Generations against scores, an edge from each parent to each child; ``None`` where nothing
    evolved."""
    rows = [row for row in tables(results)["lineage"][1] if row["state"] != "running"]
    if not rows:
        return None
    by_generation, last = generations(results), rows[-1]["generation"]
    best = max(rows, key=lambda row: (row["score"], -row["trial"]))
    alt = (
        f"Lineage of {count(len(rows), 'genome')} over generations 0 to {last}: "
        f"{ranked_by(results)} by generation, with lines from parents to children. "
        f"The best, trial {best['trial']} of "
        f"generation {best['generation']}: {number(best['score'])}."
    )
    return render(partial(_draw, rows, by_generation, ranked_by(results)), (10.4, 4.4), alt, path)


def _draw(rows: Sequence[Row], by_generation: Sequence[Row], name: str, figure: Figure) -> None:
    axes = figure.subplots()
    place = {row["trial"]: (row["generation"], row["score"]) for row in rows}
    edges = [
        (place[int(parent)], place[row["trial"]])
        for row in rows for parent in row["parents"].split() if int(parent) in place
    ]  # fmt: skip
    axes.add_collection(LineCollection(edges, colors=THEME.muted, linewidths=0.6, alpha=0.5))
    for by, colour in ORIGINS.items():
        dots = [place[row["trial"]] for row in rows if row["by"] == by]
        if dots:
            x, y = zip(*dots, strict=True)
            axes.scatter(x, y, s=34, color=colour, label=by, zorder=3,
                         edgecolors=THEME.paper)  # fmt: skip
    steps = [row["generation"] for row in by_generation]
    for key, words, dashes in (
        ("so_far", "best so far", "-"),
        ("mean", "mean of those born", "--"),
    ):
        values = [row[key] for row in by_generation]
        axes.plot(
            steps, values, color=THEME.series[1], linestyle=dashes, linewidth=1.4, label=words
        )
    axes.set_xlabel("generation")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(whole_numbers())
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", fontsize=8)
