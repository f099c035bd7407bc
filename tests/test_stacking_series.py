"""Stage two of series: rows are the steps of recordings, everything else is by recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stacked
from scipy.optimize import nnls
from stacked import Set, fails, fitted

from orchestrator.members.seen import Members, Targets
from orchestrator.plan.stage import Manner
from orchestrator.stacking.crossfit import cross_fitted, fused, outer_folds
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.judging import judge
from orchestrator.stacking.learner import Learner
from systems.metrics import metric

LENGTHS = (40, 7, 90, 25, 60, 33, 12, 51)
POINTWISE = ("mean", "dirichlet", "simplex", "simplex_optuna", "fold_weights", "selection")


def recordings(
    seed: int = 0, noise: tuple[float, ...] = (0.4, 0.6, 2.0), outputs: int = 2,
    lengths: tuple[int, ...] = LENGTHS, scales: tuple[float, ...] = (),
) -> Set:  # fmt: skip
    """Members with independent noise about a slow signal [ΣT, D], each on a scale of its own; the
    first fold has one recording."""
    r = np.random.default_rng(seed)
    waves = [np.sin(np.linspace(0, n / 6, n))[:, None] + r.normal(size=outputs) for n in lengths]
    truth = np.concatenate([w + 0.3 * r.normal(size=(len(w), outputs)) for w in waves])
    size = np.array(noise)[:, None]
    said = truth[:, None] + size * r.normal(size=(len(truth), len(noise), outputs))
    said *= np.array(scales or (1.0,) * len(noise))[:, None]
    ids = tuple(f"recording{i}" for i in range(len(lengths)))
    names = tuple(f"member{m}" for m in range(len(noise)))
    folds = np.array([0, *(1 + np.arange(len(lengths) - 1) % 2)])
    members = Members(names, ids, tuple(f"out{d}" for d in range(outputs)), said, fold=folds,
                      frame_hops=(0.04,) * len(noise), lengths=lengths)  # fmt: skip
    targets = Targets.of(truth, "series", "pcc", lengths=lengths, groups=ids, folds=folds,
                         fold_count=3)  # fmt: skip
    return members, targets


def pcc(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(truth[:, d], said[:, d])[0, 1]
                          for d in range(truth.shape[1])]))  # fmt: skip


def test_some_recordings_keep_all_their_steps() -> None:
    members, targets = recordings()
    some = np.array([6, 1])
    seen, truth = members.rows(some), targets.rows(some)
    first = np.cumsum((0, *LENGTHS))
    steps = np.r_[first[6] : first[7], first[1] : first[2]]
    assert seen.lengths == truth.lengths == (12, 7)
    np.testing.assert_array_equal(seen.scores, members.scores[steps])
    np.testing.assert_array_equal(truth.values, targets.values[steps])
    assert seen.clip_ids == truth.groups == ("recording6", "recording1")
    assert seen.fold.tolist() == truth.folds.tolist() == targets.folds[some].tolist()
    mask = np.isin(np.arange(len(LENGTHS)), some)
    assert members.rows(mask).lengths == (7, 12)


def test_the_worth_is_of_the_steps_of_recordings_that_count() -> None:
    members, targets = recordings()
    judged = np.arange(len(LENGTHS)) % 2 == 0
    weights = np.where(np.arange(len(LENGTHS)) == 2, 0.0, 1.0)
    counted = np.repeat(judged & (weights > 0), LENGTHS)
    said = members.scores[:, 0]
    found = replace(targets, judged=judged, weights=weights).worth(said)
    assert found == pytest.approx(pcc(targets.values[counted], said[counted]))
    assert targets.worth(said) == pytest.approx(pcc(targets.values, said))


@pytest.mark.parametrize("name", POINTWISE)
def test_learners_fuse_series_better_than_members_do(name: str) -> None:
    data, test = recordings(0), recordings(1)
    made = fitted(name, data)
    assert "series" in made.labels
    said = fused(made, replace(test[0], fold=None), "series")
    assert [len(one) for one in said.frame_values or ()] == list(LENGTHS)
    assert (said.clip_scores, said.frame_hop) == (None, 0.04)
    worth = test[1].worth(np.concatenate(said.frame_values))
    single = [test[1].worth(test[0].scores[:, m]) for m in range(3)]
    assert worth > (np.mean(single) if name == "mean" else max(single))


def test_least_squares_are_the_librarys() -> None:
    members, targets = recordings()
    weights = np.arange(1.0, 1 + len(LENGTHS))
    found = fitted("simplex", (members, replace(targets, weights=weights)))
    row = np.sqrt(np.repeat(weights, LENGTHS))[:, None]
    a = (row[:, None] * members.scores).swapaxes(1, 2).reshape(-1, 3)
    b = (row * targets.values).ravel()
    heavy = 1e5  # keeps the sum of the weights at 1
    judged, _ = nnls(np.vstack([a, heavy * np.ones(3)]), np.append(b, heavy))
    np.testing.assert_allclose(found.weights()["members"], judged, atol=2e-3)


def z_scored(members: Members) -> np.ndarray:
    """Each member's values of each recording with mean 0 and variance 1."""
    clips = np.split(members.scores, np.cumsum(members.lengths)[:-1])
    return np.concatenate([(c - c.mean(axis=0)) / c.std(axis=0) for c in clips])


def test_standardised_members_are_weighted_on_one_scale() -> None:
    members, targets = recordings(noise=(0.5, 0.5), scales=(1.0, 500.0))
    plain = fitted("dirichlet", (members, targets), draws=300)
    made = fitted("dirichlet", (members, targets), draws=300, standardise=True)
    z = z_scored(members)
    drawn = np.random.default_rng(0).dirichlet(np.ones(2), 300)
    candidates = [np.full(2, 0.5), *np.eye(2), *drawn]
    worth = [pcc(targets.values, np.einsum("nmk,m->nk", z, w)) for w in candidates]
    best = candidates[int(np.argmax(worth))]
    assert made.weights()["members"] == pytest.approx(list(best))
    np.testing.assert_allclose(made.predict(members), np.einsum("nmk,m->nk", z, best))
    assert plain.weights()["members"][1] < 0.02, "else the loud member is nearly all there is"
    assert 0.3 < best[0] < 0.7


def test_a_member_alone_may_be_the_best_of_standardised_ones() -> None:
    members, targets = recordings(noise=(0.05, 30.0, 30.0))
    made = fitted("dirichlet", (members, targets), draws=50, standardise=True)
    assert made.weights()["members"] == [1.0, 0.0, 0.0]


def test_a_constant_member_is_nothing_when_standardised() -> None:
    members, targets = recordings()
    members.scores[:, 1] = 3.0
    said = fitted("dirichlet", (members, targets), standardise=True).predict(members)
    assert np.isfinite(said).all()


@pytest.mark.parametrize("name", ["dirichlet", "fold_weights"])
def test_clips_of_a_single_row_cannot_be_standardised(name: str) -> None:
    fails(name, stacked.series(0), "standardise", standardise=True)


@pytest.mark.parametrize("standardise", [False, True])
def test_each_fold_has_its_own_weights(standardise: bool) -> None:
    members, targets = recordings()
    made = fitted("fold_weights", (members, targets), standardise=standardise, draws=200)
    said = made.predict(members)
    scores = z_scored(members) if standardise else members.scores
    fold_of = np.repeat(targets.folds, LENGTHS)
    for fold in range(3):
        mine = fold_of == fold
        drawn = np.random.default_rng(0).dirichlet(np.ones(3), 200)
        alone = np.eye(3) if standardise else np.zeros((0, 3))
        candidates = [np.full(3, 1 / 3), *alone, *drawn]
        worth = [pcc(targets.values[mine], np.einsum("nmk,m->nk", scores[mine], w))
                 for w in candidates]  # fmt: skip
        best = candidates[int(np.argmax(worth))]
        np.testing.assert_allclose(said[mine], np.einsum("nmk,m->nk", scores[mine], best))
    assert (fold_of == 0).sum() == LENGTHS[0], "a fold of one recording"


def test_what_folds_predict_is_averaged_over_folds() -> None:
    members, targets = recordings()
    made = fitted("fold_weights", (members, targets), standardise=True)
    models = [recordings(seed)[0] for seed in (3, 4, 5)]
    test = replace(models[0], fold=None, of_folds=tuple(models))
    each = [z_scored(one) for one in models]
    weights = made.state()["by_fold"]
    expected = np.mean(
        [np.einsum("nmk,m->nk", one, w) for one, w in zip(each, weights, strict=True)], axis=0
    )
    np.testing.assert_allclose(made.predict(test), expected)


def test_a_learner_for_each_fold_speaks_of_its_recordings() -> None:
    members, targets = recordings()
    manner = Manner(by_fold=True, folds_predict=True, mean="arithmetic")
    made = fitted("simplex", (members, targets), manner)
    said = made.predict(members)
    for fold in range(3):
        mine = targets.folds == fold
        alone = fitted("simplex", (members.rows(mine), targets.rows(mine)))
        np.testing.assert_allclose(
            said[np.repeat(mine, LENGTHS)], alone.predict(members.rows(mine))
        )


def test_cross_fitting_keeps_recordings_whole() -> None:
    members, targets = recordings()
    fits: list[set[str]] = []

    def fit(some: Members, truth: Targets) -> Learner:
        fits.append(set(some.clip_ids))
        assert some.lengths == truth.lengths
        made = fitted("simplex", (some, truth))
        return made

    said = cross_fitted(fit, members, targets, 0)
    assert said.clip_ids == members.clip_ids
    assert [len(one) for one in said.frame_values or ()] == list(LENGTHS)
    fold_of = outer_folds(targets, 0)
    assert len(fold_of) == len(LENGTHS)
    assert len(fits) == len(set(fold_of)) == 5
    for row, one in enumerate(members.clip_ids):
        others = fold_of != fold_of[row]
        judged = fitted("simplex", (members.rows(others), targets.rows(others)))
        assert one not in fits[fold_of[row]]
        np.testing.assert_allclose(said.frame_values[row],
                                   judged.predict(members.rows(np.array([row]))))  # fmt: skip


def test_a_gain_is_judged_over_recordings() -> None:
    members, targets = recordings()
    ours, theirs = members.scores.mean(axis=1), members.scores[:, 2]
    truth = targets.truth(members.classes)
    found = judge("pcc", truth, ours, theirs)
    assert found.out_of_fold.value == pytest.approx(pcc(targets.values, ours))
    gain = pcc(targets.values, ours) - pcc(targets.values, theirs)
    assert found.versus_best.value == pytest.approx(gain)
    assert metric("pcc").count(truth, ours).shape == (len(LENGTHS), 2, 6)
    r = np.random.default_rng(0)
    steps = np.split(np.arange(sum(LENGTHS)), np.cumsum(LENGTHS)[:-1])
    drawn = []
    for _ in range(400):
        rows = np.concatenate([steps[i] for i in r.integers(len(LENGTHS), size=len(LENGTHS))])
        drawn.append(pcc(targets.values[rows], theirs[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    interval = metric("pcc").interval(metric("pcc").count(truth, theirs), None)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05)


def test_a_learner_of_series_is_kept(tmp_path: Path) -> None:
    members, targets = recordings()
    made = fitted("fold_weights", (members, targets), standardise=True)
    made.save(tmp_path)
    again = load_learner(tmp_path)
    np.testing.assert_array_equal(again.predict(members), made.predict(members))
