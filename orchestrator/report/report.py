"""The report of a run directory."""

from __future__ import annotations

from pathlib import Path

from orchestrator.report import html, results
from orchestrator.runs.rundir import RunDir


def write_report(run: RunDir) -> Path:
    """results.json and the report of a run as far as it has come; returns the page."""
    return html.write(results.collect(run), run.report)
