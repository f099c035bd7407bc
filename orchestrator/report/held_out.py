"""The figures of rows that no model which scores them has seen, as scores.json has the test's."""

from __future__ import annotations

from typing import Any

from orchestrator.runs.counts import load_counts
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.score import by_class, intervals


def held_out_rows(run: RunDir) -> list[dict[str, Any]]:
    """A row for each member and each meta-learner; none before they are there.

    A meta-learner has the run's metric alone, a member every metric that follows epochs.
    """
    if not run.members.exists() or not run.validation_counts.exists():
        return []
    stored = load_counts(run.validation_counts)
    members = read_json(run.members)["members"]
    rows = [
        {
            "trial": member["trial"],
            "learner": None,
            "best": one.best,
            "metrics": intervals(one.counts, stored.groups),
            "classes": by_class(one.counts, run.plan.classes),
            "correlations": member.get("correlations", []),
        }
        for member, one in zip(members, stored.rows, strict=True)
    ]
    for name in run.plan.stage.learners:
        path = run.learner(name).scores
        if path.exists():
            about = read_json(path)
            rows.append({"trial": None, "learner": name, "best": False, "classes": {},
                         "metrics": {about["metric"]: about["out_of_fold"]}})  # fmt: skip
    return [{**row, "variant": None, "transductive": False} for row in rows]
