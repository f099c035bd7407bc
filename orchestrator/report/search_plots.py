"""Optuna's figures of the search in the report's look: importances, slices, parallel axes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna.visualization.matplotlib as optuna_plots
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from optuna.distributions import IntDistribution

from orchestrator.report.figures import THEME, Image, Size, render, render_made, whole_numbers
from orchestrator.report.importance import Searched, searched
from orchestrator.report.tables import Row, completed
from orchestrator.report.words import count, metric_name, number, setting

SLICES_A_ROW = 4
LEAST_TRIALS = 2  # completed, to see a difference


@dataclass(frozen=True)
class SearchPlots:
    """Optuna's figures; none where there are too few completed trials.

    ``left_out``: searched parameters that are in none of them.
    """

    importance: Image | None
    slices: tuple[Image, ...]
    parallel: Image | None
    left_out: tuple[str, ...]


def draw_search(results: Mapping[str, Any], folder: Path) -> SearchPlots:
    """Draw the search's figures into ``folder``."""
    found = searched(results)
    if len(completed(results)) < LEAST_TRIALS or not found.keys:
        return SearchPlots(None, (), None, ())
    metric = metric_name(results, results["run"]["metric"])
    rows = np.array_split(np.array(found.keys), -(-len(found.keys) // SLICES_A_ROW))
    with _no_windows():
        return SearchPlots(
            _importance(results, folder / "importance.png"),
            tuple(
                _slices(found, [str(k) for k in keys], metric, folder / f"slices_{i}.png")
                for i, keys in enumerate(rows, start=1)
            ),
            _parallel(results, found, metric, folder / "parallel_coordinates.png"),
            found.left_out,
        )


@contextmanager
def _no_windows() -> Iterator[None]:
    """Optuna draws with pyplot, which would open windows; its warnings concern no reader."""
    before = matplotlib.get_backend(auto_select=False)
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is not None:
            pyplot.switch_backend(before)


def _importance(results: Mapping[str, Any], path: Path) -> Image | None:
    """Bars of the shares in results.json: Optuna's plot would compute them again."""
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
    axes.bar_label(bars, [f" {number(v, 2)}" for v in values], color=THEME.muted, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance")
    axes.tick_params(axis="y", length=0, labelcolor=THEME.ink)


def _slices(found: Searched, keys: Sequence[str], metric: str, path: Path) -> Image:
    trials = found.study.get_trials(deepcopy=False)
    best = found.study.best_trial
    at = ", ".join(f"{key} {setting(best.params[key])}" for key in keys)
    done = count(sum(trial.value is not None for trial in trials), "completed trial")
    alt = (
        f"Validation {metric} of {done} against {', '.join(keys)}. "
        f"The best, trial {best.number}, lies at {at}."
    )
    plot = partial(optuna_plots.plot_slice, found.study, list(keys), target_name=metric)
    size = (10.4, 3.0)
    style = partial(_style_slices, integers=_integers(found))
    return render_made(partial(_made, plot, size, style), size, alt, path)


def _parallel(results: Mapping[str, Any], found: Searched, metric: str, path: Path) -> Image:
    best = found.study.best_trial
    at = ", ".join(f"{key} {setting(value)}" for key, value in best.params.items())
    alt = (
        f"A line for each of {count(len(completed(results)), 'completed trial')} through its "
        f"{metric} and its values of {', '.join(found.keys)}. "
        f"The best, trial {best.number}: {metric} {number(best.value)}, {at}."
    )
    plot = partial(
        optuna_plots.plot_parallel_coordinate, found.study, list(found.keys), target_name=metric
    )
    style = partial(
        _style_parallel,
        labels=[metric, *sorted(found.keys)],  # Optuna's order; it cuts its labels
        integers=_integers(found),
        upwards=results["run"]["mode"] == "max",
    )
    size = (10.4, 4.2)
    return render_made(partial(_made, plot, size, style), size, alt, path)


def _integers(found: Searched) -> set[str]:
    """Parameters whose axis has ticks at whole numbers alone."""
    ranges = found.study.best_trial.distributions
    return {k for k, r in ranges.items() if isinstance(r, IntDistribution) and not r.log}


def _made(plot: Callable[[], Any], size: Size, style: Callable[[Figure], None]) -> Figure:
    """Let Optuna draw, then give its figure our size, colours and labels."""
    with matplotlib.rc_context({"figure.constrained_layout.use": True}):
        figure: Figure = np.atleast_1d(plot())[0].figure
    pyplot.close(figure)
    figure.set_size_inches(*size)
    figure.suptitle("")
    for axes in figure.axes:
        _restyle(axes)
    style(figure)
    return figure


def _restyle(axes: Axes) -> None:
    axes.set_title("")
    axes.set_title("", loc="left")
    axes.set_facecolor(THEME.paper if axes.get_label() == "<colorbar>" else "none")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_color(THEME.grid)
    axes.tick_params(colors=THEME.muted, labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=THEME.muted, fontsize=8.5)
    for text in axes.texts:
        text.set(color=THEME.muted, fontsize=8)
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            low, high = sorted(axis.get_view_interval())
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 40 * low else (1,)))
            axis.set_major_formatter(FormatStrFormatter("%g"))
            axis.set_minor_locator(NullLocator())


def _style_slices(figure: Figure, *, integers: set[str]) -> None:
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            continue
        for dots in axes.collections:
            if isinstance(dots, PathCollection):
                dots.set_cmap(_colours())
                dots.set(edgecolor=THEME.paper, sizes=[42])
        if axes.get_xlabel() in integers:
            axes.xaxis.set_major_locator(whole_numbers())
        choices = [text.get_text() for text in axes.get_xticklabels()]
        if any(choice.startswith("'") for choice in choices):  # Optuna shows them as their repr
            axes.set_xticks(axes.get_xticks(), [choice.strip("'") for choice in choices])
            axes.set_xlim(-0.4, len(choices) - 0.6)
        axes.set_xlabel(_broken(axes.get_xlabel()))
        axes.grid(axis="y", color=THEME.grid)
        axes.set_axisbelow(True)


def _style_parallel(
    figure: Figure, *, labels: Sequence[str], integers: set[str], upwards: bool
) -> None:
    first = figure.axes[0]
    lines = next(c for c in first.collections if isinstance(c, LineCollection))
    lines.set_cmap(_colours() if upwards else _colours().reversed())
    lines.set_linewidth(1.7)
    first.set_xticks(range(len(labels)), [_broken(x) for x in labels], rotation=0, color=THEME.ink)
    columns = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    for axes, label in zip(columns, labels, strict=True):
        axes.spines["left" if axes is first else "right"].set(visible=True, color=THEME.muted)
        if label in integers:
            axes.yaxis.set_major_locator(whole_numbers())


def _colours() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("theme", [THEME.series[0], THEME.accent])


def _broken(key: str) -> str:
    """A configuration key with a line a part."""
    return key.replace(".", ".\n")
