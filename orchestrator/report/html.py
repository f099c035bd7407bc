"""The report: one HTML page, CSV tables and PNG plots, made from results.json alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

Row = dict[str, Any]
Table = tuple[list[str], list[Row]]

METRIC_NAMES = {
    "clip_macro_f1": "clip macro F1",
    "clip_f1": "clip F1",
    "event_f1": "event-based F1",
    "event_er": "event-based error rate",
}
LOWER_IS_BETTER = ("_er", "loss", "error_rate")
MOST_COLOURED = 10  # with more trials than this, only the named curves get a colour of their own
BEATS = "beats the best member"
EVENT_LISTS = ("true", "predicted")


# Writing


def write(results: Mapping[str, Any], folder: Path) -> Path:
    """Make the report of a run in ``folder``; what was there before is replaced as a whole.

    Args:
        results: the content of results.json, schema version 1 (docs/results.md). Nothing else is
            read. An unfinished run gives a report of what is there so far.
        folder: gets ``index.html``, ``*.csv``, ``*.png`` and ``examples/*.png``.

    Returns:
        The path of ``index.html``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        plots = draw(results, new)
        for name, (columns, rows) in tables(results).items():
            _write_csv(new / f"{name}.csv", columns, rows)
        (new / "index.html").write_text(page(results, plots), encoding="utf-8")
        _swap(new, folder, old)
    return folder / "index.html"


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``, which goes to ``old``."""
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


# Tables, at full precision, as the CSV files hold them


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """The CSV tables by name: columns and rows."""
    return {
        "leaderboard": leaderboard(results),
        "stack": _stack_table(results),
        "test": _test_table(results),
        "classes": _class_table(results),
        "paper": _paper_table(results),
    }


def leaderboard(results: Mapping[str, Any]) -> Table:
    """All trials by value; those without one last. Only completed trials have a rank."""
    trials = ranked(results)
    keys = parameter_keys(results)
    columns = ["rank", "trial", "state", "published", "value", "low", "high", "best_step", "steps",
               "seconds", "attempts", "cause"]  # fmt: skip
    rank, rows = 0, []
    for trial in trials:
        rank += trial["state"] == "complete"
        low, high = trial["interval"] or (None, None)
        rows.append(
            {key: trial[key] for key in columns[2:5] + columns[7:]}
            | {"rank": rank if trial["state"] == "complete" else None, "trial": trial["number"],
               "low": low, "high": high}
            | {f"params.{key}": trial["params"].get(key) for key in keys}
        )  # fmt: skip
    return columns + [f"params.{key}" for key in keys], rows


def ranked(results: Mapping[str, Any]) -> list[Row]:
    """The trials, best value first."""
    sign = _sign(results)
    return sorted(
        results["trials"],
        key=lambda t: (not _finite(t["value"]), -sign * (t["value"] or 0.0), t["number"]),
    )


def parameter_keys(results: Mapping[str, Any]) -> list[str]:
    """Searched parameters: those of the space in its order, then any other that a trial has."""
    keys = dict.fromkeys(results["run"]["space"])
    for trial in results["trials"]:
        keys |= dict.fromkeys(trial["params"])
    return list(keys)


def _stack_table(results: Mapping[str, Any]) -> Table:
    columns = ["learner", "title", "members", "value", "low", "high", "difference",
               "difference_low", "difference_high", "p_not_better", "seconds"]  # fmt: skip
    rows = []
    for learner in results["stack"]:
        difference = learner["versus_best"]
        rows.append(
            {"learner": learner["name"], "title": learner["title"], "seconds": learner["seconds"],
             "members": " ".join(map(str, learner["members"])), **learner["out_of_fold"],
             "difference": difference["value"], "difference_low": difference["low"],
             "difference_high": difference["high"], "p_not_better": difference["p_not_better"]}
        )  # fmt: skip
    return columns, rows


def _test_table(results: Mapping[str, Any]) -> Table:
    test_rows = _test_rows(results)
    metrics = _names(row["metrics"] for row in test_rows)
    about = ["who", "trial", "learner", "variant", "best", "transductive"]
    columns = about + [name + end for name in metrics for end in ("", "_low", "_high")]
    rows = []
    for row in test_rows:
        flat = {key: row[key] for key in about}
        for name, score in row["metrics"].items():
            flat |= {name: score["value"], f"{name}_low": score.get("low"),
                     f"{name}_high": score.get("high")}  # fmt: skip
        rows.append(flat)
    return columns, rows


def _class_table(results: Mapping[str, Any]) -> Table:
    test_rows = _test_rows(results)
    metrics = _names(scores for row in test_rows for scores in row["classes"].values())
    about = ["who", "trial", "learner", "variant", "transductive"]
    columns = [*about, "class", *metrics, "threshold", "median"]
    rows = []
    for row in test_rows:
        decoders = _decoders(row, results["run"]["classes"])
        for name, scores in row["classes"].items():
            threshold, median = decoders.get(name, (None, None))
            rows.append(
                {key: row[key] for key in about}
                | {"class": name, **scores, "threshold": threshold, "median": median}
            )
    return columns, rows


def _decoders(row: Row, classes: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Class -> threshold and median width, where the row's decoders were refined."""
    chosen = row["refinement"]
    if not chosen:
        return {}
    pairs = zip(chosen["thresholds"], chosen["medians"], strict=True)
    return dict(zip(classes, pairs, strict=True))


def _paper_table(results: Mapping[str, Any]) -> Table:
    columns = ["system", "variant", "dataset", "split", "metric", "label", "unit", "paper", "ours",
               "ours_low", "ours_high", "difference", "why", "source"]  # fmt: skip
    return columns, [_paper_row(row) for row in paper_order(results)]


def _paper_row(row: Row) -> Row:
    ours = row["ours"] or {}
    value = ours.get("value")
    kept = ("system", "variant", "dataset", "split", "metric", "label", "unit", "why", "source")
    return {key: row[key] for key in kept} | {
        "paper": row["value"],
        "ours": value,
        "ours_low": ours.get("low"),
        "ours_high": ours.get("high"),
        "difference": None if value is None else value - row["value"],
    }


def paper_order(results: Mapping[str, Any]) -> list[Row]:
    """The paper's figures: macro ones first, in each group those of this run's system first."""
    own = results["run"]["system"].rpartition("/")[2]
    return sorted(results["paper"], key=lambda row: (row["label"] != "", row["system"] != own))


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _test_rows(results: Mapping[str, Any]) -> list[Row]:
    return results["test"]["rows"] if results["test"] else []


def shown_row(results: Mapping[str, Any]) -> Row | None:
    """The test row that stands for the run: the best trial's, under its own decision.

    It is the first row of the best trial that used no test audio: chosen by order, never by its
    test score.
    """
    rows = _test_rows(results)
    best = [row for row in rows if row["best"]] or rows
    return next((row for row in best if not row["transductive"]), best[0] if best else None)


def _best_trial(results: Mapping[str, Any]) -> Row | None:
    """The completed trial with the best value."""
    return next((t for t in ranked(results) if t["state"] == "complete"), None)


def _sign(results: Mapping[str, Any]) -> int:
    return 1 if results["run"]["mode"] == "max" else -1


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# Values in words


def number(value: Any, digits: int = 3) -> str:
    """A figure with fixed decimals and a true minus sign; a dash where there is none."""
    if not _finite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """A difference, always with its sign."""
    if not _finite(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``0.71 [0.65, 0.77]``, or the value alone where there is no interval."""
    if not score:
        return "–"
    text = number(score["value"], digits)
    return f"{text} {bounds(score, digits)}".rstrip()


def bounds(score: Mapping[str, Any], digits: int = 3) -> str:
    """``[0.65, 0.77]``, or nothing."""
    if not _finite(score.get("low")):
        return ""
    return f"[{number(score['low'], digits)}, {number(score['high'], digits)}]"


def setting(value: Any) -> str:
    """A configuration's value, short."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if len(value) > 6:  # a grid
            return f"{len(value)} values, {setting(value[0])} to {setting(value[-1])}"
        return ", ".join(map(setting, value))
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours = seconds / 60, seconds / 3600
    if hours < 1:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min"


def probability(value: float) -> str:
    """A p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def metric_name(name: str) -> str:
    """A metric's name in words."""
    return METRIC_NAMES.get(name, name.replace("_", " "))


def lower_is_better(name: str) -> bool:
    """Whether a smaller figure of this metric is a better one."""
    return name.endswith(LOWER_IS_BETTER)


def dotted(key: str) -> Markup:
    """A configuration key that may break after its dots."""
    return Markup(".<wbr>").join(escape(part) for part in str(key).split("."))


def decimals(unit: str) -> int:
    """Decimals of a published figure's unit: percent to a tenth, ratios to a hundredth."""
    return 1 if unit == "%" else 2


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def outcome(results: Mapping[str, Any]) -> str:
    """One short paragraph: best trial, its refit on the test part, the meta-learners."""
    best = _best_trial(results)
    if best is None:
        return "No trial has completed yet, so there is no result to report."
    done = sum(trial["state"] == "complete" for trial in results["trials"])
    score = {"value": best["value"]}
    if best["interval"]:
        score |= dict(zip(("low", "high"), best["interval"], strict=True))
    first = (
        f"Trial {best['number']} has the best validation "
        f"{metric_name(results['run']['metric'])} of {_count(done, 'completed trial')}: "
        f"{interval(score)}{' (the published point)' if best['published'] else ''}."
    )
    return " ".join(filter(None, (first, _test_outcome(results), _stack_outcome(results))))


def _test_outcome(results: Mapping[str, Any]) -> str:
    row, test = shown_row(results), results["test"]
    if row is None:
        return "The test part has not been scored."
    who = row["who"] + (f" ({row['variant']})" if row["variant"] else "")
    return f"On the {test['part']} part ({_count(test['clips'], 'clip')}), {who}: {_scores(row)}."


def _scores(row: Row) -> str:
    return ", ".join(f"{metric_name(n)} {interval(score)}" for n, score in row["metrics"].items())


def _stack_outcome(results: Mapping[str, Any]) -> str:
    learners = results["stack"]
    if not learners:
        return "No meta-learner has been fitted."
    better = [x for x in learners if verdict(x, results) == BEATS]
    if better:
        return f"Out of fold, {'; '.join(_margin(x, results) for x in better)}."
    if len(learners) == 1:
        return "Out of fold the meta-learner does not beat the best member."
    return f"Out of fold none of {len(learners)} meta-learners beats the best member."


def _margin(learner: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """By how much a learner beats the best member, and what it has on the test part."""
    text = f"{learner['title']} {BEATS} by {signed_interval(learner['versus_best'])}"
    rows = [row for row in _test_rows(results) if row["learner"] == learner["name"]]
    return text + (f" (on the test part: {_scores(rows[0])})" if rows else "")


def signed_interval(difference: Mapping[str, Any], digits: int = 3) -> str:
    """A difference with its interval."""
    low, high = (signed(difference[key], digits) for key in ("low", "high"))
    return f"{signed(difference['value'], digits)} [{low}, {high}]"


def verdict(learner: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Whether the interval of a learner's difference to the best member lies on one side of 0."""
    difference, sign = learner["versus_best"], _sign(results)
    worst, best = sorted((sign * difference["low"], sign * difference["high"]))
    if worst > 0:
        return BEATS
    if best < 0:
        return "does not beat the best member; it is worse"
    return "does not beat the best member"


def progress(results: Mapping[str, Any]) -> str | None:
    """What is still to come in an unfinished run, or nothing."""
    run, trials = results["run"], results["trials"]
    running = [str(t["number"]) for t in trials if t["state"] == "running"]
    missing = []
    if len(trials) < run["trials"]:
        missing.append(f"{len(trials)} of {_count(run['trials'], 'planned trial')} started")
    if running:
        missing.append(f"running: trial {', '.join(running)}")
    if not results["members"]:
        missing.append("no members chosen")
    if not results["test"]:
        missing.append("test part not scored")
    return "; ".join(missing) or None


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before comparing any figure."""
    found = [_data_note, _budget_note, _set_note, _moved_note, _selection_note, _interval_note,
             _opening_note,
             _transductive_note]  # fmt: skip
    return [text for note in found if (text := note(results))]


def _data_note(results: Mapping[str, Any]) -> str:
    run = results["run"]
    if run["dataset"] == run["published_dataset"]:
        return f"The data set is the paper's, {run['dataset']}."
    return (
        f"The data set is not the paper's. This run used {run['dataset']}; the paper's figures are "
        f"on {run['published_dataset']}. They cannot confirm or contradict each other."
    )


def _budget_note(results: Mapping[str, Any]) -> str:
    run = results["run"]
    if not run["scaled"]:
        return f"The budget ({run['budget']}) leaves the published schedule and sizes as they are."
    return (
        f"The budget ({run['budget']}) changed {_count(len(run['scaled']), 'published value')}; "
        "the table below lists them. Every trial was trained so, the published point included."
    )


def _set_note(results: Mapping[str, Any]) -> str:
    fixed = results["run"].get("set", {})
    if not fixed:
        return ""
    texts = [
        f"{key} = {setting(ours)} (paper: {setting(theirs)})"
        for key, (theirs, ours) in sorted(fixed.items())
    ]
    return f"Fixed by hand in every trial, the published point included: {', '.join(texts)}."


def _moved_note(results: Mapping[str, Any]) -> str:
    moved = results["run"]["moved"]
    if not moved:
        return ""
    trials = results["trials"]
    published: Row = next((trial["params"] for trial in trials if trial["published"]), {})
    texts = [
        f"{key} = {setting(value)} in the paper"
        + (f", {setting(published[key])} here" if key in published else "")
        for key, value in moved.items()
    ]
    lies = "value lies" if len(moved) == 1 else "values lie"
    return (
        f"{len(moved)} published {lies} outside the searched range, so the trial that stands for "
        f"the published point uses the nearest value inside: {'; '.join(texts)}."
    )


def _selection_note(results: Mapping[str, Any]) -> str:
    return (
        "The leaderboard's figures are selection-biased: each trial is scored at its best epoch, "
        "chosen on the rows that it is scored on, and the best trial is the best of many. Expect "
        "lower values on new data. The members' out-of-fold figures are free of the choice of "
        "epoch, not of the choice of trial; only the test part is free of both."
    )


def _interval_note(results: Mapping[str, Any]) -> str:
    return (
        "Intervals are 95 % bootstrap intervals over clips. They hold for the trained model as it "
        "is; how much another training with another seed would differ is not in them."
    )


def _opening_note(results: Mapping[str, Any]) -> str:
    test = results["test"]
    if not test:
        return "The labels of the test part have not been opened by this run."
    n = test["openings"]
    times = "once" if n == 1 else f"{n} times"
    text = f"The labels of the {test['part']} part have been opened {times}."
    if n > 1:
        text += " Decisions made after an earlier opening may have been fitted to these labels."
    return text


def _transductive_note(results: Mapping[str, Any]) -> str:
    if not any(row["transductive"] for row in _test_rows(results)):
        return ""
    return (
        "Rows marked transductive adapted on the sound of the test clips (without their labels). "
        "They are not comparable with rows that did not."
    )


def paper_conditions(results: Mapping[str, Any]) -> str:
    """Under what conditions the paper's figures and ours stand side by side."""
    run = results["run"]
    differs = []
    if run["dataset"] != run["published_dataset"]:
        differs.append(f"the data set ({run['dataset']}, not {run['published_dataset']})")
    if run["scaled"]:
        differs.append(f"the budget ({run['budget']}; scaled values are listed under Notes)")
    if run.get("set"):
        differs.append("values fixed by hand (listed under Notes)")
    if not differs:
        return "Data set and budget are the paper's."
    return (
        f"Not the paper's conditions: {' and '.join(differs)} differ{'s' * (len(differs) == 1)}. "
        "A difference here is no evidence for or against the paper's figures."
    )


# Plots


@dataclass(frozen=True)
class Theme:
    """Colours of a plot: of the page, and of the series in order."""

    paper: str
    ink: str
    muted: str
    grid: str
    accent: str
    series: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1c2430", "#5c6675", "#e3e7ec", "#b4530a",
    ("#1f6fb2", "#2f8f5b", "#8a4fb0", "#b8860b", "#c2476b", "#3d8f95", "#6b7a2c", "#7a5a45",
     "#4c5fd5", "#9a3e3e"),
)  # fmt: skip
DARK = Theme(
    "#171c23", "#e6eaf0", "#9aa5b4", "#2c3440", "#f0a35e",
    ("#6db3ee", "#6cc795", "#c79be6", "#e0bd5a", "#ee8fa9", "#7fd0d5", "#b8c46a", "#c9a78f",
     "#99a5ff", "#e08585"),
)  # fmt: skip
Draw = Callable[[Figure, Theme], None]


@dataclass(frozen=True)
class Image:
    """A plot inside the page: a data URI a theme, and what it shows in words."""

    alt: str
    light: str
    dark: str
    width: int
    height: int


@dataclass(frozen=True)
class Plots:
    """All plots of the page; ``None`` where there is nothing to draw."""

    curves: Image | None
    classes: Image | None
    examples: tuple[Image, ...]


def draw(results: Mapping[str, Any], folder: Path) -> Plots:
    """Draw every plot into ``folder`` and return them for the page."""
    examples = results["test"]["examples"] if results["test"] else []
    if examples:
        (folder / "examples").mkdir()
    return Plots(
        _curves(results, folder / "learning_curves.png"),
        _class_bars(results, folder / "class_scores.png"),
        tuple(
            _example(example, results, folder / "examples" / f"{i:02d}_{_file_name(example)}.png")
            for i, example in enumerate(examples, start=1)
        ),
    )


def _file_name(example: Row) -> str:
    return re.sub(r"[^\w-]+", "_", str(example["clip"]), flags=re.ASCII)[:60]


def _render(draw_on: Draw, size: tuple[float, float], alt: str, path: Path) -> Image:
    """Draw in both themes; the light one is also the file."""
    pictures = [_png(draw_on, size, theme) for theme in (LIGHT, DARK)]
    path.write_bytes(pictures[0])
    light, dark = ("data:image/png;base64," + base64.b64encode(p).decode() for p in pictures)
    return Image(alt, light, dark, round(size[0] * 100), round(size[1] * 100))


def _png(draw_on: Draw, size: tuple[float, float], theme: Theme) -> bytes:
    look: Any = {
        "text.parse_math": False,  # class names may hold a dollar sign
        "font.size": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.facecolor": theme.paper,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "grid.color": theme.grid,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
    }
    with matplotlib.rc_context(look):
        figure = Figure(figsize=size, dpi=160, layout="constrained", facecolor=theme.paper)
        FigureCanvasAgg(figure)
        draw_on(figure, theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _curves(results: Mapping[str, Any], path: Path) -> Image | None:
    trials = [trial for trial in results["trials"] if trial["curve"]]
    if not trials:
        return None
    best, metric = _best_trial(results), results["run"]["metric"]
    alt = f"Learning curves of {_count(len(trials), 'trial')}: {metric_name(metric)} by epoch."
    if best is not None:
        alt += (
            f" The best, trial {best['number']}, peaks at {number(best['value'])} "
            f"after {_count(best['best_step'] or 0, 'step')}."
        )
    height = max(3.6, 1.0 + 0.2 * min(len(trials), MOST_COLOURED))
    return _render(partial(_draw_curves, trials, best, metric), (10.4, height), alt, path)


def _draw_curves(
    trials: Sequence[Row], best: Row | None, metric: str, figure: Figure, theme: Theme
) -> None:
    left, right = figure.subplots(1, 2)
    few = len(trials) <= MOST_COLOURED
    for i, trial in enumerate(trials):
        is_best = best is not None and trial["number"] == best["number"]
        named = few or is_best or trial["published"]
        colour = theme.series[i % MOST_COLOURED] if few else theme.muted
        style = _curve_style(trial, theme.accent if is_best else colour, named, theme)
        label = _curve_label(trial, is_best) if named else None
        for axes, key in ((left, metric), (right, "loss")):
            points = [(x["step"], x[key]) for x in trial["curve"] if _finite(x.get(key))]
            if points:
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) == 1 or trial["published"] else None
                axes.plot(steps, values, label=label, marker=marker, markersize=3.5, **style)
                if trial["state"] in ("diverged", "failed"):
                    axes.plot(steps[-1], values[-1], "x", color=style["color"], markersize=7)
    _axes(left, "epoch", metric_name(metric))
    _axes(right, "epoch", "training loss")
    _log_if_wide(right)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)


def _curve_style(trial: Row, colour: str, named: bool, theme: Theme) -> Row:
    dashes = {"stopped": "--", "diverged": ":", "failed": ":", "running": "-."}
    return {
        "color": theme.ink if trial["published"] else colour,
        "linestyle": dashes.get(trial["state"], "-"),
        "linewidth": 2.2 if trial["published"] or colour == theme.accent else 1.4,
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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def plotted_class_metrics(row: Row) -> list[str]:
    """Per-class metrics that fit one axis from 0 to 1."""
    names = _names(row["classes"].values())
    return [name for name in names if not lower_is_better(name)]


def _class_bars(results: Mapping[str, Any], path: Path) -> Image | None:
    row = shown_row(results)
    if row is None or not row["classes"] or not plotted_class_metrics(row):
        return None
    metrics = plotted_class_metrics(row)
    texts = [
        f"{name}: " + ", ".join(f"{metric_name(m)} {number(s.get(m))}" for m in metrics)
        for name, s in row["classes"].items()
    ]
    size = (10.4, 0.9 + 0.2 * len(row["classes"]) * (len(metrics) + 0.6))
    alt = f"Scores of each class, {row['who']}. {'; '.join(texts)}."
    return _render(partial(_draw_class_bars, row["classes"], metrics), size, alt, path)


def _draw_class_bars(
    classes: Mapping[str, Row], metrics: Sequence[str], figure: Figure, theme: Theme
) -> None:
    axes = figure.subplots()
    places = np.arange(len(classes), dtype=float)
    thickness = 0.8 / len(metrics)
    for i, metric in enumerate(metrics):
        values = [scores.get(metric) or 0.0 for scores in classes.values()]
        y = places + (i - (len(metrics) - 1) / 2) * thickness
        axes.barh(y, values, thickness * 0.9, color=theme.series[i], label=metric_name(metric))
        for value, at in zip(values, y, strict=True):
            axes.text(value + 0.006, at, number(value, 2), va="center", fontsize=7.5,
                      color=theme.muted)  # fmt: skip
    axes.set_yticks(places, list(classes))
    axes.tick_params(axis="y", length=0, labelcolor=theme.ink)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05)
    axes.set_axisbelow(True)
    axes.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=len(metrics), fontsize=8)


def _example(example: Row, results: Mapping[str, Any], path: Path) -> Image:
    present = {label for key in EVENT_LISTS for _, _, label in example[key]}
    classes = [name for name in results["run"]["classes"] if name in present]
    classes += sorted(present - set(classes))
    alt = (
        f"Log-mel spectrogram of clip {example['clip']}, "
        f"{number(example['log_mel']['seconds'], 1)} s. "
        f"True events: {_events_in_words(example['true'])}. "
        f"Predicted events: {_events_in_words(example['predicted'])}."
    )
    size = (10.4, 3.2 + 0.42 * max(1, len(classes)))
    colours = {name: _class_place(name, results["run"]["classes"]) for name in classes}
    return _render(partial(_draw_example, example, colours), size, alt, path)


def _class_place(name: str, classes: Sequence[str]) -> int:
    """A class's colour, the same in every example."""
    return classes.index(name) % len(LIGHT.series) if name in classes else 0


def _events_in_words(events: Sequence[Sequence[Any]]) -> str:
    texts = [f"{name} {number(on, 2)} to {number(off, 2)} s" for on, off, name in events]
    return ", ".join(texts) or "none"


def log_mel(example: Row) -> np.ndarray:
    """The example's spectrogram [F, T], 0 to 255."""
    stored = example["log_mel"]
    return np.frombuffer(base64.b64decode(stored["data"]), np.uint8).reshape(stored["shape"])


def _draw_example(example: Row, colours: Mapping[str, int], figure: Figure, theme: Theme) -> None:
    seconds, strip = example["log_mel"]["seconds"], 0.21 * max(1, len(colours))
    above, middle, below = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [strip, 2.0, strip]}
    )
    values = log_mel(example)
    middle.imshow(values, origin="lower", aspect="auto", cmap="magma", vmin=0, vmax=255,
                  extent=(0, seconds, 0, len(values)), interpolation="nearest")  # fmt: skip
    middle.set_ylabel("mel band")
    for axes, key in ((above, "true"), (below, "predicted")):
        _draw_events(axes, example[key], colours, theme)
        axes.set_title(f"{key} events", loc="left", fontsize=8.5, fontweight="bold", pad=3)
    middle.tick_params(axis="x", length=0)
    below.set_xlabel("seconds")
    below.set_xlim(0, seconds)


def _draw_events(
    axes: Axes, events: Sequence[Any], colours: Mapping[str, int], theme: Theme
) -> None:
    for place, (name, colour) in enumerate(colours.items()):
        spans = [(on, off - on) for on, off, label in events if label == name]
        axes.broken_barh(spans, (place - 0.36, 0.72), color=theme.series[colour])
    axes.set_yticks(range(len(colours)), list(colours))
    axes.tick_params(axis="both", length=0, labelcolor=theme.ink)
    axes.set_ylim(max(1, len(colours)) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


# The page


def page(results: Mapping[str, Any], plots: Plots) -> str:
    """The whole page as text: one file that fetches nothing."""
    run = results["run"]
    board = list(zip(leaderboard(results)[1], ranked(results), strict=True))
    best, shown = _best_trial(results), shown_row(results)
    return _template().render(
        run=run,
        results=results,
        outcome=outcome(results),
        progress=progress(results),
        notes=notes(results),
        board=board,
        best=best["number"] if best else None,
        keys=parameter_keys(results),
        value_axis=_axis(_board_bounds(board)),
        stack_axis=_axis([0.0] + [x["versus_best"][k] for x in results["stack"]
                                  for k in ("low", "high")]),
        test_metrics=_names(row["metrics"] for row in _test_rows(results)),
        refined=[(r, _decoders(r, run["classes"])) for r in _test_rows(results) if r["refinement"]],
        paper=[("Over all classes", _beside(results, macro=True)),
               ("By class", _beside(results, macro=False))],
        conditions=paper_conditions(results),
        transductive={r["variant"] for r in _test_rows(results) if r["best"] and r["transductive"]},
        shown=shown,
        class_metrics=_names(shown["classes"].values()) if shown else [],
        plots=plots,
    )  # fmt: skip


def _beside(results: Mapping[str, Any], *, macro: bool) -> list[tuple[Row, Row]]:
    """The paper's rows of one group, each with its row of paper.csv."""
    rows = paper_order(results)
    return [(row, _paper_row(row)) for row in rows if (row["label"] == "") == macro]


def _board_bounds(board: Iterable[tuple[Row, Row]]) -> list[float]:
    values = [row[key] for row, _ in board for key in ("value", "low", "high")]
    return [value for value in values if _finite(value)]


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that holds all values, with a little room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _place(value: float, axis: tuple[float, float]) -> str:
    """A value's place on an axis of 0 to 100."""
    return f"{100 * (value - axis[0]) / (axis[1] - axis[0]):.1f}"


def weights_in_words(learner: Mapping[str, Any]) -> str:
    """A learner's weights: one a member where it has those, else its JSON; empty without any."""
    weights = learner["weights"]
    if not weights:
        return ""
    each = weights.get("members")
    if isinstance(each, list) and len(each) == len(learner["members"]):
        pairs = zip(learner["members"], each, strict=True)
        return ", ".join(f"trial {trial}: {number(weight)}" for trial, weight in pairs)
    return json.dumps(weights, ensure_ascii=False)


def tags_in_words(example: Row) -> str:
    """The clip's tag scores, highest first; those below 0.05 are left out."""
    tags = sorted(example["tags"].items(), key=lambda tag: -tag[1])
    return ", ".join(f"{name} {number(score, 2)}" for name, score in tags if score >= 0.05)


def when(created: str) -> str:
    """An ISO time to the minute, with its offset from UTC."""
    return f"{created[:10]} {created[11:16]} {created[19:]}".strip()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (number, signed, interval, bounds, signed_interval, setting, duration, dotted,
                     probability, metric_name, lower_is_better, decimals, weights_in_words,
                     tags_in_words, when, verdict):  # fmt: skip
        environment.filters[function.__name__] = function
    environment.filters["place"] = _place
    return environment.get_template("template.html.j2")
