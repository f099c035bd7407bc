"""The final metrics of a run, its trials and its meta-learners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.tracking.names import cut, metric_name
from orchestrator.tracking.trials import Trial

# Beside the metric's own name: what each was judged by, for tables of systems that were searched by
# different metrics. The parameter ``metric`` says which.
OBJECTIVE = "objective"


def search_metrics(plan: Plan, trials: Sequence[Trial]) -> dict[str, float]:
    """The best trial's value, and how far the search is; a diverged trial counts as failed."""
    states = [trial.state for trial in trials]
    counts = {
        "search/complete": states.count("complete"),
        "search/stopped": states.count("stopped"),
        "search/failed": states.count("failed") + states.count("diverged"),
    }
    sign = 1 if plan.mode == "max" else -1
    done = [t for t in trials if t.state == "complete" and t.value is not None]
    best = max(done, key=lambda t: (sign * (t.score or 0.0), -t.frozen.number), default=None)
    if best is None or best.value is None:
        return dict(counts)
    return {**counts, metric_name(plan.metric): best.value, OBJECTIVE: best.score or best.value,
            "search/best_trial": best.frozen.number}  # fmt: skip


def cost(plan: Plan, trials: Iterable[Trial]) -> dict[str, float]:
    """Seconds that trials trained, and of GPUs."""
    seconds = sum(trial.seconds for trial in trials)
    gpus = plan.resources.gpus * plan.resources.workers
    return {"cost/seconds": seconds, "cost/gpu_seconds": seconds * gpus}


def whole_cost(plan: Plan, trials: Iterable[Trial], results: Mapping[str, Any]) -> dict[str, float]:
    """The report's cost, refits and stage two included, where there is a report."""
    told = results.get("cost", {})
    known = {f"cost/{key}": told[key] for key in ("seconds", "gpu_seconds") if key in told}
    return known or cost(plan, trials)


def trial_metrics(plan: Plan, trial: Trial, results: Mapping[str, Any]) -> dict[str, float]:
    """What the search knows of a trial; the interval is the report's, if that has the same."""
    name = metric_name(plan.metric)
    found: dict[str, Any] = {name: trial.value, OBJECTIVE: trial.score,
                             "search/best_step": trial.best_step}  # fmt: skip
    if trial.state not in ("running", "interrupted"):
        found |= cost(plan, [trial])
    for row in results.get("trials", ()):
        same = row["number"] == trial.frozen.number and row["value"] == trial.value
        if same and row.get("interval"):
            found[f"{name}/low"], found[f"{name}/high"] = row["interval"]
    return {key: value for key, value in found.items() if value is not None}


def stack_metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """Of a meta-learner: its value out of fold under the metric's name, and what fusing gains."""
    found = {"cost/seconds": scores["seconds"], "cost/gpu_seconds": 0.0}  # in the driver, on a CPU
    if "metric" in scores:
        found |= score_metrics((scores["metric"],), scores["out_of_fold"])
        found[OBJECTIVE] = scores["out_of_fold"]["value"]
    for gain in ("versus_best", "by_fusing", "versus_trivial"):
        found |= score_metrics((gain,), scores.get(gain) or {})
    return found


def trivial_metrics(
    plan: Plan, trivial: Mapping[str, Any], tested: Mapping[str, float]
) -> dict[str, float]:
    """What one reaches who hears nothing: where the search scores, out of fold, and tested."""
    found = {cut(f"trivial/{name}"): value for name, value in tested.items()}
    if trivial:
        found |= score_metrics(("trivial", plan.metric), trivial["searched"])
        found |= score_metrics(("trivial", "out_of_fold", plan.metric), trivial["out_of_fold"])
    return found


def test_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Scores of the test part; the first row is that of the plan's own decision."""
    found: dict[str, float] = {}
    for place, row in enumerate(rows):
        head = "test_transductive" if row["transductive"] else "test"
        variant = () if place == 0 else (str(row["variant"]),)
        word = "_variant" if variant else ""
        for name, score in row["metrics"].items():
            found |= score_metrics((head + word, *variant, name), score)
        for key, subset in row.get("subsets", {}).items():
            for name, score in subset["metrics"].items():
                found |= score_metrics((head + word, *variant, name, key), score)
        for label, by_class in row.get("classes", {}).items():
            for name, value in by_class.items():
                if value is not None:
                    found[metric_name(f"{head}{word}_class", *variant, label, name)] = value
    return found


def further_metrics(
    parts: Sequence[Mapping[str, Any]], mine: Callable[[Mapping[str, Any]], bool]
) -> dict[str, float]:
    """Scores of test parts beside the main one, of the first row of each that is ``mine``."""
    found: dict[str, float] = {}
    for part in parts:
        row = next(filter(mine, part["rows"]), None)
        for name, score in row["metrics"].items() if row else ():
            found |= score_metrics((f"test_{part['part']}", name), score)
    return found


def score_metrics(pieces: tuple[str, ...], score: Mapping[str, Any]) -> dict[str, float]:
    """A value under its own name, its interval below it."""
    return {
        metric_name(*pieces, *(() if key == "value" else (key,))): value
        for key, value in score.items()
        if value is not None
    }
