"""Scores by kind of labels, and the comparison of two runs from stored counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sed_eval.sound_event
import stacked
from scipy.stats import pearsonr
from sklearn import metrics as judges
from tracked import make_plan

from orchestrator.planning.checks import check_kinds, check_metric
from orchestrator.runs.counts import counted, save_counts
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring import compare as comparing
from orchestrator.scoring.score import score
from systems.data.dataset import Clip, Dataset, Event, Labels
from systems.errors import UserError
from systems.kinds import Truth, kind
from systems.metrics import metric, scored_by
from systems.predictions import Predictions

Set = tuple[Truth, Predictions, Predictions]


def two_models(members: Any, truth: Truth, field: str = "clip_scores") -> Set:
    """The first two members as predictions of runs."""
    first, second = (
        Predictions.of(members.clip_ids, members.classes, **{field: members.scores[:, m]})
        for m in (0, 1)
    )
    return truth, first, second


def classes(count: int = 4) -> Set:
    members, targets = stacked.noisy(3, [1.0, 4.0], clips=90, members=2, classes=count,
                                     kind="class")  # fmt: skip
    return two_models(members, targets.truth(members.classes))


def tags(count: int = 3) -> Set:
    members, targets = stacked.noisy(4, [1.0, 4.0], clips=60, members=2, classes=count)
    return two_models(members, targets.truth(members.classes))


def values() -> Set:
    members, targets = stacked.series(0, (0.5, 2.0))
    return two_models(members, targets.truth(members.classes), "clip_values")


def events() -> Set:
    """Reference events; the first model moves each a little, the second much more."""
    r = np.random.default_rng(0)
    true = tuple(
        tuple(Event(start, start + 1, f"class{r.integers(3)}") for start in (1.0, 4.0))
        for _ in range(25)
    )
    ids = tuple(f"clip{i}" for i in range(25))
    names = ("class0", "class1", "class2")
    truth = kind("events").truth(Labels("events", dict(zip(ids, true, strict=True))), ids, names)

    def moved(spread: float) -> Predictions:
        said = tuple(
            tuple(Event(e.onset + d, e.offset + d, e.label)
                  for e, d in zip(clip, spread * r.normal(size=2), strict=True))
            for clip in true
        )  # fmt: skip
        return Predictions.of(ids, names, clip_scores=truth.values * 0.9, events=said)

    return truth, moved(0.1), moved(0.3)


def accuracy(t: Truth, p: Predictions) -> float:
    return float(judges.accuracy_score(t.values.argmax(1), p.clip_scores.argmax(1)))  # type: ignore[union-attr]


def recall(t: Truth, p: Predictions) -> float:
    return float(judges.balanced_accuracy_score(t.values.argmax(1), p.clip_scores.argmax(1)))  # type: ignore[union-attr]


def map_at_3(t: Truth, p: Predictions) -> float:
    """With one relevant class the mean reciprocal rank, cut at 3."""
    s = p.clip_scores
    assert s is not None
    y = t.values.argmax(axis=1)
    rank = (s > s[np.arange(len(y)), y][:, None]).sum(axis=1) + 1
    return float(np.where(rank <= 3, 1 / rank, 0).mean())


def average_precision(t: Truth, p: Predictions) -> float:
    return float(judges.average_precision_score(t.values, p.clip_scores, average="macro"))


def micro_f1(t: Truth, p: Predictions) -> float:
    assert p.clip_scores is not None
    return float(judges.f1_score(t.values, p.clip_scores > 0.5, average="micro"))


def pcc(t: Truth, p: Predictions) -> float:
    assert p.clip_values is not None
    pairs = zip(t.values.T, p.clip_values.T, strict=True)
    return float(np.mean([pearsonr(a, b).statistic for a, b in pairs]))


def rmse(t: Truth, p: Predictions) -> float:
    return float(judges.root_mean_squared_error(t.values, p.clip_values))


def event_judge(t: Truth, p: Predictions) -> Any:
    judge = sed_eval.sound_event.EventBasedMetrics(
        list(t.classes), t_collar=0.2, percentage_of_length=0.2,
        empty_system_output_handling="zero_score",
    )  # fmt: skip
    assert t.events is not None
    assert p.events is not None
    for clip, true, said in zip(p.clip_ids, t.events, p.events, strict=True):
        lists = [
            [{"filename": clip, "onset": e.onset, "offset": e.offset, "event_label": e.label}
             for e in chosen]
            for chosen in (true, said)
        ]  # fmt: skip
        judge.evaluate(*lists)
    return judge.results_class_wise_average_metrics()


def event_f1(t: Truth, p: Predictions) -> float:
    return float(event_judge(t, p)["f_measure"]["f_measure"])


def event_er(t: Truth, p: Predictions) -> float:
    return float(event_judge(t, p)["error_rate"]["error_rate"])


JUDGES = {
    "accuracy": (classes, accuracy),
    "uar": (classes, recall),
    "map_at_3": (classes, map_at_3),
    "clip_map": (tags, average_precision),
    "clip_micro_f1": (tags, micro_f1),
    "pcc": (values, pcc),
    "rmse": (values, rmse),
    "event_f1": (events, event_f1),
    "event_er": (events, event_er),
}


def made_run(
    folder: Path, truth: Truth, predictions: Predictions, own: str, order: Any, groups: int = 0
) -> RunDir:
    """A run directory with the counts of one model alone, its clips in some order; each is its own
    group, or one of some."""
    run = RunDir(folder)
    counts = {name: array[order] for name, array in counted(predictions, truth, own).items()}
    about = {"who": "trial 0, refitted", "variant": "plain", "learner": None, "best": True}
    run.write_plan(make_plan(folder.name))
    run.test_counts.parent.mkdir(parents=True)
    ids = [predictions.clip_ids[i] for i in order]
    of = [f"g{i % groups}" for i in order] if groups else ids
    save_counts(run.test_counts, ids, of, [about], [counts])
    return run


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two plans of the same data that ask for the same."""
    monkeypatch.setattr(comparing, "_settings", lambda first, second: {})


@pytest.mark.usefixtures("plans")
@pytest.mark.parametrize("name", JUDGES)
def test_compare_tells_the_difference_by_every_metric(name: str, tmp_path: Path) -> None:
    make, judge = JUDGES[name]
    truth, one, two = make()
    n = len(one.clip_ids)
    first = made_run(tmp_path / "one", truth, one, name, np.arange(n))
    second = made_run(tmp_path / "two", truth, two, name, np.random.default_rng(1).permutation(n))
    rows = {row["metric"]: row for row in comparing.compare(first, second)["rows"]}
    assert list(rows) == [m.name for m in scored_by(truth.kind, name)]
    row, expected = rows[name], (judge(truth, one), judge(truth, two))
    assert (row["first"], row["second"]) == pytest.approx(expected, abs=1e-9)
    difference = row["difference"]
    assert difference["value"] == pytest.approx(expected[1] - expected[0], abs=1e-9)
    assert row["mode"] == ("min" if name in ("rmse", "event_er") else "max")
    # The second model is the worse one: hardly a draw finds it better, whichever way is better.
    assert (difference["value"] > 0) == (row["mode"] == "min")
    assert difference["p_not_better"] > 0.99
    assert difference["low"] < difference["value"] < difference["high"]


@pytest.mark.usefixtures("plans")
def test_compare_pairs_the_same_clips_in_whatever_order(tmp_path: Path) -> None:
    truth, one, _ = classes()
    n = len(one.clip_ids)
    first = made_run(tmp_path / "one", truth, one, "uar", np.arange(n))
    second = made_run(tmp_path / "two", truth, one, "uar", np.random.default_rng(1).permutation(n))
    for row in comparing.compare(first, second)["rows"]:
        assert row["difference"] == {"value": 0, "low": 0, "high": 0, "p_not_better": 1}


@pytest.mark.usefixtures("plans")
def test_compare_draws_groups_whole(tmp_path: Path) -> None:
    truth, one, two = classes()
    order = np.arange(len(one.clip_ids))
    found = []
    for groups in (0, 2):
        runs = [made_run(tmp_path / f"{name}{groups}", truth, said, "accuracy", order, groups)
                for name, said in (("two", two), ("one", one))]  # fmt: skip
        found.append(comparing.compare(*runs)["rows"][0]["difference"])
    assert found[0]["value"] == found[1]["value"] > 0
    assert found[0]["p_not_better"] < 0.01
    assert found[1]["p_not_better"] > 0.05  # two groups say little


def test_a_class_is_scored_by_what_has_the_largest_score() -> None:
    truth, one, _ = classes(6)
    assert one.clip_scores is not None
    y, said = truth.values.argmax(axis=1), one.clip_scores.argmax(axis=1)
    assert (one.clip_scores.max(axis=1) < 0.5).any(), "thresholds would do as well"
    found = score(one, truth, "accuracy", one.clip_ids)
    assert list(found.metrics) == ["accuracy", "uar", "map_at_3", "clip_macro_f1"]
    assert found.metrics["accuracy"]["value"] == pytest.approx(judges.accuracy_score(y, said))
    f1 = judges.f1_score(y, said, average=None)
    assert found.metrics["clip_macro_f1"]["value"] == pytest.approx(f1.mean())
    recalls = judges.recall_score(y, said, average=None)
    for k, name in enumerate(truth.classes):
        by_class = found.classes[name]
        assert by_class["recall"] == pytest.approx(recalls[k])
        assert by_class["clip_f1"] == pytest.approx(f1[k])
        own = Truth("class", truth.values[y == k])
        own_said = Predictions.of([""] * (y == k).sum(), truth.classes,
                                  clip_scores=one.clip_scores[y == k])  # fmt: skip
        assert by_class["map_at_3"] == pytest.approx(map_at_3(own, own_said))
    for scores in found.metrics.values():
        assert scores["low"] <= scores["value"] <= scores["high"]


def test_events_are_scored_as_tags_and_in_time_and_the_own_metric_comes_first() -> None:
    truth, one, _ = events()
    found = score(one, truth, "clip_macro_f1", one.clip_ids)
    assert list(found.metrics) == ["clip_macro_f1", "event_f1", "event_er"]
    assert found.metrics["event_f1"]["value"] == pytest.approx(event_f1(truth, one), abs=1e-9)
    assert list(found.classes["class1"]) == ["clip_f1", "event_f1", "event_er"]
    own = score(one, truth, "clip_map", one.clip_ids)
    assert list(own.metrics) == ["clip_map", "clip_macro_f1", "event_f1", "event_er"]
    assert own.classes["class1"]["ap"] == pytest.approx(1.0)
    silent = Predictions.of(one.clip_ids, one.classes, clip_scores=one.clip_scores)
    assert list(score(silent, truth, "clip_macro_f1", one.clip_ids).metrics) == ["clip_macro_f1"]


def test_values_and_rankings_are_scored_by_their_own_metrics() -> None:
    truth, one, _ = values()
    found = score(one, truth, "rmse", one.clip_ids)
    assert list(found.metrics) == ["pcc", "ccc", "rmse"]
    assert found.metrics["rmse"]["value"] == pytest.approx(rmse(truth, one))
    assert one.clip_values is not None
    for d, name in enumerate(truth.classes):
        expected = pearsonr(truth.values[:, d], one.clip_values[:, d]).statistic
        assert found.classes[name]["pcc"] == pytest.approx(expected)
    labels = Labels("relevance", {"q0": ("b",), "q1": ("a", "c")})
    relevant = kind("relevance").truth(labels, ("q0", "q1"), ("a", "b", "c"))
    ranking = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    said = Predictions.of(("q0", "q1"), ("a", "b", "c"), ranking=ranking)
    found = score(said, relevant, "mrr", said.clip_ids)
    assert found.metrics["mrr"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert found.metrics["ranking_map"]["value"] == pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2)
    assert found.classes == {}


TAGS: Any = SimpleNamespace(address="p/s", gives=("clip_scores",))
FRAMES: Any = SimpleNamespace(address="p/s", gives=("clip_scores", "frame_scores"))


def made_data(labels: str, task: str = "t") -> Dataset:
    value: Any = {"class": "a", "tags": ("a",), "events": (Event(0, 1, "a"),)}.get(labels, 0.0)
    clip = Clip("c", "train", "labelled", "g", 1.0)
    about = Labels(labels, {"c": value})  # type: ignore[arg-type]
    return Dataset("made", task, ("a",), (clip,), {"train": about}, {}, {}, source=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "labels"),
    [("clip_macro_f1", "tags"), ("clip_map", "events"), ("event_er", "events"), ("uar", "class"),
     ("clip_auc", "class"), ("rmse", "values"), ("mrr", "relevance")],
)  # fmt: skip
def test_metrics_that_epochs_can_be_told_by_may_be_searched(name: str, labels: str) -> None:
    check_metric(name, made_data(labels), FRAMES)


@pytest.mark.parametrize(
    ("name", "labels", "why"),
    [
        ("event_f1", "events", "reads events, and p/s gives clip_scores. Metrics.*clip_map"),
        ("segment_f1", "tags", "needs labels of kind events; part 'train' of made has tags"),
        ("accuracy", "tags", "needs labels of kind class.*Metrics that can be: clip_macro_f1"),
        ("clip_macro_f1", "values", "has values. Metrics that can be: pcc, pearson_r, ccc, rmse"),
        ("clip_macro_f1", "none", "has none. Metrics that can be: none"),
        ("event_f2", "events", "unknown metric 'event_f2'"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_can(name: str, labels: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_metric(name, made_data(labels), TAGS)


def test_labels_that_contain_tags_train_a_tagger() -> None:
    entry: Any = SimpleNamespace(address="p/s", task="t", labels=("tags",))
    for labels in ("tags", "events", "class"):
        check_kinds(entry, made_data(labels))
    with pytest.raises(UserError, match="trains on labels of kind tags; part 'train' of made has"):
        check_kinds(entry, made_data("values"))
    with pytest.raises(UserError, match="for the task t; made is for u"):
        check_kinds(entry, made_data("tags", "u"))


def test_directions_and_sums_of_metrics_are_their_own() -> None:
    assert metric("event_er").worth(*_worst()) < 0 < metric("event_f1").worth(*_worst())


def _worst() -> tuple[Truth, Any]:
    truth, _, two = events()
    return truth, two.events
