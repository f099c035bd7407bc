"""One's own sounds: a CSV of path and labels, a system of a paper, one training, a prediction.

    python examples/own_table.py labels.csv

`docs/data.md` says what the table may have: classes, tags or timed events; splits; groups; folds.
"""

from __future__ import annotations

import sys
from typing import Any

from orchestrator import Options, Run, launch


def main(table: str, **options: Any) -> Run:
    """Train the published point on the sounds of a table, and predict the first of them."""
    asked = {"purpose": "train", "system": "gcrnn_vat/gcrnn", "dataset": "table", "data": table}
    run = launch(Options(**{**asked, **options}))
    print(run.results.test.to_string(index=False))
    said = run.predictions("best", part="test")
    scores = dict(zip(said.classes, said.clip_scores[0].round(3), strict=True))
    print(f"{said.clip_ids[0]}: {scores}")
    return run


if __name__ == "__main__":
    main(sys.argv[1])
