"""The one door to test labels: each opening is in the ledger before a label is read."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orchestrator.runs.files import append_line, read_lines
from orchestrator.runs.rundir import RunDir
from systems.data.dataset import Dataset, Labels

FITTED = "fitted on the test part"


def open_test_labels(
    run: RunDir, dataset: Dataset, part: str, predictions: Sequence[str]
) -> tuple[Labels, int]:
    """Write the ledger entry, then open a part's labels; also how often they have been opened."""
    plan = run.plan
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "fingerprint": plan.fingerprint,
        "dataset": plan.dataset,
        "part": part,
        "run": plan.name,
        "run_id": plan.run_id,
        "protocol": plan.protocol,
        "predictions": list(predictions),
    }

    labels = dataset.open_sealed(part, lambda: append_line(run.ledger, entry))
    same = [
        line for line in read_lines(run.ledger)
        if (line["fingerprint"], line["part"]) == (plan.fingerprint, part)
    ]  # fmt: skip
    return labels, len(same)
