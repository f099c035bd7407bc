"""Over exact copies of one member a learner is that member, or says what betters a single one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import stacked
from stacked import Set

from orchestrator.members.seen import Targets, answer
from orchestrator.plan.stage import Manner
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner, learners
from orchestrator.stacking.learner import Learner
from systems.kinds import KINDS

PLACES = [0, 0, 0]  # the one member three times
# A setting that makes a learner better a single member, and labels that show it.
SETTINGS: dict[str, Any] = {
    "class_weights": ("class", {"by": "precision"}),
    "dirichlet": ("series", {"draws": 20, "standardise": True}),
}
FAST: dict[str, Any] = {
    "simplex_optuna": {"trials": 10}, "dirichlet": {"draws": 50}, "selection": {"rounds": 20},
    "domain_choice": {"column": "domain"}, "fold_weights": {"draws": 50},
}  # fmt: skip


@cache
def of_kind(kind: str) -> Set:
    """One good member three times, whose scores lie where thresholds, say, could better it."""
    r = np.random.default_rng(3)
    if kind == "events":
        members, targets = stacked.timed(0, clips=20, members=1)
    elif kind == "values":
        members, targets = stacked.series(0, (0.6,))
    elif kind == "series":
        values = np.concatenate([r.normal(m, 1, size=(12, 2)) for m in range(30)])
        noise = values[:, None] + 0.5 * r.normal(size=(360, 1, 2))
        members = replace(stacked.members_of(noise), lengths=(12,) * 30, labels="series",
                          clip_ids=tuple(f"clip{n}" for n in range(30)))  # fmt: skip
        targets = Targets.of(values, "series", "pcc", lengths=(12,) * 30)
    elif kind == "relevance":
        truth = np.eye(8)[r.integers(8, size=120)]
        members = stacked.members_of(truth[:, None] + r.normal(size=(120, 1, 8)))
        targets = Targets.of(truth, "relevance", "mrr")
    else:
        members, targets = stacked.noisy(0, clips=160, members=1, kind=kind)
        low = members.scores**3
        members = replace(
            members, scores=low / low.sum(axis=2, keepdims=True) if kind == "class" else low
        )
    count = len(targets.folds)
    mixed = r.normal(size=(count, 6))
    scores = members.scores[:, 0]
    epochs = {e: np.clip(scores + 0.1 * r.normal(size=scores.shape), 0, 1) for e in range(1, 6)}
    members = replace(
        members, epochs=({**epochs, 6: scores},), embeddings=(mixed,),
        frame_embeddings=(tuple(r.normal(size=(12, 3)) for _ in range(count)),),
        columns=r.normal(size=(count, 4)), about=tuple({"domain": "ab"[n % 2]}
                                                       for n in range(count)),
        labels=targets.kind, frame_hops=members.frame_hops or (0.1,),
    )  # fmt: skip
    folds = np.arange(count) % 3
    return replace(members.only(PLACES), fold=folds), replace(targets, folds=folds, fold_count=3)


CASES = [(name, kind) for name, one in learners().items() for kind in one.labels]


def is_the_member(made: Learner, data: Set, seed: int = 0) -> bool:
    """Whether its cross-fitted decisions (or values) are the member's own."""
    members, targets = data

    def fit(some: Any, truth: Targets) -> Learner:
        made.fit(some, truth, seed)
        return made

    crossed = cross_fitted(fit, members, targets, seed)
    if made.judged_by is not None:
        return crossed.events == members.events_of(0)
    said, own = answer(crossed, targets.kind), members.scores[:, 0]
    decide = KINDS[targets.kind].decide
    if decide is None:
        return bool(np.allclose(said, own))
    return bool((decide(said) == decide(own)).all())


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_copies_are_the_member_or_what_betters_one_is_named(name: str, kind: str) -> None:
    made = learner(name, learners()[name].Settings(**FAST.get(name, {})))
    assert made.betters_one or is_the_member(made, of_kind(kind)), made.title


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_betters_one_member_is_named(name: str) -> None:
    kind, settings = SETTINGS[name]
    made = learner(name, learners()[name].Settings(**settings))
    assert made.betters_one
    assert not is_the_member(made, of_kind(kind))
    plain = learner(name, learners()[name].Settings(**FAST.get(name, {})))
    assert not plain.betters_one


def test_wrappers_say_what_they_add() -> None:
    pooled = learner("mean", None, Manner(pool="frame_mean"))
    assert pooled.betters_one
    assert not learner("mean", None, Manner()).betters_one
    assert learner("exact", None, Manner(by_fold=True)).betters_one
