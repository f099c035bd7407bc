"""What meta-learners see of the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from orchestrator.members.rows import Member, OutOfFold, clips_of, refuse_seen, view
from orchestrator.members.seen import Members, answer
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants
from orchestrator.runs.rundir import TrialDir
from systems.data.dataset import Clip, Dataset, LabelKind
from systems.predictions import Predictions


def test_rows(
    plan: Plan, dataset: Dataset, rows: OutOfFold, columns: Mapping[str, np.ndarray] | None
) -> Members:
    """What meta-learners see of the test part.

    Raises:
        UserError: a member was trained on a clip of it.
    """
    trained_on = {clip.clip_id for clip in dataset.role("labelled")}
    members = [(m, m.run.trial(m.number), next(iter(decision_variants(m.plan))))
               for m in rows.members]  # fmt: skip
    predictions = [Predictions.load(t.test_predictions(v, plan.stage.final)) for _, t, v in members]
    for member, one in zip(rows.members, predictions, strict=True):
        refuse_seen(member.name, trained_on.intersection(one.clip_ids))
    labels, clips = rows.targets.kind, clips_of(dataset)
    seen = view(rows.members, predictions, labels, clips, columns)
    trials = [trial for _, trial, _ in members]
    of_folds = None
    if plan.stage.folds_predict:
        of_folds = tuple(
            _of_fold(rows.members, trials, fold, clips, columns, labels)
            for fold in range(len(plan.splits["folds"]))
        )
    return replace(seen, of_folds=of_folds, epochs=_epochs(trials, None, labels))


def _of_fold(
    members: Sequence[Member], trials: Sequence[TrialDir], fold: int,
    clips: Mapping[str, Clip], columns: Mapping[str, np.ndarray] | None, labels: LabelKind,
) -> Members:  # fmt: skip
    """What one fold's models say of the test part."""
    said = [Predictions.load(trial.fold_predictions(fold)) for trial in trials]
    seen = view(members, said, labels, clips, columns)
    fold_of = np.full(len(seen.clip_ids), fold)
    return replace(seen, fold=fold_of, epochs=_epochs(trials, fold, labels))


def _epochs(
    trials: Sequence[TrialDir], fold: int | None, labels: LabelKind
) -> tuple[dict[int, np.ndarray], ...] | None:
    """Per member the test part's scores after the epochs that were asked for."""
    epochs = tuple(
        {epoch: answer(Predictions.load(path), labels)
         for epoch, path in trial.snapshots_predicted(fold).items()}
        for trial in trials
    )  # fmt: skip
    return epochs if any(epochs) else None
