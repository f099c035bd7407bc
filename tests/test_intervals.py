"""Intervals and p draw whole groups, hold what they say, and know no class that nothing has."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as judges

from systems.kinds import Truth
from systems.metrics import clip_metric, metric
from systems.metrics.classes import hits, mean_of_clips, uar_of_hits
from systems.metrics.events import class_er_of_counts, event_er_of_counts
from systems.metrics.intervals import Interval, bootstrap, paired_bootstrap
from systems.metrics.regression import mean_pcc_of_moments, moments
from systems.metrics.tagging import (
    auc,
    average_precision,
    macro_f1_of_counts,
    micro_f1_of_counts,
    rows_of,
    tag_counts,
)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
GROUPS = tuple(f"g{i // 12}" for i in range(120))


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("interval_coverage")


def _width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def made(seed: int, clips: int = 120, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Tags [N, K] and scores of them, some of which are equal."""
    r = np.random.default_rng(seed)
    targets = (r.random((clips, classes)) < 0.3).astype(float)
    return targets, np.round(np.clip(targets * 0.3 + r.random(targets.shape) * 0.7, 0, 1), 2)


# Groups


BOTH = ("ours", "before")


@pytest.mark.parametrize(
    "name", ["accuracy", "clip_macro_f1", pytest.param("clip_auc", marks=pytest.mark.all)]
)
def test_intervals_of_groups_hold_the_true_value(benchmark: ModuleType, name: str) -> None:
    """10 groups of 12: 95 % asked for, two thirds reached where clips are drawn one by one."""
    law = next(law for law in benchmark.LAWS if law.metric == name)
    held = benchmark.coverage(law, groups=10, spread=0.7, sets=150, methods=BOTH)
    assert held["ours"] > 0.85
    assert held["before"] < 0.8


def test_p_of_groups_claims_no_more_than_chance(benchmark: ModuleType) -> None:
    clips, ours = benchmark.null_claims(benchmark.LAWS[0], groups=10, spread=0.7, sets=200)
    assert stats.binomtest(round(200 * ours), 200, 0.05, "greater").pvalue > 0.01
    assert stats.binomtest(round(200 * clips), 200, 0.05, "greater").pvalue < 0.01


def test_rare_classes_are_held(benchmark: ModuleType) -> None:
    """Classes of 2 or 3 clips, some of which a resample lacks."""
    law = next(law for law in benchmark.LAWS if "2 %" in law.name)
    held = benchmark.coverage(law, groups=120, spread=0.0, sets=150, methods=BOTH)
    assert held["ours"] > 0.85
    assert held["before"] < 0.8


def test_clips_of_one_group_count_as_one() -> None:
    """A group's clips that are copies say no more than one of them."""
    targets, scores = made(0, clips=40)
    counts = tag_counts(targets, scores > 0.5)
    copies, groups = np.repeat(counts, 5, axis=0), [str(i) for i in range(40) for _ in range(5)]
    alone = bootstrap(counts, macro_f1_of_counts, draws=300)
    assert bootstrap(copies, macro_f1_of_counts, groups, draws=300) == pytest.approx(alone)
    assert _width(bootstrap(copies, macro_f1_of_counts, draws=300)) < 0.6 * _width(alone)
    other = np.repeat(tag_counts(targets, scores > 0.6), 5, axis=0)
    paired = paired_bootstrap(copies, other, macro_f1_of_counts, groups, draws=300)
    assert paired == pytest.approx(
        paired_bootstrap(counts, other[::5], macro_f1_of_counts, draws=300)
    )


@pytest.mark.parametrize(
    ("value", "rows"), [(auc, "rows"), (average_precision, "rows"), (mean_pcc_of_moments, "series")]
)
def test_metrics_of_rows_draw_groups_as_plain_copies_do(value: object, rows: str) -> None:
    """The weighted value is that of the drawn clips themselves, several times each."""
    targets, scores = made(1)
    if rows == "series":
        counts = moments(targets.reshape(30, 4, 4), scores.reshape(30, 4, 4)).sum(axis=1)
    else:
        counts = rows_of(targets, scores)
    drawn = np.random.default_rng(0).integers(len(counts), size=(50, len(counts)))
    weights = np.stack([np.bincount(one, minlength=len(counts)) for one in drawn]).astype(float)
    found = value(counts, weights)  # type: ignore[operator]
    expected = [value(counts[one]) for one in drawn]  # type: ignore[operator]
    np.testing.assert_allclose(found, expected)


def test_of_many_groups_it_is_the_percentile_interval_of_scipy() -> None:
    right = (np.random.default_rng(0).random(2000) < 0.7).astype(float)
    counts = np.stack([right, np.ones(2000)], axis=1)[:, None]
    ours = bootstrap(counts, mean_of_clips)
    judge = stats.bootstrap(
        (right,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours[1:] == pytest.approx((judge.low, judge.high), abs=0.003)


def test_few_groups_are_widened_as_the_t_interval_is() -> None:
    """Of 8 groups' means that are nearly normal Student's interval is right, no percentile."""
    r = np.random.default_rng(0)
    ratio = []
    for _ in range(30):
        means = 0.5 + 0.05 * r.normal(size=8)
        counts = np.stack([means, np.ones(8)], axis=1)[:, None]
        ours = bootstrap(counts, mean_of_clips)
        low, high = stats.t.interval(0.95, 7, means.mean(), stats.sem(means))
        ratio.append(_width(ours) / (high - low))
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.08)


def test_of_one_group_there_is_no_interval_and_no_claim() -> None:
    targets, scores = made(0)
    counts, worse = tag_counts(targets, targets > 0.5), tag_counts(targets, scores > 0.9)
    of = ["the only speaker"] * len(counts)
    assert bootstrap(counts, macro_f1_of_counts, of) == (1, None, None)
    assert paired_bootstrap(counts, worse, macro_f1_of_counts, of).p_not_better == 1
    three = [f"g{i % 3}" for i in range(len(counts))]
    assert paired_bootstrap(counts, worse, macro_f1_of_counts, three).p_not_better > 0.05
    ten = [f"g{i % 10}" for i in range(len(counts))]
    assert paired_bootstrap(counts, worse, macro_f1_of_counts, ten).p_not_better < 0.01


# Classes that no scored clip has: as the libraries have it, and the same in every metric.


def test_an_absent_class_is_in_no_mean() -> None:
    targets, scores = made(2)
    targets[:, 3] = 0
    scores[:, 3] = np.linspace(0, 1, len(scores))  # said again and again
    there = [0, 1, 2]
    for name in ("clip_macro_f1", "clip_map", "clip_auc"):
        value = clip_metric(name)
        assert value(targets, scores) == value(targets[:, there], scores[:, there]), name
        by_class = metric(name).by_class
        assert by_class is not None
        counts = metric(name).count(Truth("tags", targets), scores)
        assert np.isnan(by_class(counts)).tolist() == [False, False, False, True], name
    decided = scores > 0.5
    judged = judges.f1_score(targets, decided, labels=there, average="macro")
    assert clip_metric("clip_macro_f1")(targets, scores) == pytest.approx(judged)
    # What is said of it counts where classes are counted together.
    micro = float(micro_f1_of_counts(tag_counts(targets, decided)))
    assert micro == pytest.approx(judges.f1_score(targets, decided, average="micro"))
    assert micro < judges.f1_score(targets[:, there], decided[:, there], average="micro")


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_recall_of_an_absent_class_is_left_out_as_scikit_learn_does() -> None:
    r = np.random.default_rng(0)
    truth, scores = np.eye(4)[r.integers(3, size=60)], r.random((60, 4))
    judged = judges.balanced_accuracy_score(truth.argmax(1), scores.argmax(1))
    assert float(uar_of_hits(hits(truth, scores))) == pytest.approx(judged)


def test_error_rates_leave_an_absent_class_out() -> None:
    counts = np.array([[[3, 1, 1], [0, 5, 0]]])  # the second class is said and never there
    assert class_er_of_counts(counts)[0] == pytest.approx(2 / 4)
    assert np.isnan(class_er_of_counts(counts)[1])
    assert float(event_er_of_counts(counts)) == pytest.approx(2 / 4)
    assert float(macro_f1_of_counts(counts)) == pytest.approx(6 / 8)


def test_a_resample_without_a_class_leaves_it_out_too() -> None:
    """Right in every clip: no resample can be less than 1, though most lack the rare class."""
    targets = np.zeros((50, 2))
    targets[:25, 0] = targets[0, 1] = 1
    assert bootstrap(tag_counts(targets, targets), macro_f1_of_counts)[1:] == (1, 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_ranked_metrics_are_scikit_learns(weighted: bool) -> None:
    targets, scores = made(3)
    r = np.random.default_rng(0)
    weights = r.integers(0, 4, len(targets)).astype(float) if weighted else None
    rows = rows_of(targets, scores)
    pairs = ((auc, judges.roc_auc_score), (average_precision, judges.average_precision_score))
    for ours, theirs in pairs:
        expected = [theirs(t, s, sample_weight=weights)
                    for t, s in zip(targets.T, scores.T, strict=True)]  # fmt: skip
        assert float(ours(rows, weights)) == pytest.approx(np.mean(expected))
