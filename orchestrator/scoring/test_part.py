"""Each test part is scored once, as its kind of labels asks, through the one door to its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.members.rows import OutOfFold
from orchestrator.members.seen import Members
from orchestrator.runs.counts import save_counts, sizes
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.candidates import (
    Candidate,
    final_models,
    fitted_on_test,
    meta_learners,
    trivial_row,
)
from orchestrator.scoring.examples import choose_examples
from orchestrator.scoring.ledger import open_test_labels
from orchestrator.scoring.score import score
from orchestrator.scoring.submission import submit
from orchestrator.scoring.test_rows import test_rows
from systems import data
from systems.data.dataset import Dataset, LabelKind
from systems.data.prepare import Sound
from systems.data.subsets import subset_rows
from systems.kinds import kind

NOTHING: dict[str, Any] = {"part": None, "label_kind": "none", "openings": 0, "clips": 0,
                           "groups": 0, "rare": {}, "rows": [], "examples": []}  # fmt: skip


def score_test_once(
    run: RunDir, dataset: Dataset, store: Sound, rows: OutOfFold,
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Score final models, the paper's decision variants and the meta-learners, in one opening of
    each test part. For one whose labels are withheld, write what its organisers score.

    Does nothing where scores.json is there.
    """
    plan = run.plan
    if run.scores.exists():
        return
    if not plan.test_parts:
        write_json(run.scores, {**NOTHING, "further": [], "submissions": []})
        return
    test = test_rows(plan, dataset, rows, columns)
    answer = _answered(dataset, rows)
    candidates = [*final_models(plan, rows), *meta_learners(run, test, answer)]
    trivial = trivial_row(plan, rows, test)
    found, submissions = [], []
    for part in plan.test_parts:
        mine = {clip.clip_id for clip in dataset.part(part)}
        places = np.array([row for row, i in enumerate(test.clip_ids) if i in mine], dtype=int)
        if dataset.withholds(part):
            found.append({**NOTHING, "part": part, "label_kind": "withheld", "clips": len(places)})
            submissions += submit(run, dataset, part, candidates, places)
            continue
        scored, candidates = _score_part(
            run, dataset, store, part, test, places, candidates, trivial
        )
        found.append(scored)
    first, *further = found
    write_json(run.scores, {**first, "further": further, "submissions": submissions})


def _answered(dataset: Dataset, rows: OutOfFold) -> LabelKind:
    """The kind of labels that predictions answer: the main test part's, or else of what trains."""
    kinds = [dataset.label_kind(part) for part in dataset.test_parts if not dataset.withholds(part)]
    return kinds[0] if kinds else rows.targets.kind


def _score_part(
    run: RunDir, dataset: Dataset, store: Sound, part: str, test: Members,
    places: np.ndarray, candidates: Sequence[Candidate], trivial: Candidate | None,
) -> tuple[dict[str, Any], list[Candidate]]:  # fmt: skip
    """The scores of one part, and the candidates, which a paper may have fitted on it."""
    plan, members = run.plan, test.rows(places)
    names = [candidate.in_ledger(plan) for candidate in candidates]
    labels, openings = open_test_labels(run, dataset, part, store.digest, names)
    truth = kind(labels.kind).truth(labels, members.clip_ids, plan.classes)
    main = part == plan.test_parts[0]
    if plan.stage.fitted_on == "test" and main:
        candidates = fitted_on_test(run, test, members, truth, candidates)
    subsets = subset_rows(
        getattr(data.reader(plan.dataset), "SUBSETS", {}), dataset, labels, members.clip_ids
    )
    said = [candidate.predictions.rows(places) for candidate in candidates]
    group_of = {clip.clip_id: clip.group for clip in dataset.part(part)}
    groups = [group_of[clip_id] for clip_id in members.clip_ids]
    scores = [score(one, truth, plan.metric, groups, subsets) for one in said]
    scored = [{**c.about, **s.to_json()} for c, s in zip(candidates, scores, strict=True)]
    counts = run.test_counts if main else run.further_counts(part)
    save_counts(counts, members.clip_ids, groups, scored, [one.counts for one in scores])
    if trivial is not None:
        nothing = trivial.predictions.rows(places)
        if all(one.events is None for one in said):  # it stands beside what the models say
            nothing = replace(nothing, events=None)
        own = score(nothing, truth, plan.metric, groups, subsets)
        scored.append({**trivial.about, **own.to_json()})
    found = {"part": part, "label_kind": labels.kind, "openings": openings,
             **sizes(truth, groups), "rows": scored, "examples": []}  # fmt: skip
    if main:
        found["examples"] = choose_examples(
            said[0], truth, scores[0].counts, store, run.path / "examples"
        )
    return found, list(candidates)
