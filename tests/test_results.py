"""results.json: what it collects, importances, and that all of it is documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reported import example, said

from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.report.importance import importances, searched
from orchestrator.report.results import collect, stack_rows
from orchestrator.runs.files import append_step, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search

HERE = Path(__file__).parent
# Objects whose keys are data: parameters, classes, parts, packages, metrics.
FREE_KEYS = {"params", "parameters", "parts", "unlabelled", "scaled", "moved", "space", "versions",
             "classes", "tags", "published_clips"}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Options(max_epochs=6, trials=3, gpus_per_trial=0.0, name="costs"))[0]


def test_collect_sums_the_phases_and_is_strict_json(plan: Plan, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "costs")
    run.write_plan(plan)
    study = Search(run.path / "study.log", plan.search_space(), plan.sampler, plan.halving,
                   plan.first_trial)  # fmt: skip
    for number in range(3):
        assert study.ask()[0] == number
    for number, steps in enumerate((2, 2, 3)):
        for step in range(1, steps + 1):
            value = {"loss": float("nan"), plan.metric: 0.1, "seconds": 10.0}
            run.trial(number).append_metrics(0, step, value)
    run.trial(0).append_metrics(1, 1, {"loss": 1.0, plan.metric: 0.1, "seconds": 5.0})
    append_step(run.trial(0).refit_metrics, 0, 1, {"loss": 1.0, "seconds": 2.0})
    scores = {"fitted_on": "test", "metric": "accuracy", "seconds": 1.5}
    write_json(run.stack("logreg") / "scores.json", scores)
    study.stop(0)
    study.stop(1, "time budget")
    study.diverge(2, "the loss is nan")
    results = collect(run)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    stored = json.loads(run.results.read_text(), parse_constant=refuse)
    assert stored == json.loads(json.dumps(results, allow_nan=False))
    assert stored["trials"][0]["curve"][0]["loss"] is None
    assert [t["state"] for t in stored["trials"]] == ["stopped", "stopped", "diverged"]
    assert stored["trials"][1]["cause"] == "time budget"
    assert stored["cost"] == {
        "seconds": 78.5, "search": 70.0, "folds": 5.0, "refit": 2.0, "stack": 1.5,
        "gpu_seconds": 0.0, "stopped": 1, "out_of_time": 1, "saved_epochs": 4,
        "saved_seconds": pytest.approx(4 * 25 / 2),
    }  # fmt: skip
    assert stored["importance"] is None
    assert stored["run"]["purpose"] == "search"


@pytest.mark.parametrize(
    ("metric", "low", "high", "claims", "fitted_on", "verdict"),
    [
        ("accuracy", 0.1, 0.3, False, "alone", "alone"),  # thresholds better, fusing does not
        ("accuracy", -0.1, 0.3, False, "alone", "not_better"),
        ("accuracy", 0.1, 0.3, False, "trivial", "trivial"),  # not surely better than always yes
        ("rmse", -0.3, -0.1, False, "alone", "alone"),
        ("accuracy", 0.1, 0.3, True, "out_of_fold", "beats"),
        ("accuracy", -0.1, 0.3, False, "out_of_fold", "not_better"),
        ("accuracy", -0.3, -0.1, False, "out_of_fold", "worse"),
        ("rmse", 0.1, 0.3, False, "out_of_fold", "worse"),  # an error that grows
        ("rmse", -0.3, -0.1, False, "out_of_fold", "not_better"),
        ("accuracy", 0.1, 0.3, False, "validation", "no_estimate"),
        ("accuracy", 0.1, 0.3, None, "out_of_fold", None),  # not compared yet
    ],
)
def test_verdicts(
    metric: str, low: float, high: float, claims: bool | None, fitted_on: str, verdict: str | None,
    plan: Plan, tmp_path: Path,
) -> None:  # fmt: skip
    run, name = RunDir(tmp_path), plan.stage.learners[0]
    run.plan = plan
    best = {"value": (low + high) / 2, "low": low, "high": high, "p_not_better": 0.01}
    open_ = {**best, "low": -1.0, "high": 1.0}
    better = 1 if metric == "accuracy" else -1
    sure = {**best, "low": 0.2 * better, "high": 0.3 * better}
    scores = {
        "fitted_on": "validation" if fitted_on == "validation" else "out_of_fold",
        "metric": metric, "out_of_fold": {"value": 0.5, "low": 0.4, "high": 0.6},
        "versus_best": best, "z_p": None, "by_fusing": open_ if fitted_on == "alone" else None,
        "betters_one": "thresholds" if fitted_on == "alone" else "",
        "versus_trivial": open_ if fitted_on == "trivial" else sure, "trivial": "always yes",
    }  # fmt: skip
    write_json(run.stack(name) / "scores.json", scores)
    if claims is not None:
        write_json(run.comparisons, {"rows": {name: {"claims": claims}}})
    (row,) = stack_rows(run)
    assert row["verdict"] == verdict


def test_importances_come_from_completed_trials() -> None:
    results = example()
    found, why = importances(results)
    assert why is None
    assert found is not None
    assert sum(row["importance"] for row in found) == pytest.approx(1)
    shares = [row["importance"] for row in found]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([row["importance"] for row in example()["importance"]], abs=1e-3)
    results["trials"][7]["value"] = 0.99  # it was stopped
    assert importances(results)[0] == found
    results["trials"][3]["value"] = 0.1
    assert importances(results)[0] != found


def test_the_parameter_that_matters_comes_first() -> None:
    results = example()
    for i, trial in enumerate(results["trials"]):
        rate = 10 ** (-4 + i / 4)
        trial.update(state="complete", value=1 - 50 * rate)
        trial["params"].update({"training.learning_rate": rate, "vat.weight": 0.1})
    found, _ = importances(results)
    assert found is not None
    assert found[0]["key"] == "training.learning_rate"
    assert found[-1]["importance"] == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r["trials"][3].update(state="stopped"), "it takes 4 completed trials; there"),
        (lambda r: [t.update(value=0.5) for t in r["trials"]], "all completed trials have the"),
        (lambda r: [t.update(params={}) for t in r["trials"]], "no parameter has a value in every"),
        (lambda r: r["run"].update(space={}), "nothing was searched"),
    ],
)  # fmt: skip
def test_why_there_are_no_importances(change: Callable[[dict[str, Any]], Any], why: str) -> None:
    results = example()
    change(results)
    results["importance"], results["importance_why"] = importances(results)
    assert results["importance"] is None
    assert results["importance_why"].startswith(why)
    assert f"There are no importances: {why}" in said(results)


def test_study_is_rebuilt_from_the_ranges_in_words() -> None:
    results = example()
    results["run"]["space"] |= {
        "sizes": "one-of:[1, 2],[3]", "flag": "one-of:True,None", "rate": "log:0.333333:1",
        "odd": "int:1:7:2", "seconds": "int:1:1e+06",
    }  # fmt: skip
    for trial in results["trials"]:
        trial["params"] |= {"flag": None, "rate": 1 / 3, "odd": 5, "sizes": [3], "seconds": 9}
        trial["params"]["rate"] -= 1e-6  # the text has six digits
    found = searched(results)
    assert {"flag", "rate", "odd"} <= set(found.keys)
    assert set(found.left_out) == {"vat.xi", "sizes", "seconds"}
    done = [t for t in found.study.trials if t.value is not None]
    assert [t.number for t in done] == [0, 2, 3, 5]
    assert done[0].params["flag"] == "None"
    assert found.study.best_trial.number == 3


def keys_of(value: Any, free: bool = False) -> Iterator[str]:
    """All keys that have a meaning of their own: those of free objects are data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not free:
                yield key
            yield from keys_of(inner, key in FREE_KEYS and not free)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_every_key_is_documented() -> None:
    text = (HERE.parent / "docs" / "results.md").read_text(encoding="utf-8")
    named = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}
    assert set(keys_of(example())) <= named


def test_example_is_small() -> None:
    assert (HERE / "data" / "results_example.json").stat().st_size < 100_000
