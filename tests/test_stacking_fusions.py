"""Fusions of fusions: meta-learners over what other meta-learners say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stacked
from stacked import fails, fitted, in_folds

from orchestrator.members.seen import Members
from orchestrator.plan.stage import Manner
from orchestrator.stacking.families import learner, load_learner
from orchestrator.stacking.wrappers.chosen import OverChosen


def part(name: str, places: list[int], by: str | None, **settings: Any) -> dict[str, Any]:
    manner = {"by_fold": False, "pool": "clips", "events_of": None, "parts": []}
    return {"name": name, "places": places, "learner": by, "settings": settings, "manner": manner}


def test_a_vote_over_votes_is_composed_by_hand(tmp_path: Path) -> None:
    members, targets = stacked.noisy(0, members=5, kind="class")
    manner = Manner(parts=(part("x", [0], None), part("y", [1], None),
                           part("z", [2, 3, 4], "vote")))  # fmt: skip
    found = fitted("vote", (members, targets), manner)
    inner = fitted("vote", (members.only([2, 3, 4]), targets)).predict(members.only([2, 3, 4]))
    scores = np.stack([members.scores[:, 0], members.scores[:, 1], inner], axis=1)
    outer = stacked.members_of(scores)
    expected = fitted("vote", (outer, targets)).predict(outer)
    np.testing.assert_allclose(found.predict(members), expected)
    found.save(tmp_path)
    np.testing.assert_array_equal(load_learner(tmp_path).predict(members), found.predict(members))


def test_an_inner_learner_never_shows_the_outer_one_rows_that_fitted_it() -> None:
    """The inner one here remembers its rows: what it says of them would fool the outer one."""
    members, targets = stacked.noisy(0, 4.0, members=3, clips=300)
    lone = stacked.noisy(0, 1.0, members=1, clips=300)[0].scores
    scores = np.concatenate([lone, members.scores], axis=1)
    data = (stacked.members_of(scores), targets)
    trees = {"max_depth": 6, "n_estimators": 200, "learning_rate": 0.5, "statistics": False}
    manner = Manner(parts=(part("good", [0], None), part("greedy", [1, 2, 3], "boosting", **trees)))
    weights = fitted("simplex", data, manner).inner.weights()["members"]  # type: ignore[attr-defined]
    assert weights[0] > 0.8


def test_snapshots_below_a_fusion_are_asked_for_by_place() -> None:
    members, targets = stacked.epochs(0)
    assert members.epochs is not None
    three = replace(members, names=("a", "b", "c"), scores=np.repeat(members.scores, 3, axis=1),
                    epochs=members.epochs * 3)  # fmt: skip
    manner = Manner(parts=(part("a", [0], None), part("s", [2], "snapshot_vote", count=3)))
    found = fitted("mean", (three, targets), manner)
    assert set(found.snapshots()) == {(2, None)}
    assert len(found.snapshots()[2, None]) == 3
    # A member without epochs (a table, an estimator) stands beside it, but not below it.
    mixed = replace(three, epochs=(None, None, members.epochs[0]))
    some = fitted("mean", (mixed, targets), manner)
    np.testing.assert_array_equal(some.predict(mixed), found.predict(three))
    below = Manner(parts=(part("a", [0], None), part("s", [1], "snapshot_vote", count=3)))
    fails("mean", (mixed, targets), "epoch_scores", below)


def test_frames_of_parts_are_fused_too() -> None:
    members, targets = stacked.timed(0, members=3, level=0.9)
    manner = Manner(parts=(part("x", [0], None), part("y", [1, 2], "mean")))
    found = fitted("mean", (members, targets), manner)
    frames = found.fused_frames(members)
    assert frames is not None
    assert members.frames is not None
    first, second, third = (one[0] for one in members.frames)
    np.testing.assert_allclose(frames[0], (first + (second + third) / 2) / 2)


def test_what_takes_frames_is_not_fitted_over_fusions_and_says_why() -> None:
    parts = (part("x", [0], None), part("y", [1, 2], "mean"))
    data = stacked.timed(0, members=3, level=0.9)
    fails("exact_events", data, "over fusions, which speak of clips", Manner(parts=parts))
    manner = Manner(parts=parts, pool="frame_vote")
    fails("mean", data, "over fusions, which speak of clips", manner)


def test_parts_by_fold_of_members_with_other_hops_lie_at_the_finest() -> None:
    members, targets = in_folds(stacked.timed(0, members=3, level=0.9))
    assert members.frames is not None
    coarse = tuple(tuple(clip[::2] for clip in one) for one in members.frames[1:])
    seen = replace(members, frames=(members.frames[0], *coarse), frame_hops=(0.1, 0.2, 0.2))
    inner = {**part("y", [1, 2], "mean"), "manner": {**part("y", [], None)["manner"],
                                                     "by_fold": True}}  # fmt: skip
    manner = Manner(folds_predict=True, parts=(part("x", [0], None), inner))
    found = fitted("mean", (seen, targets), manner)
    of_folds = tuple(replace(seen, fold=np.full(len(targets.folds), f)) for f in range(3))
    frames = found.fused_frames(replace(seen, fold=None, of_folds=of_folds))
    assert frames is not None
    assert {len(clip) for clip in frames} == {100}
    held = np.repeat(coarse[0][0], 2, axis=0), np.repeat(coarse[1][0], 2, axis=0)
    np.testing.assert_allclose(frames[0], (members.frames[0][0] + sum(held) / 2) / 2)


def test_a_fusion_over_embeddings_and_statistics_says_what_it_takes() -> None:
    below = Manner(parts=(part("x", [0], None), part("e", [0, 1], "svm_embeddings")))
    assert learner("mean", None, below).one_model
    trees = Manner(parts=(part("x", [0], None), part("t", [0, 1], "boosting")))
    assert "columns" in learner("mean", None, trees).uses


def test_a_gate_shows_its_member_under_chosen_members() -> None:
    members, _ = stacked.timed(0, members=3)
    gated = OverChosen(learner("k_of_n", None, Manner(events_of=1)), [0, 1, 2], 3)
    assert gated.sees(members).names == ("member1",)


def test_of_each_fold_the_whole_composition_is_fitted() -> None:
    members, targets = in_folds(stacked.noisy(0, members=3))
    manner = Manner(by_fold=True, parts=(part("x", [0], None), part("y", [1, 2], "mean")))
    found = fitted("simplex", (members, targets), manner)
    seen = members.scores[:, 0], members.scores[:, 1:].mean(axis=1)
    outer: Members = replace(members, names=("x", "y"), scores=np.stack(seen, axis=1))
    expected = fitted("simplex", (outer, targets), Manner(by_fold=True)).predict(outer)
    np.testing.assert_allclose(found.predict(members), expected)
