"""Figures of the search: importances, slices, parallel coordinates, of the completed trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from optuna.distributions import CategoricalDistribution, IntDistribution

from orchestrator.report.figures import THEME, Image, render, whole_numbers
from orchestrator.report.importance import Searched, searched
from orchestrator.report.tables import Row, completed
from orchestrator.report.words import count, number, ranked_by, setting

SLICES_A_ROW = 4
MOST_PARALLEL = 10  # parameters that parallel coordinates show: the most important ones
LEAST_TRIALS = 2  # completed, to see a difference
COLOURS = LinearSegmentedColormap.from_list("", [THEME.series[0], THEME.accent])


@dataclass(frozen=True)
class SearchPlots:
    """Figures of the search; none where there are too few completed trials.

    ``left_out``: searched parameters that are in none of them; ``most``: how many parallel
    coordinates show, where these are not all, else 0.
    """

    importance: Image | None
    slices: tuple[Image, ...]
    parallel: Image | None
    left_out: tuple[str, ...]
    most: int = 0


@dataclass(frozen=True)
class Column:
    """A searched parameter, or the metric, of the completed trials.

    ``values`` [N]: numbers; of a choice its place among ``choices``.
    """

    label: str
    values: np.ndarray
    log: bool = False
    choices: tuple[str, ...] = ()
    whole: bool = False

    def locator(self) -> Locator:
        """Where an axis of it has ticks."""
        if self.log:
            spread = self.values.max() / self.values.min()
            return LogLocator(subs=(1, 2, 5) if spread < 40 else (1,))
        return whole_numbers() if self.whole else MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))


def draw_search(results: Mapping[str, Any], folder: Path) -> SearchPlots:
    """Draw the search's figures into ``folder``."""
    found = searched(results)
    if len(completed(results)) < LEAST_TRIALS or not found.keys:
        return SearchPlots(None, (), None, ())
    metric = Column(ranked_by(results), np.array([trial.value for trial in found.done()]))
    columns = [_column(key, found) for key in found.keys]
    a_row = math.ceil(len(columns) / math.ceil(len(columns) / SLICES_A_ROW))
    rows = [columns[i : i + a_row] for i in range(0, len(columns), a_row)]
    return SearchPlots(
        _importance(results, folder / "importance.png"),
        tuple(
            _slices(found, row, metric, folder / f"slices_{i}.png")
            for i, row in enumerate(rows, start=1)
        ),
        _parallel(
            results, found, [metric, *_first(columns, results)], folder / "parallel_coordinates.png"
        ),
        found.left_out,
        MOST_PARALLEL if len(columns) > MOST_PARALLEL else 0,
    )


def _first(columns: Sequence[Column], results: Mapping[str, Any]) -> list[Column]:
    """The columns that fit beside each other, in their order."""
    ranked = [row["key"] for row in results["importance"] or ()] or [one.label for one in columns]
    return [one for one in columns if one.label in ranked[:MOST_PARALLEL]]


def _column(key: str, found: Searched) -> Column:
    kind = found.study.best_trial.distributions[key]
    values = [trial.params[key] for trial in found.done()]
    if isinstance(kind, CategoricalDistribution):
        choices = [choice for choice in kind.choices if choice in values]
        places = np.array([choices.index(value) for value in values], float)
        return Column(key, places, choices=tuple(setting(choice) for choice in choices))
    log = bool(getattr(kind, "log", False))
    whole = isinstance(kind, IntDistribution) and not log
    return Column(key, np.array(values, float), log, whole=whole)


def _importance(results: Mapping[str, Any], path: Path) -> Image | None:
    shares = results["importance"]
    if not shares:
        return None
    words = ", ".join(f"{row['key']} {number(row['importance'], 2)}" for row in shares)
    size = (10.4, 1.0 + 0.3 * len(shares))
    alt = f"Importance of each searched parameter: {words}."
    return render(partial(_draw_importance, shares), size, alt, path)


def _draw_importance(shares: Sequence[Row], figure: Figure) -> None:
    axes = figure.subplots()
    values = [row["importance"] for row in shares]
    bars = axes.barh([row["key"] for row in shares], values, color=THEME.series[0])
    texts = [f" {number(value, 2)}" for value in values]
    axes.bar_label(bars, texts, color=THEME.muted, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance")
    axes.tick_params(axis="y", length=0, labelcolor=THEME.ink)


def _slices(found: Searched, columns: Sequence[Column], metric: Column, path: Path) -> Image:
    best, keys = found.study.best_trial, [column.label for column in columns]
    at = ", ".join(f"{key} {setting(best.params[key])}" for key in keys)
    done = count(len(metric.values), "completed trial")
    alt = (
        f"Validation {metric.label} of {done} against {', '.join(keys)}. "
        f"The best, trial {best.number}, lies at {at}."
    )
    numbers = [trial.number for trial in found.done()]
    draw = partial(_draw_slices, columns, metric, numbers)
    return render(draw, (10.4, 3.0), alt, path, layout=None)


def _draw_slices(
    columns: Sequence[Column], metric: Column, numbers: Sequence[int], figure: Figure
) -> None:
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        dots = axes.scatter(column.values, metric.values, s=42, c=numbers, cmap=COLOURS,
                            edgecolors=THEME.paper)  # fmt: skip
        axes.set_xlabel(_broken(column.label), fontsize=8.5)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        _ticks(axes, column)
    panels[0].set_ylabel(metric.label, fontsize=8.5)
    figure.subplots_adjust(left=0.065, right=0.92, bottom=0.2, top=0.97, wspace=0.08)
    beside = figure.add_axes((0.94, 0.2, 0.012, 0.77))
    bar = figure.colorbar(dots, cax=beside, label="trial", ticks=whole_numbers())
    bar.outline.set_visible(False)


def _ticks(axes: Axes, column: Column) -> None:
    if column.choices:
        axes.set_xticks(range(len(column.choices)), list(column.choices))
        axes.set_xlim(-0.4, len(column.choices) - 0.6)
        return
    if column.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_major_locator(column.locator())


def _parallel(
    results: Mapping[str, Any], found: Searched, columns: Sequence[Column], path: Path
) -> Image:
    best, metric = found.study.best_trial, columns[0]
    keys = [column.label for column in columns[1:]]
    at = ", ".join(f"{key} {setting(best.params[key])}" for key in keys)
    alt = (
        f"A line for each of {count(len(metric.values), 'completed trial')} through its "
        f"{metric.label} and its values of {', '.join(keys)}. "
        f"The best, trial {best.number}: {metric.label} {number(best.value)}, {at}."
    )
    upwards = results["run"]["mode"] == "max"
    return render(partial(_draw_parallel, columns, upwards), (10.4, 4.2), alt, path)


def _draw_parallel(columns: Sequence[Column], upwards: bool, figure: Figure) -> None:
    axes = figure.subplots()
    heights = np.stack([_height(column, column.values) for column in columns], axis=1)
    places = np.arange(len(columns))
    lines = LineCollection(
        [np.column_stack([places, row]) for row in heights],
        cmap=COLOURS if upwards else COLOURS.reversed(), linewidths=1.7, zorder=3,
    )  # fmt: skip
    lines.set_array(columns[0].values)
    axes.add_collection(lines)
    axes.vlines(places, 0, 1, color=THEME.muted, linewidth=0.8)
    for place, column in enumerate(columns):
        for value, text in _marks(column):
            height = _height(column, np.array([value]))[0]
            axes.text(place + 0.04, height, text, va="center", fontsize=8, color=THEME.muted,
                      zorder=4, bbox={"facecolor": THEME.paper, "linewidth": 0, "pad": 1,
                                      "alpha": 0.8})  # fmt: skip
    axes.set_xticks(places, [_broken(column.label) for column in columns])
    axes.tick_params(axis="x", length=0, labelsize=8, labelcolor=THEME.ink)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.5)
    axes.set_ylim(-0.04, 1.04)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(lines, ax=axes, label=columns[0].label).outline.set_visible(False)


def _height(column: Column, values: np.ndarray) -> np.ndarray:
    """Values on a line from 0 to 1 that holds all of the column's."""
    low, high = column.values.min(), column.values.max()
    if column.log:
        values, low, high = np.log(values), np.log(low), np.log(high)
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _marks(column: Column) -> list[tuple[float, str]]:
    """Values and texts along a column's line."""
    if column.choices:
        return [(float(place), text) for place, text in enumerate(column.choices)]
    low, high = float(column.values.min()), float(column.values.max())
    if low == high:
        return [(low, f"{low:g}")]
    ticks = column.locator().tick_values(low, high)
    return [(float(tick), f"{tick:g}") for tick in ticks if low <= tick <= high]


def _broken(key: str) -> str:
    """A configuration key with a line a part."""
    return key.replace(".", ".\n")
