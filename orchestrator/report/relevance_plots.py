"""The figure of the frequencies that a network of images decides by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from orchestrator.report.figures import THEME, Image, render
from orchestrator.report.words import number


def draw_relevance(results: Mapping[str, Any], path: Path) -> Image | None:
    """What each band adds to each class's logit; ``None`` where no network says so."""
    relevance = results.get("relevance")
    if not relevance or not relevance["classes"]:
        return None
    said = []
    for name, of_class in relevance["classes"].items():
        most = max(of_class["bands"], key=lambda band: band["value"])
        said.append(f"{name} most by {number(most['from'], 0)} to {number(most['to'], 0)} Hz")
    alt = f"What bands of frequencies add to each class: {'; '.join(said)}."
    return render(partial(_draw, relevance["classes"]), (8.0, 3.6), alt, path)


def _draw(classes: Mapping[str, Any], figure: Figure) -> None:
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.use_sticky_edges = False
    axes.axhline(0, color=THEME.muted, linewidth=0.8)
    for place, (name, of_class) in enumerate(classes.items()):
        bands, colour = of_class["bands"], THEME.series[place % len(THEME.series)]
        edges = [bands[0]["from"], *(band["to"] for band in bands)]
        label = f"{name} ({of_class['clips']} clips)"
        axes.stairs([band["value"] for band in bands], edges, baseline=None, color=colour,
                    linewidth=1.8, label=label)  # fmt: skip
        bounds = [(band["low"], band["high"]) for band in bands]
        if all(low is not None for low, _ in bounds):
            low, high = zip(*bounds, strict=True)
            axes.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.15)
    axes.set_xlabel("Hz")
    axes.set_ylabel("adds to the logit")
    axes.grid(axis="y")
    axes.legend(loc="best", fontsize=8)
