"""Figures of stage two: members' correlation, weights, gain, reliability, threshold curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from orchestrator.report.figures import THEME, Image, render, whole_numbers
from orchestrator.report.tables import Row
from orchestrator.report.words import count, metric_name, number

MOST_CLASSES = 12  # threshold curves that are drawn
A_ROW = 4


@dataclass(frozen=True)
class StagePlots:
    """All figures of stage two; ``None`` where there is nothing to draw."""

    correlation: Image | None
    weights: Image | None
    gain: Image | None
    reliability: Image | None
    thresholds: Image | None


def draw_stage(results: Mapping[str, Any], folder: Path) -> StagePlots:
    """Draw what the diagnostics of stage two show into ``folder``."""
    found = results["stage"]
    if not found:
        return StagePlots(None, None, None, None, None)
    several = len(found["members"]) > 1
    return StagePlots(
        _correlation(found, folder / "member_correlation.png") if several else None,
        _weights(results, found["members"], folder / "weights.png") if several else None,
        _gain(results, found["gain"], folder / "gain.png") if several else None,
        _reliability(found["reliability"], folder / "reliability.png"),
        _thresholds(found["thresholds"], folder / "threshold_curves.png"),
    )


def _short(name: str) -> str:
    """A member's name without its paper."""
    return name.split("/", 1)[1] if name.count("/") > 1 else name


def _correlation(found: Row, path: Path) -> Image:
    names, values = [_short(name) for name in found["members"]], np.array(found["correlation"])
    pairs = values[np.triu_indices(len(names), 1)]
    alt = (
        f"Correlation of the errors of {count(len(names), 'member')}: between "
        f"{number(pairs.min(), 2)} and {number(pairs.max(), 2)}."
    )
    side = 2.2 + 0.45 * len(names)
    return render(partial(_draw_matrix, names, names, values), (side + 1.6, side), alt, path)


def _weights(results: Mapping[str, Any], names: Sequence[str], path: Path) -> Image | None:
    rows = [
        (learner["name"], learner["weights"]["members"])
        for learner in results["stack"]
        if learner["weights"] and len(learner["weights"].get("members") or ()) == len(names)
    ]
    if not rows:
        return None
    values = np.array([weights for _, weights in rows], float)
    alt = "Weights of the members. " + "; ".join(
        f"{name}: {', '.join(number(w, 2) for w in weights)}" for name, weights in rows
    )
    below = 0.6 + 0.055 * max(len(_short(name)) for name in names)  # inches of slanting names
    size = (3.4 + 0.55 * len(names), max(1.8, below) + 0.34 * len(rows))
    draw = partial(_draw_matrix, [name for name, _ in rows], [_short(n) for n in names], values)
    return render(draw, size, alt + ".", path)


def _draw_matrix(
    rows: Sequence[str], columns: Sequence[str], values: np.ndarray, figure: Figure
) -> None:
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("", [THEME.accent, THEME.paper, THEME.series[0]])
    most = max(1.0, float(np.abs(values).max()))
    axes.imshow(values, cmap=colours, vmin=-most, vmax=most, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        ink = THEME.paper if abs(value) > 0.6 * most else THEME.ink
        axes.text(x, y, number(value, 2), ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0, labelcolor=THEME.ink)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _gain(results: Mapping[str, Any], rows: Sequence[Row], path: Path) -> Image:
    metric = metric_name(results, results["run"]["metric"])
    alt = f"Out-of-fold {metric} of the mean of the best members: " + ", ".join(
        f"{row['members']}: {number(row['value'])}" for row in rows
    )
    return render(partial(_draw_gain, rows, metric), (5.2, 3.4), alt + ".", path)


def _draw_gain(rows: Sequence[Row], metric: str, figure: Figure) -> None:
    axes = figure.subplots()
    x = [row["members"] for row in rows]
    low, high = (np.array([row[key] for row in rows], float) for key in ("low", "high"))
    axes.fill_between(x, low, high, color=THEME.series[0], alpha=0.18, linewidth=0)  # fmt: skip
    axes.plot(x, [row["value"] for row in rows], color=THEME.series[0], marker="o", markersize=4)
    axes.set_xlabel("members in the mean, best first")
    axes.set_title(metric, loc="left", fontsize=10, fontweight="bold")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.grid(axis="y")


def _reliability(rows: Sequence[Row], path: Path) -> Image | None:
    if not rows:
        return None
    alt = "Reliability: how often a class is there, by its score. Calibration error: " + ", ".join(
        f"{row['who']} {number(row['error'])}" for row in rows
    )
    return render(partial(_draw_reliability, rows), (5.6, 4.4), alt + ".", path)


def _draw_reliability(rows: Sequence[Row], figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=THEME.muted, linestyle=":", linewidth=1)
    for row, colour in zip(rows, (THEME.ink, *THEME.series), strict=False):
        points = [(s, f) for s, f, n in
                  zip(row["score"], row["frequency"], row["rows"], strict=True) if n]  # fmt: skip
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5,
                  label=f"{row['who']} ({number(row['error'])})")  # fmt: skip
    axes.set_xlabel("score")
    axes.set_title("share of rows with the class", loc="left", fontsize=10, fontweight="bold")
    axes.grid()
    figure.legend(loc="outside lower left", fontsize=7.5, title="calibration error in brackets",
                  title_fontsize=7.5)  # fmt: skip


def _thresholds(found: Row | None, path: Path) -> Image | None:
    if not found or not found["f1"]:
        return None
    classes = list(found["f1"])[:MOST_CLASSES]
    texts = [
        f"{name}: best {number(max(found['f1'][name]), 2)} at "
        f"{number(found['at'][int(np.argmax(found['f1'][name]))], 2)}"
        for name in classes
    ]
    lines = -(-len(classes) // A_ROW)
    alt = f"F1 of the members' mean against the threshold. {'; '.join(texts)}."
    draw, size = partial(_draw_thresholds, found, classes), (10.4, 0.7 + 1.7 * lines)
    return render(draw, size, alt, path, layout=None)  # many axes are long to lay out


def _draw_thresholds(found: Row, classes: Sequence[str], figure: Figure) -> None:
    lines = -(-len(classes) // A_ROW)
    tall = figure.get_figheight()
    grid = figure.subplots(lines, A_ROW, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=0.035, right=0.99, bottom=0.3 / tall, top=1 - 0.6 / tall,
                           wspace=0.08, hspace=0.3)  # fmt: skip
    for place, axes in enumerate(grid.ravel()):
        if place >= len(classes):
            axes.set_visible(False)
            continue
        axes.plot(found["at"], found["f1"][classes[place]], color=THEME.series[0])
        for bounds, colour in zip(found["chosen"].values(), THEME.series[1:], strict=False):
            axes.axvline(bounds[place], color=colour, linewidth=1.2, linestyle="--")
        axes.set_title(classes[place], loc="left", fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_xticks((0.2, 0.5, 0.8))
        axes.grid(axis="y")
    handles = [
        grid[0, 0].plot([], [], color=colour, linestyle="--", label=name)[0]
        for name, colour in zip(found["chosen"], THEME.series[1:], strict=False)
    ]
    if handles:
        figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=8)
