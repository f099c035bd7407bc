"""The report: one HTML page, CSV tables and PNG plots, made from results.json alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.report import notes, outcome, words
from orchestrator.report.plots import Plots, draw
from orchestrator.report.tables import (
    Row,
    best_trial,
    class_comparison,
    correlations,
    decoders,
    generations,
    is_finite,
    is_stack,
    is_training,
    leaderboard,
    names,
    over_seeds,
    paper_order,
    paper_row,
    parameter_keys,
    ranked,
    scored_parts,
    scored_rows,
    shown_row,
    tables,
    trivial_first,
)

SOUNDS = "examples"  # the folder of the examples' sound, in the run and in the report


def write(results: Mapping[str, Any], folder: Path) -> Path:
    """Make the report of a run in ``folder``; what was there before is replaced as a whole.

    Args:
        results: the content of results.json, schema version 1 (docs/results.md). Nothing else is
            read but the examples' sound, which lies beside ``folder`` in ``examples/``; where it
            does not, the page has none. An unfinished run gives a report of what is there so far.
        folder: gets ``index.html``, ``*.csv``, ``*.png``, and ``examples/`` with ``*.png`` and
            the sound.

    Returns:
        The path of ``index.html``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in folder.parent.glob(".report-*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        plots = draw(results, new)
        sounds = _copy_sounds(results, folder.parent, new)
        for name, (columns, rows) in tables(results).items():
            _write_csv(new / f"{name}.csv", columns, rows)
        (new / "index.html").write_text(page(results, plots, sounds), encoding="utf-8")
        _swap(new, folder, old)
    return folder / "index.html"


def _copy_sounds(results: Mapping[str, Any], run: Path, new: Path) -> list[str | None]:
    """Copy each example's sound; its address in the page, ``None`` where there is no file."""
    found: list[str | None] = []
    for example in results["test"]["examples"] if results["test"] else []:
        name = Path(example["sound"] or "").name  # a name alone: nothing outside the run
        source = run / SOUNDS / name
        if name and source.is_file():
            shutil.copyfile(source, new / SOUNDS / name)
        found.append(f"{SOUNDS}/{name}" if name and source.is_file() else None)
    return found


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


def page(results: Mapping[str, Any], plots: Plots, sounds: Sequence[str | None]) -> str:
    """The whole page as text: one file that fetches nothing but the sounds beside it."""
    run = results["run"]
    board = list(zip(leaderboard(results)[1], ranked(results), strict=True))
    best, shown = best_trial(results), shown_row(results)
    rows = scored_rows(results)
    return _template(results).render(
        run=run,
        results=results,
        training=is_training(results),
        stacked=is_stack(results),
        outcome=outcome.outcome(results),
        progress=outcome.progress(results),
        notes=notes.notes(results),
        board=board,
        trivial=results.get("trivial"),
        best=best["number"] if best else None,
        keys=parameter_keys(results),
        generations=generations(results),
        objective=run.get("objective"),
        ranked=f"validation {words.ranked_by(results)}",
        value_axis=_axis(_board_bounds(board, results.get("trivial"))),
        stack_axis=_axis([0.0, *filter(is_finite, (x["versus_best"][k] for x in results["stack"]
                                                   for k in ("low", "high")))]),
        tested=[_scored_part(part) for part in scored_parts(results)],
        seeds=over_seeds(results),
        refined=[(r, found) for r in rows if (found := decoders(r, run["classes"]))],
        paper=[("Over all classes", _beside(results, macro=True)),
               ("By class", _beside(results, macro=False))],
        conditions=notes.paper_conditions(results),
        transductive={r["variant"] for r in (*rows, *results["paper"]) if r["transductive"]},
        correlations=correlations(results),
        learners=outcome.ranked_learners(results),
        judged=outcome.comparison_in_words(results),
        refused=results["refused"],
        shown=shown,
        class_metrics=names(shown["classes"].values()) if shown else [],
        comparison=_by_metric(class_comparison(results)),
        plots=plots,
        sounds=sounds,
    )  # fmt: skip


def _scored_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A scored test part with its metrics, and its subsets: key -> name and number of clips."""
    subsets = {
        key: (of["name"], of["clips"])
        for row in part["rows"]
        for key, of in row.get("subsets", {}).items()
    }
    return {**part, "metrics": names(row["metrics"] for row in part["rows"]), "subsets": subsets,
            "rows": trivial_first(part["rows"])}  # fmt: skip


def _beside(results: Mapping[str, Any], *, macro: bool) -> list[tuple[Row, Row]]:
    """The paper's rows of one group, each with its row of paper.csv."""
    rows = paper_order(results)
    return [(row, paper_row(row)) for row in rows if (row["label"] == "") == macro]


def _by_metric(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Row]]]:
    """Metric -> class -> variant -> its row of class_comparison.csv."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        found.setdefault(row["metric"], {}).setdefault(row["class"], {})[row["variant"]] = row
    return found


def _board_bounds(board: Iterable[tuple[Row, Row]], trivial: Row | None) -> list[float]:
    rows = [row for row, _ in board] + ([trivial["searched"]] if trivial else [])
    values = [row[key] for row in rows for key in ("value", "low", "high")]
    return [value for value in values if is_finite(value)]


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
        return ", ".join(f"{_member(trial)}: {words.number(weight)}" for trial, weight in pairs)
    return json.dumps(weights, ensure_ascii=False)


def _member(key: Any) -> str:
    return f"trial {key}" if isinstance(key, int) else str(key)


def _template(results: Mapping[str, Any]) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (words.number, words.correlation, words.signed, words.interval, words.bounds,
                     words.signed_interval, words.setting, words.duration, words.dotted,
                     words.probability, words.decimals, words.when, words.state, words.count,
                     words.verdict, words.why_not, words.example_in_words, outcome.mean_and_sd,
                     weights_in_words):  # fmt: skip
        environment.filters[function.__name__] = function
    for of_metric in (words.metric_name, words.lower_is_better):
        environment.filters[of_metric.__name__] = partial(of_metric, results)
    environment.filters["place"] = _place
    return environment.get_template("template.html.j2")
