"""The one door to test labels: each opening is in the ledger before a label is read.

A test part is known by its sound and labels (``test_set``), so a copy of the data, or a touched
file, has the openings of the original.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.runs.files import append_line, read_lines
from orchestrator.runs.mirror import mirror_of
from orchestrator.runs.objects import patiently
from orchestrator.runs.rundir import RunDir
from systems.data.dataset import Dataset, Labels

FITTED = "fitted on the test part"


def open_test_labels(
    run: RunDir, dataset: Dataset, part: str, sound: Callable[[str], str],
    predictions: Sequence[str],
) -> tuple[Labels, int]:  # fmt: skip
    """Write the ledger entry, then open a part's labels; also how often they have been opened.

    ``sound``: clip id -> a digest of its sound.
    """
    plan = run.plan
    test_set = dataset.sealed_digest(part, sound)
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "fingerprint": plan.fingerprint,
        "dataset": plan.dataset,
        "part": part,
        "test_set": test_set,
        "run": plan.name,
        "run_id": plan.run_id,
        "protocol": plan.protocol,
        "predictions": list(predictions),
    }

    labels = dataset.open_sealed(part, lambda: _note(run, entry))
    same = [
        line for line in read_lines(run.ledger)
        if line.get("test_set", test_set) == test_set
        # Lines of before know the files alone.
        and ("test_set" in line or (line["fingerprint"], line["part"]) == (plan.fingerprint, part))
    ]  # fmt: skip
    return labels, len(same)


def _note(run: RunDir, entry: dict[str, Any]) -> None:
    """Write an entry; in an object store too, beside those of other machines."""
    append_line(run.ledger, entry)
    copy = mirror_of(run.ledger.parent)
    if copy is not None:
        patiently(lambda: copy.join_lines(run.ledger.name))
