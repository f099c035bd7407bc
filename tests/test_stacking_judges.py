"""Meta-learners against outside judges: the libraries' own, sed_eval, brute force."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacked
from scipy.special import logit, softmax
from scipy.stats import percentileofscore

from orchestrator.members.seen import Targets, as_rows
from orchestrator.stacking.families import learner, learners
from orchestrator.stacking.learners.bounds import bent, best_thresholds
from orchestrator.stacking.learners.event_thresholds import Curves, GeneticJoint, Joint, worth_of
from orchestrator.stacking.learners.selection import Hits, MacroF1, Plain, Rounds, select
from orchestrator.stacking.learners.simplex import least_loss
from orchestrator.stacking.learners.support_vectors import load_trusted
from orchestrator.stacking.learners.thresholds import Ranked
from systems.data.dataset import Event
from systems.data.splits import cross_fitting_folds
from systems.errors import UserError
from systems.metrics.curves import Frames, event_curve
from systems.metrics.events import event_counts
from systems.metrics.segments import segment_counts, segment_scores, segment_targets
from systems.metrics.tagging import class_f1, macro_f1, tag_counts
from systems.postprocessing.decoding import Decoding, decode


def fitted(name: str, data: stacked.Set, seed: int = 0, **settings: Any) -> Any:
    found = learner(name, learners()[name].Settings(**settings))
    found.fit(*data, seed)
    return found


# Thresholds


def exhaustive(targets: np.ndarray, scores: np.ndarray) -> float:
    """The macro F1 separates over classes, and only the scores themselves can be bounds."""
    best = [
        max(class_f1(targets[:, [k]], scores[:, [k]], b)[0] for b in [-1.0, *scores[:, k]])
        for k in range(targets.shape[1])
    ]
    return float(np.mean(best))


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
    reached = macro_f1(targets.values, fitted("genetic", (members, targets), seed).predict(members))
    assert 0.995 * exact <= reached <= exact + 1e-12


@pytest.mark.parametrize("name", ["genetic", "differential"])
def test_coupled_classes_need_the_search(name: str) -> None:
    """The micro F1's thresholds are not the macro F1's: one class here is rare and hard."""
    members, targets = stacked.noisy(3, [1.0, 1.0], members=2, clips=500)
    r = np.random.default_rng(0)
    targets.values[:, 0] = r.random(500) < 0.06  # unlike its scores
    mean = members.scores.mean(axis=1)
    ranked = Ranked(mean, targets.values)
    macro = ranked.worth(best_thresholds(mean, targets.values), "micro_f1")
    micro = fitted(name, (members, targets), objective="micro_f1")
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


# Events


def random_clips(r: np.random.Generator) -> tuple[list[np.ndarray], list[Any], float]:
    frames = int(r.integers(5, 50))
    digits = int(r.choice([1, 2, 6]))
    scores = [np.convolve(r.random(frames), np.ones(3) / 3, "same").round(digits) for _ in range(3)]
    length = frames * 0.05 - float(r.choice([0, 0.02]))
    events = [[(a, a + b) for a, b in zip(r.random(n) * length, r.random(n) + 0.01, strict=True)]
              for n in r.integers(0, 4, 3)]  # fmt: skip
    return scores, events, length


def test_event_curves_are_sed_evals_counts_at_every_threshold() -> None:
    r = np.random.default_rng(0)
    for _ in range(60):
        scores, events, length = random_clips(r)
        gap, shortest = float(r.choice([0, 0.1, 0.2])), float(r.choice([0, 0.1, 0.3]))
        curve = event_curve(Frames.of(scores, 0.05, [length] * 3, events), gap, shortest)
        truth = {str(n): tuple(Event(*t, "a") for t in events[n]) for n in range(3)}
        for threshold in (0.0, 0.3, *r.random(2)):
            decoding = Decoding((threshold,), (1,), (gap,), (shortest,))
            found = {str(n): decode(scores[n][:, None], decoding, ("a",), 0.05, length)
                     for n in range(3)}  # fmt: skip
            expected = event_counts(truth, found, ("a",)).sum(axis=0)[0]
            assert curve.at(threshold) == tuple(expected)


def test_event_curves_are_those_of_sed_scores_eval() -> None:
    collar = pytest.importorskip("sed_scores_eval.collar_based")
    frame = pytest.importorskip("sed_scores_eval.base_modules.scores").create_score_dataframe
    members, targets = stacked.timed(0, clips=12, members=1)
    assert members.frames is not None
    assert targets.events is not None
    times = np.round(np.arange(101) * 0.1, 6)
    scores = {i: frame(f, times, list(members.classes))
              for i, f in zip(members.clip_ids, members.frames[0], strict=True)}  # fmt: skip
    truth = {i: [tuple(e) for e in clip]
             for i, clip in zip(members.clip_ids, targets.events, strict=True)}  # fmt: skip
    best = collar.best_fscore(
        scores, truth, onset_collar=0.2, offset_collar=0.2, offset_collar_rate=0.2
    )[0]
    curves = Curves(members, targets, [(1, 0.0, 0.0)])
    for k, name in enumerate(members.classes):
        assert curves.of(k, 0).best()[1] == pytest.approx(best[name], abs=1e-9)


def test_exact_event_thresholds_are_the_exhaustive_optimum() -> None:
    members, targets = stacked.timed(1, clips=6, seconds=4.0, members=1, level=0.2)
    found = fitted("exact_events", (members, targets), medians=(1, 3), gaps=(0.0, 0.3))
    assert members.frames is not None
    assert targets.events is not None
    truth = dict(zip(members.clip_ids, targets.events, strict=True))
    pooled = np.concatenate(members.frames[0])
    for k, name in enumerate(members.classes):
        best = 0.0
        levels = np.unique(pooled[:, k].round(9))
        for threshold, median, gap in itertools.product(levels[::4], (1, 3), (0.0, 0.3)):
            best = max(best, f1_of(members, truth, k, threshold, median, gap))
        d = found.decoding
        reached = f1_of(members, truth, k, d.thresholds[k], d.medians[k], d.gaps[k])
        assert reached >= best - 1e-12, name


def test_the_front_holds_the_best_threshold_of_every_measure_that_wants_hits() -> None:
    r = np.random.default_rng(2)
    for _ in range(20):
        scores, events, length = random_clips(r)
        curve = event_curve(Frames.of(scores, 0.05, [length] * 3, events))
        front = curve.front()
        for weight in (0.1, 0.5, 1.0, 3.0):
            every = max([0.0, *(curve.hits - weight * (curve.found - curve.hits))])
            assert (front.counts[:, 0] - weight * front.counts[:, 1]).max() == pytest.approx(every)
        for threshold, counts in zip(front.thresholds, front.counts, strict=True):
            assert curve.at(threshold) == tuple(counts)


def f1_of(members: Any, truth: Any, k: int, threshold: float, median: int, gap: float) -> float:
    name = members.classes[k]
    decoding = Decoding((threshold,), (median,), (gap,))
    events = {
        i: decode(f[:, [k]], decoding, (name,), members.frame_hops[0], s)
        for i, f, s in zip(members.clip_ids, members.frames[0], members.durations, strict=True)
    }
    own = {i: tuple(e for e in clip if e.label == name) for i, clip in truth.items()}
    tp, fp, fn = event_counts(own, events, (name,)).sum(axis=(0, 1))
    return float(2 * tp / max(1, 2 * tp + fp + fn))


@pytest.mark.parametrize("objective", ["event_f1", "event_micro_f1", "event_er"])
def test_the_joint_search_is_never_worse_than_where_it_begins(objective: Any) -> None:
    members, targets = stacked.timed(2, flicker=0.05, level=0.4, clips=15)
    settings = GeneticJoint(objective=objective)
    joint = Joint(Curves(members, targets, settings.options()), objective)
    found = fitted("genetic_events", (members, targets), objective=objective)
    assert targets.events is not None
    truth = dict(zip(members.clip_ids, targets.events, strict=True))
    events = dict(zip(members.clip_ids, found.events(members), strict=True))
    reached = worth_of(event_counts(truth, events, members.classes), objective)
    assert reached >= joint.worth(joint.first) - 1e-12


def test_segments_are_sed_evals() -> None:
    r = np.random.default_rng(1)
    for _ in range(20):
        length = float(r.choice([3.0, 3.7]))
        frames = r.random((round(length / 0.1), 2)).round(2)
        events = tuple(sorted(Event(a, min(a + b, length), "ab"[int(k)]) for a, b, k in
                              zip(r.random(3) * 3, r.random(3) + 0.05, r.integers(0, 2, 3),
                                  strict=True)))  # fmt: skip
        decided = decode(frames, Decoding((0.8, 0.8), (1, 1)), ("a", "b"), 0.1, length)
        counts = segment_counts({"x": events}, {"x": decided}, ("a", "b"))[0]
        ours = tag_counts(segment_targets(events, length, ("a", "b")),
                          (segment_scores(frames, 0.1, length) > 0.8).astype(float))  # fmt: skip
        assert ours.sum(axis=0).tolist() == counts.tolist()


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


# Trees, machines, series


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


class Foreign:
    """What no machine of ours is made of."""


def test_a_foreign_file_of_machines_is_refused(tmp_path: Path) -> None:
    import skops.io

    path = tmp_path / "machines.skops"
    skops.io.dump([Foreign()], path)
    with pytest.raises(UserError, match="which no model of ours does"):
        load_trusted(path)
    path.write_bytes(b"no file of skops")
    with pytest.raises(UserError, match="cannot be read"):
        load_trusted(path)


def test_series_are_fused_frame_by_frame() -> None:
    r = np.random.default_rng(0)
    truth = tuple(np.cumsum(r.normal(size=(30, 1)), axis=0) for _ in range(20))
    frames = tuple(tuple(t + s * r.normal(size=t.shape) for t in truth) for s in (0.5, 0.5, 4.0))
    members = stacked.members_of(np.zeros((20, 3, 1)), frames=frames, frame_hops=(0.1,) * 3)
    targets = Targets.of(np.zeros((20, 1)), "values", "pcc", series=truth)
    rows = as_rows(members, targets)
    assert rows[0].scores.shape == (600, 3, 1)
    found = fitted("simplex", rows)
    assert found.weights()["members"][2] < 0.1
    series = found.fused_frames(members)
    worth = rows[1].worth(np.concatenate(series))
    assert worth > max(rows[1].worth(rows[0].scores[:, m]) for m in range(3))
