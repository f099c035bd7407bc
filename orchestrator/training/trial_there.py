"""A trial of the search on whatever node it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.runs.files import disk_is_full
from orchestrator.training.elsewhere import Node
from orchestrator.training.job import Job, Report
from orchestrator.training.trial import run_trial
from systems.errors import UserError


def run_trial_there(
    job: Job, number: int, params: dict[str, Any], report: Report
) -> dict[str, Any]:
    """:func:`run_trial` on whatever node this is."""
    try:
        node = Node(job, number)
        outcome = run_trial(node.job, number, params, report)
        node.end()
    except (UserError, OSError) as error:  # no fault of the trial's
        full = disk_is_full(error, Path(job.run))
        if full is None and not isinstance(error, UserError):
            raise
        return {"outcome": "halted", "cause": full or str(error)}
    return outcome
