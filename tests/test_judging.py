"""Judging a fusion: intervals, the z-test, Holm's correction, and no claims where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stacked
from scipy.stats import norm

from orchestrator.stacking.judging import Judgement, compared, holm, judge, z_test
from systems.metrics import clip_metric
from systems.metrics.intervals import Difference, Interval


def test_the_z_test_is_the_papers() -> None:
    """76.2 % against 71.8 % on 2,554 test clips: p below .001, one-tailed."""
    assert z_test(0.762, 0.718, 2554) < 0.001
    pooled = 0.5 * (0.6 + 0.5)
    z = 0.1 / np.sqrt(2 * pooled * (1 - pooled) / 100)
    assert z_test(0.6, 0.5, 100) == pytest.approx(norm.sf(z))
    assert z_test(0.5, 0.5, 100) == pytest.approx(0.5)
    assert z_test(1.0, 1.0, 10) == 1.0


@pytest.mark.parametrize(
    ("metric", "proportion"),
    [("accuracy", True), ("uar", True), ("clip_macro_f1", False), ("map_at_3", False)],
)
def test_the_z_test_is_of_its_papers_metrics_alone(metric: str, proportion: bool) -> None:
    members, targets = stacked.noisy(0, kind="class")
    judged = judge(
        metric, targets.truth(members.classes), members.scores.mean(axis=1), members.scores[:, 0]
    )
    assert (judged.z_p is not None) == proportion


def test_holm_steps_down() -> None:
    # Holm 1979: multiplied by what is left, never below an earlier one, at most 1.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]


def test_a_gain_is_claimed_only_where_it_stands_among_all() -> None:
    def judged(p: float) -> Judgement:
        return Judgement("accuracy", Interval(0.8, 0.7, 0.9), Difference(0.1, 0.0, 0.2, p), 0.01)

    alone = compared({"a": judged(0.03)})
    assert alone["a"]["claims"]
    among = compared({"a": judged(0.03), "b": judged(0.5), "c": judged(0.6)})
    assert not among["a"]["claims"]
    assert among["a"]["p_holm"] == pytest.approx(0.09)
    again = compared({"a": judged(0.03)}, [0.5, 0.6])  # judged before
    assert again["a"] == among["a"]
    assert again["a"]["among"] == 3


def test_what_is_claimed_is_what_fusing_adds_over_what_hears_nothing() -> None:
    sure, unsure = Difference(0.1, 0.05, 0.2, 0.001), Difference(0.1, -0.1, 0.2, 0.4)
    value = Interval(0.8, 0.7, 0.9)

    def claims(**more: Any) -> bool:
        judged = Judgement("accuracy", value, sure, None, **more)
        return bool(compared({"a": judged})["a"]["claims"])

    assert claims()
    assert claims(by_fusing=sure, betters_one="thresholds")
    assert not claims(by_fusing=unsure, betters_one="thresholds")
    assert not claims(betters_one="thresholds")  # what fusing adds is not told
    assert claims(versus_trivial=sure)
    assert not claims(versus_trivial=unsure)
    below = Judgement("rmse", value, Difference(-0.1, -0.2, -0.05, 0.001), None,
                      versus_trivial=sure)  # fmt: skip
    assert not compared({"a": below})["a"]["claims"]  # of an error more is worse


def test_a_real_gain_is_claimed_and_survives_json() -> None:
    members, targets = stacked.noisy(0)
    judged = judge(
        targets.metric, targets.truth(()), members.scores.mean(axis=1), members.scores[:, 0]
    )
    assert compared({"mean": judged})["mean"]["claims"]
    assert Judgement.from_json(judged.to_json()) == judged
    sums = np.ones_like(targets.values)
    told = judge(
        targets.metric, targets.truth(()), members.scores.mean(axis=1), members.scores[:, 0],
        alone=members.scores[:, 1], betters_one="x", trivial=sums, trivial_words="always yes",
    )  # fmt: skip
    assert Judgement.from_json(told.to_json()) == told
    assert told.versus_trivial is not None
    assert told.versus_trivial.low > 0


def test_an_error_is_better_where_it_is_smaller() -> None:
    members, targets = stacked.series(0, (0.5, 0.5, 0.5))
    mean, one = members.scores.mean(axis=1), members.scores[:, 0]
    judged = judge("rmse", targets.truth(()), mean, one)
    assert judged.versus_best.value < 0
    assert judged.versus_best.p_not_better < 0.01
    assert judged.z_p is None


@pytest.mark.parametrize("kind", ["tags", "class"])
def test_copies_claim_no_gain_more_often_than_chance(kind: str) -> None:
    claims = 0
    for seed in range(200):
        members, targets = stacked.copies(seed, kind=kind)
        judged = judge(
            targets.metric, targets.truth(()), members.scores.mean(axis=1), members.scores[:, 0]
        )
        claims += judged.versus_best.p_not_better < 0.05
    assert claims <= 16


# Metrics against the libraries'


def test_clip_metrics_are_scikit_learns() -> None:
    from sklearn import metrics as judges

    members, targets = stacked.noisy(0, members=1, clips=120)
    t, s = targets.values, members.scores[:, 0]
    expected = {
        "clip_macro_f1": judges.f1_score(t, s > 0.5, average="macro"),
        "clip_micro_f1": judges.f1_score(t, s > 0.5, average="micro"),
        "clip_map": judges.average_precision_score(t, s, average="macro"),
        "clip_auc": judges.roc_auc_score(t, s, average="macro"),
    }
    for name, value in expected.items():
        assert clip_metric(name)(t, s) == pytest.approx(value), name
    members, targets = stacked.noisy(1, members=1, kind="class")
    t, s = targets.values, members.scores[:, 0]
    y, best = t.argmax(axis=1), s.argmax(axis=1)
    assert clip_metric("accuracy")(t, s) == pytest.approx(judges.accuracy_score(y, best))
    assert clip_metric("uar")(t, s) == pytest.approx(judges.balanced_accuracy_score(y, best))
    # With one relevant class a clip MAP@3 is the mean reciprocal rank, cut at 3.
    rank = (s > s[np.arange(len(y)), y][:, None]).sum(axis=1) + 1
    assert clip_metric("map_at_3")(t, s) == pytest.approx(np.where(rank <= 3, 1 / rank, 0).mean())


def test_metrics_of_values_and_rankings_are_the_libraries() -> None:
    from scipy.stats import pearsonr
    from sklearn.metrics import label_ranking_average_precision_score, root_mean_squared_error

    members, targets = stacked.series(0)
    t, v = targets.values, members.scores[:, 0] * 2 + 1
    pcc = [pearsonr(t[:, d], v[:, d]).statistic for d in range(2)]
    assert clip_metric("pcc")(t, v) == pytest.approx(np.mean(pcc))
    assert clip_metric("rmse")(t, v) == pytest.approx(root_mean_squared_error(t, v))
    ccc = [2 * np.cov(t[:, d], v[:, d], ddof=0)[0, 1]
           / (t[:, d].var() + v[:, d].var() + (t[:, d].mean() - v[:, d].mean()) ** 2)
           for d in range(2)]  # fmt: skip
    assert clip_metric("ccc")(t, v) == pytest.approx(np.mean(ccc))
    r = np.random.default_rng(0)
    relevant = (r.random((30, 12)) < 0.2).astype(float)
    relevant[:, 0] = 1
    scores = r.random((30, 12))
    assert clip_metric("ranking_map")(relevant, scores) == pytest.approx(
        label_ranking_average_precision_score(relevant, scores)
    )
    order = np.argsort(-scores, axis=1)
    first = np.take_along_axis(relevant, order, axis=1).argmax(axis=1) + 1
    assert clip_metric("mrr")(relevant, scores) == pytest.approx((1 / first).mean())
