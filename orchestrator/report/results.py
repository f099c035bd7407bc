"""results.json: every number of a run, collected from its directory. Schema: docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.report.held_out import held_out_rows
from orchestrator.report.importance import importances
from orchestrator.report.published import paper_rows
from orchestrator.report.tables import scored_parts
from orchestrator.runs.files import best_line, read_json, read_lines, write_json
from orchestrator.runs.rundir import RunDir, TrialDir
from orchestrator.search.evolving import LINEAGE
from orchestrator.search.study import Search, TrialState, cause_of, state_name
from orchestrator.stacking.judging import LEVEL, Judgement
from orchestrator.stacking.stage import refused
from systems import config as configs
from systems.data import card
from systems.metrics import METRICS, words_of
from systems.metrics.intervals import DRAWS, least_p

SCHEMA = 1
# Of the plan: it stands elsewhere in the results, or is no one's affair but the run's.
NOT_SHOWN = ("stage", "first_trial", "members", "required", "mlflow", "ray_address", "search_share",
             "skip_broken", "skip_shared")  # fmt: skip


def collect(run: RunDir) -> dict[str, Any]:
    """All results of a run so far; also written to its results.json."""
    plan = run.plan
    scores = read_json(run.scores) if run.scores.exists() else None
    members = read_json(run.members) if run.members.exists() else {}
    trials = trial_rows(run)
    stack = stack_rows(run)
    results = {
        "schema": SCHEMA,
        "run": _about(plan),
        "trials": trials,
        "trivial": read_json(run.trivial) if run.trivial.exists() else None,
        "members": members.get("members", []),
        "stack": stack,
        "judging": _judging(members.get("judged")),
        "refused": refused(run, plan.stage.learners),
        "stage": read_json(run.diagnostics) if stack and run.diagnostics.exists() else None,
        "relevance": read_json(run.relevance) if run.relevance.exists() else None,
        "test": scores,
        "paper": paper_rows(plan, scores, held_out_rows(run)),
        "cost": _cost(run, trials, stack),
    }
    results["metrics"] = _metrics(results)
    results["importance"], results["importance_why"] = importances(results)
    results = without_nan(results)
    write_json(run.results, results)
    return results


def stack_rows(run: RunDir) -> list[dict[str, Any]]:
    """The fitted meta-learners, each with its gain as it stands among all that were compared."""
    plan = run.plan
    compared = read_json(run.comparisons)["rows"] if run.comparisons.exists() else {}
    paths = {name: run.learner(name).scores for name in plan.stage.learners}
    rows = [
        {**read_json(path), "compared": compared.get(name)}
        for name, path in paths.items()
        if path.exists()
    ]
    return [{**row, "verdict": _verdict(row)} for row in rows]


def _judging(rows: Mapping[str, Any] | None) -> dict[str, Any]:
    """How gains are judged, and what the validation rows are."""
    least = least_p(rows["groups"]) if rows else None
    return {"level": LEVEL, "draws": DRAWS, "rows": rows, "least_p": least}


def _verdict(row: Mapping[str, Any]) -> str | None:
    """What a learner's gain comes to: a code (docs/results.md), ``None`` before it is compared."""
    if row["fitted_on"] != "out_of_fold":
        return "no_estimate"
    if row["compared"] is None:
        return None
    return Judgement.from_json(row).verdict(row["compared"]["claims"])


def _metrics(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every metric that results have a number of: its name in words, and which way is better."""
    rows = [row for part in scored_parts(results) for row in part["rows"]]
    names = [results["run"]["metric"], *(row["metric"] for row in results["stack"])]
    names += [name for row in rows for name in row["metrics"]]
    names += [name for row in rows for of_class in row["classes"].values() for name in of_class]
    names += [row["metric"] for row in results["paper"]]
    return {name: _about_metric(name) for name in dict.fromkeys(names)}


def _about_metric(name: str) -> dict[str, Any]:
    """``mode`` is ``None`` of a metric that papers have and we do not."""
    about = METRICS.get(name) or next((m for m in METRICS.values() if m.class_name == name), None)
    return {"words": words_of(name), "mode": about.mode if about else None}


def without_nan(value: Any) -> Any:
    """A JSON value with ``None`` for every number that is not finite: JSON has no name for them."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cost(run: RunDir, trials: list[dict[str, Any]], stack: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds by phase, and what stopping trials early saved."""
    plan = run.plan
    searched = plan.splits["searched"]
    lines = [line for trial in run.trials() for line in trial.read_metrics()]
    refits = [line for trial in run.trials() for line in read_lines(trial.refit_metrics)]
    phases = {
        "search": _seconds(line for line in lines if line["fold"] < searched),
        "folds": _seconds(line for line in lines if line["fold"] >= searched),
        "refit": _seconds(refits),
        "stack": _seconds(stack),
    }
    training = phases["search"] + phases["folds"] + phases["refit"]
    stopped = [trial for trial in trials if trial["state"] == "stopped"]
    pruned = [trial for trial in stopped if trial["cause"] is None]
    saved = [(plan.steps() * searched - t["steps"], t) for t in pruned if t["steps"]]
    return {
        "seconds": sum(phases.values()),
        "gpu_seconds": training * plan.resources.gpus * plan.resources.workers,
        **phases,
        "stopped": len(pruned),
        "out_of_time": len(stopped) - len(pruned),
        "saved_epochs": sum(epochs for epochs, _ in saved),
        "saved_seconds": sum(epochs * t["seconds"] / t["steps"] for epochs, t in saved),
    }


def _seconds(rows: Iterable[Mapping[str, Any]]) -> float:
    return float(sum(row["seconds"] for row in rows))


def trial_rows(run: RunDir) -> list[dict[str, Any]]:
    """Every trial: number, state, parameters, metric with interval, steps, seconds, curve."""
    plan = run.plan
    if not run.study.exists() or run.study.stat().st_size == 0:
        return []
    study = Search(
        run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial, read_only=True
    )
    return [
        _trial_row(run.trial(t.number), t, plan)
        for t in study.trials()
        if t.state != TrialState.WAITING
    ]


def _trial_row(trial: TrialDir, frozen: Any, plan: Plan) -> dict[str, Any]:
    lines = [line for line in trial.read_metrics() if line["fold"] == 0]
    best = best_line(lines, plan.metric, plan.mode)
    result = read_json(trial.result) if trial.result.exists() else {}
    value = frozen.value if frozen.value is not None else best and best[plan.metric]
    return {
        "number": frozen.number,
        "state": state_name(frozen),
        "published": bool(frozen.user_attrs.get("published")),
        "params": frozen.params,
        "value": result["value"] if "score" in result else value,
        "score": result.get("score"),
        "interval": result.get("interval"),
        "best_step": best and best["step"],
        "steps": lines[-1]["step"] if lines else 0,
        "seconds": sum(line["seconds"] for line in trial.read_metrics()),
        "attempts": len(trial.attempts()),
        "cause": cause_of(frozen),
        "lineage": frozen.user_attrs.get(LINEAGE),
        "curve": lines,
    }


def _about(plan: Plan) -> dict[str, Any]:
    whole = plan.to_json()
    of_stage = ("top_k", "final", "fitted_on", "by_fold", "pool", "row_weights")
    entry = plan.entry()
    return {
        **{key: value for key, value in whole.items() if key not in NOT_SHOWN},
        **{key: whole["stage"][key] for key in of_stage},
        "stage_trials": plan.stage.trials,
        "mode": plan.mode,
        "space": {p.key: p.text() for p in plan.space},
        "set": _changed(plan),
        "budget": plan.budget.text,
        "summary": entry.summary,
        "objective": entry.objective.words if entry.objective else None,
        "published_dataset": entry.dataset,
        "published_clips": dict(card(entry.dataset).clips),
        "member_runs": _member_runs(plan),
    }


def _member_runs(plan: Plan) -> list[dict[str, Any]]:
    """Of a stack over several runs: each run whose trials it combines, and what it changed."""
    folders = dict.fromkeys(Path(member.run) for member in plan.members)
    plans = [RunDir(folder).plan for folder in folders if (folder / "plan.json").exists()]
    return [
        {"name": one.name, "system": one.system, "budget": one.budget.text,
         "scaled": one.scaled, "set": _changed(one), "moved": one.moved}
        for one in plans
    ]  # fmt: skip


def _changed(plan: Plan) -> dict[str, Any]:
    """Keys whose value was set by hand: (the paper's, ours)."""
    published = configs.flatten(plan.entry().published_config(plan.dataset))
    ours = configs.flatten(plan.base_config())
    pairs = {key: (published.get(key), ours.get(key)) for key in {**published, **ours}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
