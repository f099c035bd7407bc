"""The test part is scored once, as its kind of labels asks, through the one door to its labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.members.rows import OutOfFold
from orchestrator.runs.counts import save_counts
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.candidates import final_models, fitted_on_test, meta_learners
from orchestrator.scoring.examples import choose_examples
from orchestrator.scoring.ledger import open_test_labels
from orchestrator.scoring.score import score
from orchestrator.scoring.test_rows import test_rows
from systems.data.dataset import Dataset
from systems.data.prepare import Sound
from systems.kinds import kind


def score_test_once(
    run: RunDir, dataset: Dataset, store: Sound, rows: OutOfFold,
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Score final models, the paper's decision variants and the meta-learners, in one opening.

    Does nothing where scores.json is there.
    """
    plan = run.plan
    if run.scores.exists():
        return
    about_labels = kind(dataset.label_kind(dataset.test_part))
    test = test_rows(plan, dataset, rows, columns)
    candidates = [*final_models(plan, rows), *meta_learners(run, test, about_labels.name)]
    names = [candidate.in_ledger(plan) for candidate in candidates]

    labels, openings = open_test_labels(run, dataset, names)
    truth = about_labels.truth(labels, test.clip_ids, plan.classes)
    if plan.stage.fitted_on == "test":
        candidates = fitted_on_test(run, test, truth, candidates)

    scores = [score(candidate.predictions, truth, plan.metric) for candidate in candidates]
    first = candidates[0].predictions
    examples = choose_examples(first, truth, scores[0].counts, store, run.path / "examples")
    scored = [
        {**candidate.about, "metrics": one.metrics, "classes": one.classes}
        for candidate, one in zip(candidates, scores, strict=True)
    ]
    save_counts(run.test_counts, test.clip_ids, scored, [one.counts for one in scores])
    write_json(
        run.scores,
        {
            "part": dataset.test_part,
            "label_kind": labels.kind,
            "openings": openings,
            "clips": len(test.clip_ids),
            "rows": scored,
            "examples": examples,
        },
    )
