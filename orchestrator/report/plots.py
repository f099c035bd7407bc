"""Figures of the page: learning curves, scores by class, example clips."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from orchestrator.report.figures import THEME, Image, render, whole_numbers
from orchestrator.report.lineage_plots import draw_lineage
from orchestrator.report.relevance_plots import draw_relevance
from orchestrator.report.search_plots import SearchPlots, draw_search
from orchestrator.report.series_plots import series_picture
from orchestrator.report.stage_plots import StagePlots, draw_stage
from orchestrator.report.tables import Row, best_trial, is_finite, names, shown_row
from orchestrator.report.words import count, lower_is_better, metric_name, number

MOST_COLOURED = 10  # with more trials than this, only the named curves get a colour of their own
LOUDNESS = LinearSegmentedColormap.from_list("", [THEME.paper, THEME.series[0], THEME.ink])
EVENT_LISTS = ("true", "predicted")
PICTURE = 2.0  # height of a spectrogram, inches
LETTER = 0.072  # width of a letter of a class's name, inches


@dataclass(frozen=True)
class Plots:
    """All plots of the page; ``None`` where there is nothing to draw."""

    search: SearchPlots
    stage: StagePlots
    curves: Image | None
    classes: Image | None
    examples: tuple[Image, ...]
    relevance: Image | None = None
    lineage: Image | None = None


def draw(results: Mapping[str, Any], folder: Path) -> Plots:
    """Draw every plot into ``folder`` and return them for the page."""
    examples = results["test"]["examples"] if results["test"] else []
    if examples:
        (folder / "examples").mkdir()
    return Plots(
        draw_search(results, folder),
        draw_stage(results, folder),
        _curves(results, folder / "learning_curves.png"),
        _class_bars(results, folder / "class_scores.png"),
        tuple(
            _example(example, results, folder / "examples" / f"{i:02d}_{_file_name(example)}.png")
            for i, example in enumerate(examples, start=1)
        ),
        draw_relevance(results, folder / "frequency_relevance.png"),
        draw_lineage(results, folder / "lineage.png"),
    )


def _file_name(example: Row) -> str:
    return re.sub(r"[^\w-]+", "_", str(example["clip"]), flags=re.ASCII)[:60]


def _curves(results: Mapping[str, Any], path: Path) -> Image | None:
    trials = [trial for trial in results["trials"] if trial["curve"]]
    if not trials:
        return None
    best, metric = best_trial(results), results["run"]["metric"]
    curves = count(len(trials), "trial")
    alt = f"Learning curves of {curves}: {metric_name(results, metric)} by epoch."
    if best is not None:
        alt += (
            f" The best, trial {best['number']}, peaks at {number(best['value'])} "
            f"after {count(best['best_step'] or 0, 'step')}."
        )
    height = max(3.6, 1.0 + 0.2 * min(len(trials), MOST_COLOURED))
    return render(partial(_draw_curves, results, trials, best), (10.4, height), alt, path)


def _draw_curves(
    results: Mapping[str, Any], trials: Sequence[Row], best: Row | None, figure: Figure
) -> None:
    metric = results["run"]["metric"]
    left, right = figure.subplots(1, 2)
    few = len(trials) <= MOST_COLOURED
    for i, trial in enumerate(trials):
        is_best = best is not None and trial["number"] == best["number"]
        named = few or is_best or trial["published"]
        colour = THEME.series[i % MOST_COLOURED] if few else THEME.muted
        style = _curve_style(trial, THEME.accent if is_best else colour, named)
        label = _curve_label(trial, is_best) if named else None
        for axes, key in ((left, metric), (right, "loss")):
            points = [(x["step"], x[key]) for x in trial["curve"] if is_finite(x.get(key))]
            if points:
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) == 1 or trial["published"] else None
                axes.plot(steps, values, label=label, marker=marker, markersize=3.5, **style)
                if trial["state"] in ("diverged", "failed"):
                    axes.plot(steps[-1], values[-1], "x", color=style["color"], markersize=7)
    _axes(left, "epoch", metric_name(results, metric))
    _axes(right, "epoch", "training loss")
    _log_if_wide(right)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)


def _curve_style(trial: Row, colour: str, named: bool) -> Row:
    dashes = {"stopped": "--", "diverged": ":", "failed": ":", "running": "-."}
    return {
        "color": THEME.ink if trial["published"] else colour,
        "linestyle": dashes.get(trial["state"], "-"),
        "linewidth": 2.2 if trial["published"] or colour == THEME.accent else 1.4,
        "alpha": 1.0 if named else 0.45,
        "zorder": 3 if named else 2,
    }


def _curve_label(trial: Row, is_best: bool) -> str:
    about = [name for name, yes in (("published", trial["published"]), ("best", is_best)) if yes]
    if trial["state"] != "complete":
        about.append(trial["state"])
    return f"trial {trial['number']}" + (f" ({', '.join(about)})" if about else "")


def _axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_title(y, loc="left", fontsize=10, fontweight="bold")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.grid(axis="y")


def _log_if_wide(axes: Axes) -> None:
    """A logarithmic axis where the values span more than a factor of 10."""
    values = [float(y) for line in axes.get_lines() for y in np.atleast_1d(line.get_ydata())]
    if values and min(values) > 0 and max(values) / min(values) > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        title = f"{axes.get_title('left')} (log scale)"
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")


def plotted_class_metrics(results: Mapping[str, Any], row: Row) -> list[str]:
    """Per-class metrics of which more is better: those share an axis."""
    columns = names(row["classes"].values())
    return [name for name in columns if not lower_is_better(results, name)]


def _class_bars(results: Mapping[str, Any], path: Path) -> Image | None:
    row = shown_row(results)
    metrics = plotted_class_metrics(results, row) if row else []
    if row is None or not metrics:
        return None
    words = {name: metric_name(results, name) for name in metrics}
    texts = [
        f"{name}: " + ", ".join(f"{words[m]} {number(s.get(m))}" for m in metrics)
        for name, s in row["classes"].items()
    ]
    size = (10.4, 0.9 + 0.2 * len(row["classes"]) * (len(metrics) + 0.6))
    alt = f"Scores of each class, {row['who']}. {'; '.join(texts)}."
    return render(partial(_draw_class_bars, row["classes"], words), size, alt, path)


def _draw_class_bars(
    classes: Mapping[str, Row], metrics: Mapping[str, str], figure: Figure
) -> None:
    axes = figure.subplots()
    places = np.arange(len(classes), dtype=float)
    thickness = 0.8 / len(metrics)
    for i, (metric, label) in enumerate(metrics.items()):
        values = [scores.get(metric) or 0.0 for scores in classes.values()]
        y = places + (i - (len(metrics) - 1) / 2) * thickness
        colour = THEME.series[i % len(THEME.series)]
        axes.barh(y, values, thickness * 0.9, color=colour, label=label)
        for value, at in zip(values, y, strict=True):
            axes.text(max(value, 0.0) + 0.006, at, number(value, 2), va="center", fontsize=7.5,
                      color=THEME.muted)  # fmt: skip
    axes.set_yticks(places, list(classes))
    axes.tick_params(axis="y", length=0, labelcolor=THEME.ink)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.set_xlim(low if low < 0 else 0.0, max(1.05, high))
    axes.set_axisbelow(True)
    axes.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=len(metrics), fontsize=8)


def _example(example: Row, results: Mapping[str, Any], path: Path) -> Image:
    if "series" in example:
        return series_picture(example, log_mel(example), LOUDNESS, path)
    spans = {key: _spans(example, key) for key in EVENT_LISTS}
    present = {label for _, rows in spans.values() for _, _, label in rows}
    classes = [name for name in results["run"]["classes"] if name in present]
    classes += sorted(present - set(classes))
    alt = (
        f"Log-mel spectrogram of clip {example['clip']}, "
        f"{number(example['log_mel']['seconds'], 1)} s. "
        f"{_in_words(example, 'true')}. {_in_words(example, 'predicted')}."
    )
    size = (10.4, PICTURE + 1.15 + 0.42 * max(1, len(classes)))
    colours = {name: _class_place(name, results["run"]["classes"]) for name in classes}
    return render(partial(_draw_example, example, spans, colours), size, alt, path, layout=None)


def _spans(example: Row, key: str) -> tuple[str, list[list[Any]]]:
    """What a strip shows: events; of clips without, tags, each over the whole clip."""
    if example[key] is not None:
        return f"{key} events", example[key]
    seconds = example["log_mel"]["seconds"]
    tags = [[0.0, seconds, name] for name in example[f"{key}_tags"]]
    return f"{key} tags (no times: whole clip)", tags


def _in_words(example: Row, key: str) -> str:
    if example[key] is not None:
        return f"{key.capitalize()} events: {_events_in_words(example[key])}"
    return f"{key.capitalize()} tags: {', '.join(example[f'{key}_tags']) or 'none'}"


def _class_place(name: str, classes: Sequence[str]) -> int:
    """A class's colour, the same in every example."""
    return classes.index(name) % len(THEME.series) if name in classes else 0


def _events_in_words(events: Sequence[Sequence[Any]]) -> str:
    texts = [f"{name} {number(on, 2)} to {number(off, 2)} s" for on, off, name in events]
    return ", ".join(texts) or "none"


def log_mel(example: Row) -> np.ndarray:
    """The example's spectrogram [F, T], 0 to 255."""
    stored = example["log_mel"]
    return np.frombuffer(base64.b64decode(stored["data"]), np.uint8).reshape(stored["shape"])


def _draw_example(
    example: Row,
    spans: Mapping[str, tuple[str, list[list[Any]]]],
    colours: Mapping[str, int],
    figure: Figure,
) -> None:
    seconds = example["log_mel"]["seconds"]
    above, middle, below = _example_axes(figure, colours)
    values = log_mel(example)
    middle.imshow(values, origin="lower", aspect="auto", cmap=LOUDNESS, vmin=0, vmax=255,
                  extent=(0, seconds, 0, len(values)), interpolation="nearest")  # fmt: skip
    middle.set_ylabel("mel band")
    for axes, key in ((above, "true"), (below, "predicted")):
        title, rows = spans[key]
        _draw_events(axes, rows, colours)
        axes.set_title(title, loc="left", fontsize=8.5, fontweight="bold", pad=3)
    for axes in (above, middle):
        axes.tick_params(axis="x", length=0, labelbottom=False)
    below.set_xlabel("seconds")
    below.set_xlim(0, seconds)


def _example_axes(figure: Figure, classes: Collection[str]) -> tuple[Axes, Axes, Axes]:
    """Strip, spectrogram, strip, at fixed places: to lay them out by their texts takes as long as
    the rest of the picture."""
    width, height = figure.get_size_inches()
    left = 0.5 + LETTER * max(map(len, classes), default=0)
    strip = 0.21 * max(1, len(classes))

    def axes(bottom: float, tall: float, share: Axes | None) -> Axes:
        place = (left / width, bottom / height, 1 - (left + 0.1) / width, tall / height)
        return figure.add_axes(place, sharex=share)

    below = axes(0.45, strip, None)
    middle = axes(0.45 + strip + 0.3, PICTURE, below)
    return axes(0.45 + strip + 0.3 + PICTURE + 0.12, strip, below), middle, below


def _draw_events(axes: Axes, events: Sequence[Any], colours: Mapping[str, int]) -> None:
    for place, (name, colour) in enumerate(colours.items()):
        spans = [(on, off - on) for on, off, label in events if label == name]
        axes.broken_barh(spans, (place - 0.36, 0.72), color=THEME.series[colour])
    axes.set_yticks(range(len(colours)), list(colours))
    axes.tick_params(axis="both", length=0, labelcolor=THEME.ink)
    axes.set_ylim(max(1, len(colours)) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
