"""The page of the morning: one HTML file, and the same as Markdown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.nightly.check import CONFIRMING, REFERENCES
from orchestrator.nightly.record import Night, Nights, StudyRecord
from systems.files import write_whole

HISTORY = 14  # nights that the table of nights shows


def write_page(night: Night, nights: Nights) -> Path:
    """Write ``index.html`` and ``index.md`` into the night's folder; returns the HTML's path."""
    folder = nights.folder(night.night)
    before = list(nights.before(night.night))[: HISTORY - 1]
    about = {
        "night": night, "headline": headline(night), "changes": code_changes(night, before),
        "studies": {name: _study(one, folder, nights.path.parent)
                    for name, one in night.studies.items()},
        "history": _history([night, *before]),
        "REFERENCES": REFERENCES, "CONFIRMING": CONFIRMING,
    }  # fmt: skip
    for name, escapes in (("index.md", False), ("index.html", True)):
        made = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=escapes,
            trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        made.filters["plainly"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
        write_whole(folder / name, made.get_template(f"{name}.j2").render(about))
    return folder / "index.html"


def headline(night: Night) -> str:
    """The night in a sentence."""
    found = [f"regression of {', '.join(night.regressions())}"] if night.regressions() else []
    found += [f"failure of {', '.join(night.failures())}"] if night.failures() else []
    if night.interrupted():
        found.append("interrupted")
    open_ = [name for name, one in night.studies.items() if one.state == "cut off"]
    found += [f"{', '.join(open_)} cut off by the end of the night"] if open_ else []
    if not night.studies:
        return "No study was due."
    said = "; ".join(found) or f"all well: {', '.join(night.studies)}"
    return said[0].upper() + said[1:] + "."


def code_changes(night: Night, before: list[Night]) -> list[str]:
    """What of the code and its libraries is other than on the night before."""
    if not before:
        return []
    old = before[0].code
    return [f"{name.replace('_', ' ')}: {old.get(name, 'none')} → {value or 'none'}"
            for name, value in night.code.items() if old.get(name) != value]  # fmt: skip


def check_in_words(one: StudyRecord) -> str:
    """What the comparison with the last nights came to."""
    found: dict[str, Any] = one.check
    if not found:
        return "not compared"
    difference, references = found["difference"], found["references"].values()
    low, high = difference["low"], difference["high"]
    interval = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"
    text = (f"trained again {found['first'][1]:.4f}, against {_values(references)}: "
            f"{difference['value']:+.4f}{interval}")  # fmt: skip
    if low is None:
        return f"not compared, since all clips are one group: {text}"
    if not found["says_worse"]:
        return f"no worse: {text}"
    seeds = f"; further seeds {_values(found['confirming'].values())}"
    if found["regression"]:
        return f"REGRESSION: {text}{seeds}, each worse than every reference"
    return f"no regression: {text}{seeds}, not all worse than every reference"


def _values(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _study(one: StudyRecord, folder: Path, root: Path) -> dict[str, Any]:
    report = root / one.run / "report" / "index.html" if one.run else None
    there = report is not None and report.exists()
    return {
        "state": one.state, "why": one.why, "run": one.run, "metric": one.metric,
        "trials": "" if one.trials is None else f"{one.trials[0]} → {one.trials[1]}",
        "before": _best(one.best_before), "best": _best(one.best),
        "stack": "" if one.stack is None else f"{one.stack[1]:.4f} ({one.stack[0]})",
        "check": check_in_words(one), "regression": one.regression, "notes": one.notes,
        "minutes": round(one.seconds / 60, 1),
        "report": os.path.relpath(report, folder) if there and report is not None else None,
    }  # fmt: skip


def _best(found: Any) -> str:
    return "" if found is None else f"{found[1]:.4f} (trial {found[0]})"


def _history(nights: list[Night]) -> list[dict[str, Any]]:
    """A row a night and study, the latest first."""
    return [
        {"night": night.night, "study": name, "state": one.state, "best": _best(one.best),
         "again": f"{one.check['first'][1]:.4f}" if one.check else "",
         "regression": one.regression, "commit": night.code.get("git_commit", "")[:9]}
        for night in nights for name, one in night.studies.items()
    ]  # fmt: skip
