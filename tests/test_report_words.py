"""What the report says of searches, trainings and stacks in several states."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reported import NO_PLOTS, Page, example, interrupted, rendered, said, trained

from orchestrator.cli.words import outcome_lines
from orchestrator.report import html, tables, words
from orchestrator.report.notes import notes
from orchestrator.scoring.score import score
from systems.kinds import Truth
from systems.metrics import METRICS, metric, words_of
from systems.predictions import Predictions

SECTIONS = ("notes", "leaderboard", "parameters", "members", "stack", "test", "paper", "classes",
            "curves", "examples", "cost")  # fmt: skip


def test_interrupted_run_says_what_is_missing(tmp_path: Path) -> None:
    page = rendered(interrupted(), tmp_path)
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    for text in (
        "This run is not finished (4 of 8 planned trials started; not ended: trial 1, 2;",
        "goes on with it",
        "There are no importances: it takes 4 completed trials; there are 1.",
        "The test part has not been scored.",
        "No members have been chosen yet",
        "No meta-learner has been fitted yet.",
        "have not been opened by this run",
        "the test part has not been scored",
    ):
        assert text in page.text
    assert pd.read_csv(tmp_path / "report" / "test.csv").empty
    assert pd.read_csv(tmp_path / "report" / "stack.csv").empty


def test_run_that_has_barely_begun(tmp_path: Path) -> None:
    early = interrupted()
    early.update(trials=[], paper=[])
    early["run"].update(scaled={}, moved={}, space={}, git_commit=None, summary="")
    page = rendered(early, tmp_path)
    assert "No trial has completed yet" in page.text
    assert "No trial has started yet." in page.text
    assert "No trial has finished an epoch yet." in page.text
    assert not page.alts


def test_many_trials_and_a_metric_to_minimise(tmp_path: Path) -> None:
    results = example()
    results["run"].update(mode="min", trials=24)
    results["test"]["examples"] = []
    results["trials"] = [
        {**copy.deepcopy(trial), "number": 8 * i + trial["number"]}
        for i in range(3)
        for trial in results["trials"]
    ]
    page = rendered(results, tmp_path)
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert board["value"].dropna().is_monotonic_increasing
    assert "validation clip macro F1, lowest first" in page.text.replace("their ", "")


def test_verdicts_on_fusions_are_told() -> None:
    results = example()
    for learner, verdict in zip(results["stack"], ("worse", "not_better"), strict=True):
        learner["verdict"] = verdict
    text = said(results)
    assert "does not beat the best member; it is worse" in text
    assert "No fusion beats the best single trial" in text
    thresholds, always = results["stack"]
    thresholds |= {"verdict": "alone", "betters_one": "thresholds"}
    always |= {"verdict": "trivial", "trivial": "always yes"}
    results["trivial"] = {"words": "always yes", "searched": thresholds["out_of_fold"],
                          "out_of_fold": thresholds["out_of_fold"]}  # fmt: skip
    text = said(results)
    assert "by thresholds alone, not by fusing" in text
    assert "not surely better than the trivial row (always yes)" in text
    assert "Stage two beats" not in text
    assert "Better without fusing" in text
    results["stack"][0]["verdict"] = "beats"
    assert "Stage two beats the best single trial" in said(results)


def test_figures_that_are_not_finite_are_dashes(tmp_path: Path) -> None:
    results = example()
    results["trials"][4]["curve"][-1]["loss"] = float("nan")
    results["trials"][4]["value"] = float("nan")
    results["test"]["examples"] = []
    assert "nan" not in rendered(results, tmp_path).text.replace("the loss is nan", "")


def test_class_scores_stand_beside_the_papers() -> None:
    rows = {(r["metric"], r["class"], r["variant"]): r for r in tables.class_comparison(example())}
    dog = rows["event_f1", "Dog", "no refinement"]
    assert dog == {
        "metric": "event_f1", "unit": "%", "class": "Dog", "variant": "no refinement",
        "paper": 7.4, "ours": pytest.approx(18.13), "difference": pytest.approx(10.73),
    }  # fmt: skip
    cat = rows["event_er", "Cat", "no refinement"]
    assert cat["ours"] == 1.4966
    assert ("event_f1", "Cat", "no refinement") not in rows, "this run has no such figure"
    assert len(rows) == 3
    assert "Dog7.418.1+10.7" in said(example()).replace(" ", "")


def test_training_without_a_search_gives_mean_and_deviation() -> None:
    results = trained()
    seeds = {(r["variant"], r["metric"]): r for r in tables.over_seeds(results)}
    assert seeds["SALR_train", "event_f1"] == {
        "variant": "SALR_train", "metric": "event_f1", "trainings": 3, "mean": pytest.approx(0.3),
        "sd": pytest.approx(0.1), "low": 0.2, "high": pytest.approx(0.4),
    }  # fmt: skip
    assert {variant for variant, _ in seeds} == {"no refinement", "SALR_train", "SALR_dev"}
    assert not tables.over_seeds(example())


def test_page_of_a_training_has_no_search_in_it() -> None:
    page = Page(html.page(trained(), NO_PLOTS, []))
    assert not {"parameters", "members", "stack"} & set(page.ids)
    for text in (
        "3 trainings of one configuration, each with a seed of its own",
        "mean ± standard deviation over 3 seeds (no refinement)",
        "event-based F1 0.300 ± 0.100",
        "3 trainings without a search",
        "protocol “paper”",
    ):
        assert text in page.text
    for text in (
        "published point",
        "meta-learner",
        "Rank",
        "best trial",
        "Search space",
        "the search",
    ):
        assert text not in page.text, text
    links = [address for address in page.addresses if address.startswith("#")]
    assert {link[1:] for link in links} <= set(page.ids)


def test_notes_of_the_data_and_of_the_plan() -> None:
    text = said(example())
    assert example()["run"]["notes"][0] in text
    assert "1 broken clip of the data left out" in text
    assert all(word in text for word in example()["run"]["skipped"][0])
    assert "protocol “paper”" not in text
    assert "time budget" not in text


@pytest.mark.parametrize(
    ("own", "labels", "dense"),
    [("accuracy", "class", "clip_scores"), ("uar", "class", "clip_scores"),
     ("map_at_3", "class", "clip_scores"), ("pcc", "values", "clip_values"),
     ("rmse", "values", "clip_values")],
)  # fmt: skip
def test_scores_of_each_metric_stand_on_the_page(own: str, labels: Any, dense: str) -> None:
    """With its interval, its direction and its subsets, and in the command's last lines."""
    r = np.random.default_rng(0)
    truth = Truth(labels, np.eye(3)[r.integers(3, size=60)], ("x", "y", "z"))
    predictions = Predictions.of(
        tuple(map(str, range(60))), truth.classes, **{dense: truth.values + r.normal(size=(60, 3))}
    )
    scored = score(
        predictions, truth, own, predictions.clip_ids, {"half=1": ("first half", np.arange(30))}
    )
    results = example()
    results["run"].update(metric=own, mode=metric(own).mode)
    row = {**results["test"]["rows"][0], **scored.to_json(), "refinement": None}
    results["test"].update(rows=[row], examples=[], label_kind=labels)
    results.update(paper=[], stack=[], stage=None)
    results["metrics"] = {
        name: {"words": words_of(name), "mode": METRICS[name].mode if name in METRICS else "max"}
        for name in (*scored.metrics, *scored.classes["x"])
    }
    text = said(results)
    lower = " (lower is better)" if metric(own).mode == "min" else ""
    assert f"{words_of(own)}{lower}" in text
    value = scored.metrics[own]
    shown = " ".join((f"{value['value']:.3f}", f"[{value['low']:.3f}, {value['high']:.3f}]"))
    assert shown.replace("-", "−") in text
    assert "first half (30 clips)" in text
    first = next(iter(scored.metrics))
    half = scored.subsets["half=1"]["metrics"][first]
    assert f"{half['value']:.3f}".replace("-", "−") in text
    (line,) = outcome_lines(results)
    assert f"{own} {value['value']:.3f}" in line


def test_few_groups_and_rare_classes_are_named() -> None:
    results = example()
    before = " ".join(notes(results))
    results["judging"]["rows"] = {"clips": 60, "groups": 7, "rare": {"Blender": 3}}
    results["test"]["rare"] = {"Frying": 0}
    added = " ".join(note for note in notes(results) if note not in before)
    for what in ("validation: 7 groups", "Blender (3)", "Frying (0)", "drawn whole"):
        assert what in added, what
    assert "test: 160" not in added  # clips enough, each its own


def test_a_copy_with_other_clips_is_not_the_papers_data() -> None:
    results = example()
    run = results["run"]
    run["dataset"] = run["published_dataset"]
    run["parts"] = {
        "weak": {"clips": 60, "labels": "tags"}, "test": {"clips": 288, "labels": "events"},
    }  # fmt: skip
    run["published_clips"] = {"weak": 1578, "test": 288}
    run["scaled"], run["set"] = {}, {}
    text = said(results)
    assert "but not its clips: weak 60 (paper: 1,578)." in text
    assert "Not the paper's conditions: the clips of the data set" in text
    run["parts"]["weak"]["clips"] = 1578
    text = said(results)
    assert "The data set is the paper's" in text
    assert "Data set and budget are the paper's." in text


def test_a_stack_tells_what_each_run_changed() -> None:
    results = example()
    one = {"name": "a", "system": "gcrnn_vat/gcrnn_vat", "budget": "quick", "moved": {},
           "scaled": {"network.width": [64, 16]}, "set": {}}  # fmt: skip
    two = {**one, "name": "b", "system": "other/other", "scaled": {}, "set": {"x": [1, 2]}}
    results["run"]["member_runs"] = [one, two]
    text = said(results)
    assert "a (gcrnn_vat/gcrnn_vat) changed 1 value by its budget (quick)" in text
    assert "b (other/other) changed 1 value by hand" in text
    assert "The table is of gcrnn_vat alone" in text
    assert "What the budget changed" not in text


def test_what_fusing_adds_stands_beside_the_gain() -> None:
    results = example()
    part = {"value": -0.012, "low": -0.03, "high": 0.004, "p_not_better": 0.9}
    for learner in results["stack"]:
        learner["by_fusing"] = part
    text = said(results)
    assert words.signed_interval(part) in text
    assert "over the same on the best member alone" in text


def test_more_comparisons_than_the_draws_can_bear_are_told() -> None:
    results = example()
    learner = results["stack"][0]
    learner["compared"] = {"p": 0.001, "p_holm": 0.06, "z_p": None, "claims": False, "among": 60}
    assert "no p can stand the correction" in said(results)
    learner["compared"]["among"] = 40
    assert "no p can stand the correction" not in said(results)


def test_time_budget_that_ended_the_search() -> None:
    results = example()
    results["run"].update(time_budget=7200.0, trials=20)
    results["trials"][7]["cause"] = "time budget"
    results["cost"].update(stopped=1, out_of_time=1)
    text = said(results)
    assert "time budget of 2 h 0 min, and the search ended by it: 8 of 20 planned trials" in text
    assert "1 of them stopped before their end" in text
    assert "1 more by the end of the time budget" in text
    assert "not finished" not in text
    results["run"]["trials"] = 8
    assert "the search ended by it: 8 of 8 planned trials" in said(results)
    uncut = example()
    uncut["run"]["time_budget"] = 7200.0
    assert "the search has not been cut by it" in said(uncut)


def test_cost_by_phase() -> None:
    text = said(example())
    assert "search 3 min 2 s, further folds of the members 0 s, refits 1 min 44 s" in text
    assert "2 of 8 trials: 24 epochs not run" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123 s"), (59.0, "59 s"), (61.5, "1 min 1 s"), (7322.0, "2 h 2 min")],
)
def test_durations(value: float, text: str) -> None:
    assert words.duration(value) == text


def test_signs_and_dashes() -> None:
    assert words.number(-0.5, 1) == "\N{MINUS SIGN}0.5"
    assert words.signed(0.25, 2) == "+0.25"
    assert words.number(None) == words.interval(None) == "\N{EN DASH}"
    assert words.setting(0.00018772) == "0.0001877"
    assert words.setting(664) == "664"
