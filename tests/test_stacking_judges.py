"""Meta-learners against outside judges: the libraries' own, sed_eval, brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import stacked
from scipy.special import logit, softmax
from scipy.stats import percentileofscore
from stacked import fitted

from orchestrator.members.seen import Targets
from orchestrator.stacking.learners.bounds import bent, best_thresholds
from orchestrator.stacking.learners.selection import Hits, MacroF1, Plain, Rounds, select
from orchestrator.stacking.learners.simplex import least_loss
from orchestrator.stacking.learners.thresholds import Ranked
from systems.data.stratify import cross_fitting_folds
from systems.errors import UserError
from systems.metrics.tagging import class_f1, macro_f1, tag_counts

# Thresholds


def exhaustive(targets: np.ndarray, scores: np.ndarray) -> float:
    """The macro F1 separates over classes, and only the scores themselves can be bounds; a class
    that no clip has is in no mean."""
    best = [
        max(class_f1(targets[:, [k]], scores[:, [k]], b)[0] for b in [-1.0, *scores[:, k]])
        for k in range(targets.shape[1])
    ]
    return float(np.nanmean(best))  # a class that no clip has is in no mean


@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("seed", range(4))
def test_exact_thresholds_are_the_exhaustive_optimum(seed: int, digits: int) -> None:
    members, targets = stacked.noisy(seed, 2.5, clips=80)
    scores = members.scores[:, 0].round(digits)  # few digits: many ties
    targets.values[:, 1] = 0
    thresholds = best_thresholds(scores, targets.values)
    reached = macro_f1(targets.values, bent(scores, thresholds))
    assert reached == pytest.approx(exhaustive(targets.values, scores), abs=1e-12)
    assert ((bent(scores, thresholds) > 0.5) == (scores > thresholds)).all()
    assert thresholds[1] == 0.5


def test_bent_scores_decide_at_one_half_and_keep_their_order() -> None:
    grid = np.stack([np.linspace(0, 1, 101)] * 2, axis=1)
    found = bent(grid, np.array([0.2, 0.9]))
    assert ((found > 0.5) == (grid > [0.2, 0.9])).all()
    assert (np.diff(found, axis=0) > 0).all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_the_genetic_search_comes_within_half_a_percent_of_the_exact_optimum(seed: int) -> None:
    members, targets = stacked.high_bounds(seed)
    mean = members.scores.mean(axis=1)
    exact = macro_f1(targets.values, bent(mean, best_thresholds(mean, targets.values)))
    reached = macro_f1(
        targets.values, fitted("genetic", (members, targets), seed=seed).predict(members)
    )
    assert 0.995 * exact <= reached <= exact + 1e-12


def test_coupled_classes_need_the_search() -> None:
    """The micro F1's thresholds are not the macro F1's: one class here is rare and hard."""
    members, targets = stacked.noisy(3, [1.0, 1.0], members=2, clips=500)
    r = np.random.default_rng(0)
    targets.values[:, 0] = r.random(500) < 0.06  # unlike its scores
    mean = members.scores.mean(axis=1)
    ranked = Ranked(mean, targets.values)
    macro = ranked.worth(best_thresholds(mean, targets.values), "micro_f1")
    micro = fitted("genetic", (members, targets), objective="micro_f1")
    assert ranked.worth(micro.thresholds, "micro_f1") > macro + 0.01


def test_ranked_counts_are_those_of_the_decisions() -> None:
    members, targets = stacked.noisy(0, clips=50)
    mean = members.scores.mean(axis=1).round(1)
    ranked = Ranked(mean, targets.values)
    for genes in np.random.default_rng(0).random((50, 5)):
        thresholds = ranked.thresholds(genes)
        counts = tag_counts(targets.values, mean > thresholds).sum(axis=(0, 1))
        micro = 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])
        assert ranked.worth(thresholds, "micro_f1") == pytest.approx(micro)
        assert ranked.worth(thresholds, "macro_f1") == pytest.approx(
            np.mean([class_f1(targets.values[:, [k]], mean[:, [k]], thresholds[k])[0]
                     for k in range(5)]))  # fmt: skip


# Regressions


def test_logistic_regression_per_class_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    members, targets = stacked.miscalibrated(0)
    predicted = fitted("logreg", (members, targets)).predict(members)
    for k in range(5):
        x = logit(np.clip(members.scores[:, :, k], 1e-4, 1 - 1e-4))
        judge = LogisticRegression(tol=1e-10, max_iter=1000).fit(x, targets.values[:, k])
        np.testing.assert_allclose(predicted[:, k], judge.predict_proba(x)[:, 1], atol=1e-6)


def test_regressions_on_all_columns_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    members, targets = stacked.noisy(0, kind="class", clips=300)
    x, y = members.scores.reshape(300, -1), targets.values.argmax(axis=1)
    plain: dict[str, Any] = {"tol": 1e-8, "max_iter": 5000}
    judges = {
        "logreg_multinomial": LogisticRegression(class_weight="balanced", **plain),
        "logreg_pca": make_pipeline(PCA(7), LogisticRegression(C=4, **plain)),
    }
    for name, judge in judges.items():
        more = {"components": 7, "folds": 1} if name == "logreg_pca" else {}
        ours = fitted(name, (members, targets), **more).predict(members)
        np.testing.assert_allclose(ours, judge.fit(x, y).predict_proba(x), atol=1e-4)


def test_the_regression_after_pca_is_the_mean_of_fits_without_each_fold() -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    members, targets = stacked.noisy(0, kind="class", clips=300)
    x, y = members.scores.reshape(300, -1), targets.values.argmax(axis=1)
    fold_of = cross_fitting_folds(targets.values, targets.groups, 0)
    judges = [
        make_pipeline(PCA(7), LogisticRegression(C=4, tol=1e-8, max_iter=5000))
        .fit(x[fold_of != fold], y[fold_of != fold]).predict_proba(x)
        for fold in range(5)
    ]  # fmt: skip
    ours = fitted("logreg_pca", (members, targets), components=7).predict(members)
    np.testing.assert_allclose(ours, np.mean(judges, axis=0), atol=1e-4)


def test_an_l1_penalty_leaves_columns_out() -> None:
    data = stacked.one_good(0)
    sparse = fitted("logreg_all", data, penalty="l1", C=0.02)
    assert (np.abs(sparse.coefficients) < 1e-9).mean() > 0.5
    assert (np.abs(fitted("logreg_all", data).coefficients) > 1e-9).all()


def test_calibration_finds_the_optimum_that_torch_finds() -> None:
    import torch

    members, targets = stacked.miscalibrated(1, "class")
    found = fitted("multiclass_calibration", (members, targets))
    inputs = torch.tensor(np.log(np.clip(members.scores, 1e-10, None)))
    truth = torch.tensor(targets.values.argmax(axis=1))
    weight = 1 / torch.bincount(truth)[truth].double()
    a = torch.full((3,), 1 / 3, dtype=torch.double, requires_grad=True)
    b = torch.zeros(5, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([a, b], max_iter=500, tolerance_grad=1e-10,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Any:
        optimiser.zero_grad()
        values = torch.einsum("nmk,m->nk", inputs, a) + b
        each = torch.nn.functional.cross_entropy(values, truth, reduction="none")
        loss = (weight * each).sum() / weight.sum()
        loss = loss + 0.5e-3 * ((a - 1 / 3) ** 2).sum() + 0.5e-6 * (b**2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(found.factors, a.detach().numpy(), atol=1e-3)
    judge = softmax((torch.einsum("nmk,m->nk", inputs, a) + b).detach().numpy(), axis=1)
    np.testing.assert_allclose(found.predict(members), judge, atol=1e-3)


# Weights and selection


@pytest.mark.parametrize("kind", ["tags", "class", "values"])
def test_simplex_weights_are_a_fine_grids_minimum(kind: str) -> None:
    data = stacked.series(0) if kind == "values" else stacked.noisy(
        0, [1.0, 2.0, 5.0], members=3, kind=kind)  # fmt: skip
    members, targets = data
    rows = np.ones(len(targets.values))

    def loss(w: np.ndarray) -> float:
        p = np.einsum("nmk,m->nk", members.scores, w)
        t = targets.values
        if kind == "values":
            return float(((p - t) ** 2).sum(axis=1).mean())
        p = np.clip(p, 1e-7, 1 - 1e-7)
        other = 0.0 if kind == "class" else (1 - t) * np.log(1 - p)
        return float(-(t * np.log(p) + other).sum(axis=1).mean())

    w = least_loss(members.scores, targets.values, rows, kind)
    grid = [np.array([i, j, 100 - i - j]) / 100 for i in range(101) for j in range(101 - i)]
    assert loss(w) <= min(map(loss, grid)) + 1e-9
    assert w.sum() == pytest.approx(1)
    assert w.min() >= 0


@pytest.mark.parametrize("kind", ["tags", "class"])
def test_a_selection_round_is_the_plain_one(kind: str) -> None:
    members, targets = stacked.noisy(0, 2.0, members=5, kind=kind, clips=120)
    for metric in ("accuracy", "uar") if kind == "class" else ("clip_macro_f1",):
        truth = Targets.of(targets.values, targets.kind, metric)
        bag = np.arange(5)
        quick: Any = MacroF1(members.scores, truth.values, bag)
        if kind == "class":
            quick = Hits(members.scores, truth.values, bag, metric == "uar")
        plain = Plain(members.scores, truth)
        for _ in range(30):
            np.testing.assert_allclose(quick.worth(), plain.worth(), atol=1e-12)
            best = int(np.argmax(plain.worth()))
            quick.add(best)
            plain.add(best)


def test_selection_is_greedy_and_reaches_the_best_multiset_of_a_small_case() -> None:
    members, targets = stacked.noisy(4, [1.2, 1.6, 5.0], members=3, clips=150)
    every = [
        targets.worth(members.scores[:, list(some)].mean(axis=1))
        for size in range(1, 5)
        for some in itertools.combinations_with_replacement(range(3), size)
    ]
    picked = select(members.scores, targets, np.arange(3), Rounds(rounds=3, best_prefix=True))
    reached = targets.worth(members.scores[:, picked].mean(axis=1))
    alone = max(targets.worth(members.scores[:, m]) for m in range(3))
    assert alone < reached <= max(every) + 1e-12
    assert reached >= max(every) - 0.01


def test_selection_in_bags_starts_with_the_best() -> None:
    members, targets = stacked.one_good(0)
    bagged = fitted("selection", (members, targets), bags=10, rounds=20)
    assert sum(bagged.weights()["members"][:2]) > 0.6
    started = select(members.scores, targets, np.arange(6), Rounds(rounds=0, start=3))
    worth = [targets.worth(members.scores[:, m]) for m in range(6)]
    assert started == sorted(range(6), key=lambda m: -worth[m])[:3]


def test_rank_averages_are_scipys_percentiles() -> None:
    members, targets = stacked.noisy(0, clips=60, kind="class")
    found = fitted("rank_mean", (members, targets))
    ranks = np.mean([
        [[percentileofscore(members.scores[:, m, k], s, "mean") / 100
          for k, s in enumerate(row)] for row in members.scores[:, m]]
        for m in range(4)
    ], axis=0)  # fmt: skip
    np.testing.assert_allclose(found.predict(members), ranks)


# Trees, machines


def test_boosting_is_xgboosts() -> None:
    import xgboost

    members, targets = stacked.gated(0)
    assert members.columns is not None
    found = fitted("boosting", (members, targets), seed=3)
    x = np.hstack([members.scores.reshape(len(members.scores), -1), members.columns])
    judge = xgboost.XGBClassifier(max_depth=3, learning_rate=0.1, random_state=3, n_jobs=1).fit(
        x, targets.values[:, 2].astype(int)
    )
    np.testing.assert_allclose(found.predict(members)[:, 2], judge.predict_proba(x)[:, 1])
    with pytest.raises(UserError, match="need the 3 clip statistics"):
        found.predict(stacked.members_of(members.scores))


def test_a_support_vector_machine_decides_as_scikit_learns_does() -> None:
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    members, targets = stacked.crossed(0)
    x = StandardScaler().fit_transform(members.scores.reshape(800, -1))
    judge = SVC().fit(x, targets.values[:, 0]).predict(x)
    ours = fitted("svm", (members, targets)).predict(members)[:, 0] > 0.5
    assert (ours == (judge > 0.5)).all()
