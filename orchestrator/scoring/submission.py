"""What the organisers of a challenge score: predictions of a part whose labels they keep."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.candidates import Candidate
from systems import data
from systems.data.dataset import Dataset


def submit(
    run: RunDir, dataset: Dataset, part: str, candidates: Sequence[Candidate], places: np.ndarray
) -> list[dict[str, Any]]:
    """A file for the best member, as configured, and for each meta-learner.

    Each has a folder of its own, ``submission/NAME``, since organisers say what a file is called.

    Args:
        run: whose folder gets them; what was there goes.
        dataset: whose reader writes them, as ``write_submission(dataset, predictions, folder)``.
        part: whose labels are withheld.
        candidates: all models, whose predictions are of all test parts.
        places: [n] of the part's clips among them.

    Returns:
        ``submissions[]`` of docs/results.md; ``file`` is ``None`` where the reader writes none.
    """
    write = getattr(data.reader(run.plan.dataset), "write_submission", None)
    best = next((one for one in candidates if one.about["best"]), None)
    chosen = [one for one in candidates if one is best or one.about["learner"] is not None]
    several = sum(map(dataset.withholds, run.plan.test_parts)) > 1
    found = []
    for candidate in chosen:
        about = candidate.about
        name = about["learner"] or "best"
        folder = run.submission / (f"{name}-{part}" if several else name)
        shutil.rmtree(folder, ignore_errors=True)
        file = None
        if write is not None:
            folder.mkdir(parents=True)
            written = Path(write(dataset, candidate.predictions.rows(places), folder))
            file = str(written.relative_to(run.path))
        kept = {key: about[key] for key in ("who", "trial", "learner", "variant")}
        found.append({"part": part, **kept, "file": file})
    return found
