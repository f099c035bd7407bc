"""Labels that hang on few groups: no learner reads the folds' levels as skill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacked
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score
from stacked import Set

from orchestrator.members.seen import Targets
from orchestrator.plan.stage import Manner
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner, learners, load_learner
from orchestrator.stacking.learner import Learner
from systems.data.stratify import stratified_groups

CLIPS = 120


def by_group(seed: int, kind: str = "tags", groups: int = 10, follows: float = 1.0) -> Set:
    """Labels of the group alone; members say the share that their fold trained on, and noise.

    ``follows``: how far they follow it; 0: they say noise alone.
    """
    r = np.random.default_rng(seed)
    group = np.arange(CLIPS) % groups
    some = np.eye(3)[r.integers(3, size=groups)] if kind == "class" else r.random((groups, 3)) < 0.5
    truth = some[group].astype(float)
    names = tuple(f"g{g}" for g in group)
    fold = stratified_groups(truth, names, 5, seed)
    share = np.stack([truth[fold != f].mean(axis=0) for f in fold]).clip(0.02, 0.98)
    odds = follows * np.log(share / (1 - share)) if kind == "tags" else follows * np.log(share)
    raw = odds[:, None] + 0.3 * r.normal(size=(CLIPS, 3, 3))
    scores = softmax(raw, axis=2) if kind == "class" else expit(raw)
    targets = Targets.of(truth, "class" if kind == "class" else "tags", "clip_auc", groups=names,
                         folds=fold, fold_count=5)  # fmt: skip
    return stacked.members_of(scores, fold=fold, labels=targets.kind), targets


def auc_of(made: Learner, data: Set, seed: int) -> float:
    """Out of fold, mean over the classes that some groups have."""
    members, targets = data

    def fit(some: Any, truth: Targets) -> Learner:
        made.fit(some, truth, seed)
        return made

    said = cross_fitted(fit, members, targets, seed).clip_scores
    assert said is not None
    known = [k for k in range(3) if 0 < targets.values[:, k].mean() < 1]
    return float(np.mean([roc_auc_score(targets.values[:, k], said[:, k]) for k in known]))


CASES = [("logreg", "tags"), ("fusion_layer", "tags"), ("svm", "tags"),
         ("logreg_multinomial", "class"), ("multiclass_calibration", "class"),
         ("fusion_layer", "class")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("follows", [0.0, 1.0])
def test_nothing_is_read_from_the_folds(name: str, kind: str, follows: float) -> None:
    values = [auc_of(learner(name, None, Manner()), by_group(seed, kind, follows=follows), seed)
              for seed in range(5)]  # fmt: skip
    # Chance lies below 0.5: who learns on the others' labels says less where there are more.
    assert np.mean(values) < 0.52, values


def test_without_levels_it_would_be_skill() -> None:
    values = [auc_of(learner("fusion_layer"), by_group(seed), seed) for seed in range(8)]
    assert np.mean(values) > 0.55


def test_every_learner_that_may_turn_a_member_is_levelled() -> None:
    """A member that says the opposite is of use to it, and to no other."""
    members, targets = stacked.noisy(0, 1.0, clips=150, members=2, classes=3)
    around = replace(members, scores=1 - members.scores, columns=None)
    for name, one in learners().items():
        if one.takes != ("clip_scores",) or "tags" not in one.labels or not one.general:
            continue
        if one.betters_one in ("thresholds", "ranks"):  # of one order of the scores
            assert not one.turns
            continue
        made = learner(name)
        made.fit(around, targets, 0)
        auc = roc_auc_score(targets.values, made.predict(around), average="macro")
        assert one.turns == (auc > 0.6), (name, auc)


def test_good_members_stay_good_and_folds_with_more_stay_higher(tmp_path: Path) -> None:
    data = stacked.noisy(0, 1.0, clips=300)
    order = np.argsort(-data[1].values[:, 0] + 0.8 * np.random.default_rng(0).random(300))
    fold = np.empty(300, int)
    fold[order] = np.arange(300) // 60  # the first has most of class 0
    members, targets = replace(data[0], fold=fold), replace(data[1], folds=fold, fold_count=5)
    plain, levelled = learner("logreg"), learner("logreg", None, Manner())
    for made in (plain, levelled):
        made.fit(members, targets, 0)
    aucs = [roc_auc_score(targets.values[:, 0], made.predict(members)[:, 0])
            for made in (plain, levelled)]  # fmt: skip
    assert aucs[1] == pytest.approx(aucs[0], abs=0.01)
    new = replace(members, fold=None)  # what is of no fold is seen as it is
    levelled.save(tmp_path)
    again = load_learner(tmp_path)
    np.testing.assert_array_equal(again.predict(new), levelled.predict(new))
    np.testing.assert_allclose(levelled.predict(new), levelled.predict(members), atol=0.2)
