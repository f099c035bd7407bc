"""What MLflow is to show of a run: a function of the run directory, without MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import cause_of
from orchestrator.tracking.names import TAG, as_text, flat, metric_name, texts
from orchestrator.tracking.trials import Trial, milliseconds, read_trials


@dataclass
class View:
    """One run as MLflow should show it. Times are in milliseconds since 1970."""

    key: tuple[str, str]
    name: str
    status: str
    start: int | None
    end: int | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    model: str | None = None  # what `bundle.export` calls it


_STATUS = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "running": "RUNNING",
    "interrupted": "KILLED",
}


def read_views(run: RunDir, plan: Plan, driving: bool) -> list[View]:
    """The parent's view, then those of its children."""
    results = read_json(run.results) if run.results.exists() else {}
    members = read_json(run.members)["members"] if run.members.exists() else []
    numbers = [member["trial"] for member in members]
    trials = read_trials(run, plan, driving)
    test = _test(run, results, driving)
    stacks = [folder for folder in run.stacks() if (folder / "scores.json").exists()]
    return [
        _parent_view(run, plan, trials, results, test, driving),
        *(_trial_view(run, plan, trial, results, numbers, test) for trial in trials),
        *(_stack_view(run, plan, folder, test) for folder in stacks),
        *(view for folder in stacks for view in _stage_views(plan, folder)),
    ]


def _test(run: RunDir, results: Mapping[str, Any], driving: bool) -> list[dict[str, Any]]:
    """Scored rows of the test part; an old results.json counts only while no driver works."""
    if run.scores.exists():
        scores = read_json(run.scores)
    else:
        scores = None if driving else results.get("test")
    return list(scores["rows"]) if scores else []


def _parent_view(
    run: RunDir, plan: Plan, trials: Sequence[Trial], results: Mapping[str, Any],
    test: Sequence[Mapping[str, Any]], driving: bool,
) -> View:  # fmt: skip
    start = milliseconds(datetime.strptime(plan.created, "%Y-%m-%dT%H:%M:%S%z").timestamp())
    state = _state(trials, bool(test), driving)
    ends = [t.end for t in trials if t.end is not None]
    ends += [int(p.stat().st_mtime * 1000) for p in (run.scores, run.results) if p.exists()][:1]
    return View(
        key=("run", ""),
        name=plan.name,
        status=_STATUS[state],
        start=start,
        end=max(ends, default=start),
        params=_plan_params(plan),
        tags={**_plan_tags(run, plan), **_device(trials), TAG + "state": state},
        metrics={
            **_search_metrics(plan, trials),
            **({} if driving else _whole_cost(plan, trials, results)),
            **_test_metrics([row for row in test if row["best"]]),
        },
        artifacts=[run.plan, run.results, run.report],
    )


def _state(trials: Sequence[Trial], scored: bool, driving: bool) -> str:
    states = {trial.state for trial in trials}
    if driving:
        return "running"
    if scored and "interrupted" not in states:
        return "complete"
    if states and states <= {"failed", "diverged", "stopped"}:
        return "failed"
    return "interrupted"


def _plan_params(plan: Plan) -> dict[str, str]:
    # The number of trials is a tag: `--trials +N` raises it, and a parameter cannot change.
    return texts(
        {
            ("system",): plan.system,
            ("dataset",): plan.dataset,
            ("budget",): plan.budget.text,
            ("seed",): plan.seed,
            ("metric",): plan.metric,
            ("mode",): plan.mode,
            ("protocol",): plan.splits.get("protocol"),
            ("stack",): ",".join(plan.stack) or "none",
            ("top_k",): plan.top_k,
            ("cpus",): plan.resources.cpus,
            ("gpus",): plan.resources.gpus,
            **{("config", key): value for key, value in flat(plan.config)},
            **{("space", p.key): p.text() for p in plan.space},
            **{("scaled", k): f"{old} -> {new}" for k, (old, new) in plan.scaled.items()},
        }
    )


def _plan_tags(run: RunDir, plan: Plan) -> dict[str, str]:
    """Tags of the parent alone."""
    about = {
        "data": plan.data,
        "created": plan.created,
        "trials": plan.trials,
        "transductive": plan.transductive,
        "directory": run.path.resolve(),
    }
    tags = {TAG + key: as_text(value) for key, value in about.items() if value is not None}
    return tags | _shared_tags(plan)


def _shared_tags(plan: Plan) -> dict[str, str]:
    """Tags of the parent and its children: what was trained on what, and by which code."""
    about = {
        "system": plan.system,
        "paper": plan.system.split("/")[0],
        "dataset": plan.dataset,
        "fingerprint": plan.fingerprint,
        "protocol": plan.splits.get("protocol"),
        "splits": plan.splits.get("digest"),
        "scored_by": plan.protocol,  # honest, or as the paper did
        "fitted_on": plan.fitted_on,
        "fusion": plan.fusion,
        "git_commit": plan.git_commit,
        "seed": plan.seed,
    }
    tags = {TAG + key: as_text(value) for key, value in about.items() if value is not None}
    tags |= {metric_name(f"{TAG}version.{name}"): v for name, v in plan.versions.items()}
    source = {"mlflow.source.name": "soundsweep", "mlflow.source.git.commit": plan.git_commit}
    return tags | {key: value for key, value in source.items() if value}


def _device(trials: Iterable[Trial]) -> dict[str, str]:
    devices = {a["device"] for trial in trials for a in trial.attempts if "device" in a}
    return {TAG + "device": ",".join(sorted(devices))} if devices else {}


def _search_metrics(plan: Plan, trials: Sequence[Trial]) -> dict[str, float]:
    """How far the search is; a trial that diverged counts as failed."""
    states = [trial.state for trial in trials]
    counts = {
        "trials_complete": states.count("complete"),
        "trials_stopped": states.count("stopped"),
        "trials_failed": states.count("failed") + states.count("diverged"),
    }
    sign = 1 if plan.mode == "max" else -1
    done = [t for t in trials if t.state == "complete" and t.value is not None]
    best = max(done, key=lambda t: (sign * (t.value or 0.0), -t.frozen.number), default=None)
    if best is None or best.value is None:
        return dict(counts)
    return {**counts, "best_value": best.value, "best_trial": best.frozen.number}


def _cost(plan: Plan, trials: Iterable[Trial]) -> dict[str, float]:
    seconds = sum(trial.seconds for trial in trials)
    gpus = plan.resources.gpus * plan.resources.workers
    return {"seconds": seconds, "gpu_seconds": seconds * gpus}


def _whole_cost(
    plan: Plan, trials: Iterable[Trial], results: Mapping[str, Any]
) -> dict[str, float]:
    """The report's cost, refits and stage two included, where there is a report."""
    cost = results.get("cost", {})
    known = {key: cost[key] for key in ("seconds", "gpu_seconds") if key in cost}
    return known or _cost(plan, trials)


def _trial_view(
    run: RunDir, plan: Plan, trial: Trial, results: Mapping[str, Any], members: Sequence[int],
    test: Sequence[Mapping[str, Any]],
) -> View:  # fmt: skip
    number = trial.frozen.number
    folder = run.trial(number)
    tags = {
        "trial": number,
        "state": trial.state,
        "attempts": len(trial.attempts),
        "published": bool(trial.frozen.user_attrs.get("published")),
        "member": number in members,
        "cause": cause_of(trial.frozen),
    }
    ended = trial.state not in ("running", "interrupted")
    return View(
        key=("trial", str(number)),
        name=f"trial {number:05d}",
        status=_STATUS[trial.state],
        start=trial.start,
        end=trial.end,
        params=texts({(key,): value for key, value in trial.frozen.params.items()}),
        tags={
            **_shared_tags(plan),
            **_device([trial]),
            **{TAG + key: as_text(value) for key, value in tags.items() if value is not None},
        },
        metrics={
            **(_trial_metrics(plan, trial, results) if ended else {}),
            **_test_metrics([row for row in test if row["trial"] == number]),
        },
        lines=trial.lines,
        artifacts=[folder.config, folder.result, folder.refit / "predictions"],
        model="best" if run.scores.exists() and members[:1] == [number] else None,
    )


def _trial_metrics(plan: Plan, trial: Trial, results: Mapping[str, Any]) -> dict[str, float]:
    """Final metrics; the interval is the report's, if that knows the same value."""
    found: dict[str, Any] = {
        "value": trial.value,
        "best_step": trial.best_step,
        **_cost(plan, [trial]),
    }
    for row in results.get("trials", ()):
        same = row["number"] == trial.frozen.number and row["value"] == trial.value
        if same and row.get("interval"):
            found["value/low"], found["value/high"] = row["interval"]
    return {key: value for key, value in found.items() if value is not None}


def _stack_view(run: RunDir, plan: Plan, folder: Path, test: Sequence[Mapping[str, Any]]) -> View:
    path = folder / "scores.json"
    scores, when = read_json(path), path.stat().st_mtime
    members = ",".join(map(str, scores["members"]))
    params: dict[tuple[str, ...], Any] = {("members",): members}
    params |= {(key,): value for key, value in flat(scores.get("parameters") or {})}
    # Meta-learners are fitted in the driver, on its CPU.
    metrics: dict[str, float] = {"seconds": scores["seconds"], "gpu_seconds": 0.0}
    for part in ("out_of_fold", "versus_best", "by_fusing"):
        metrics |= _score((part,), scores.get(part) or {})
    return View(
        key=("stack", scores["name"]),
        name=f"stack {scores['name']}",
        status="FINISHED",
        start=milliseconds(when - scores["seconds"]),
        end=milliseconds(when),
        params=texts(params),
        tags={
            **_shared_tags(plan),
            TAG + "stack": scores["name"],
            TAG + "state": "complete",
            TAG + "device": "cpu",
        },
        metrics=metrics | _test_metrics([r for r in test if r["learner"] == scores["name"]]),
        artifacts=[path, *(folder / n for n in ("learner.json", "out_of_fold.npz", "test.npz"))],
        model=scores["name"] if run.scores.exists() else None,
    )


def _stage_views(plan: Plan, folder: Path) -> list[View]:
    """The trials of the search of a meta-learner's settings, over all rows."""
    path = folder / "search" / "final" / "trials.json"
    if not path.exists():
        return []
    when = milliseconds(path.stat().st_mtime)
    return [
        View(
            key=("stage", f"{folder.name} {trial['number']}"),
            name=f"stage {folder.name} {trial['number']:03d}",
            status=_STATUS[trial["state"]],
            start=when,
            end=when,
            params=texts({(key,): value for key, value in trial["params"].items()}),
            tags={**_shared_tags(plan), TAG + "state": trial["state"], TAG + "of": folder.name},
            metrics={} if trial["value"] is None else {"worth": trial["value"]},
        )
        for trial in read_json(path)
    ]


def _test_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Scores of the test part; the first row is that of the plan's own decision."""
    found: dict[str, float] = {}
    for place, row in enumerate(rows):
        head = "test_transductive" if row["transductive"] else "test"
        variant = () if place == 0 else (str(row["variant"]),)
        word = "_variant" if variant else ""
        for name, score in row["metrics"].items():
            found |= _score((head + word, *variant, name), score)
        for label, by_class in row.get("classes", {}).items():
            for name, value in by_class.items():
                if value is not None:
                    found[metric_name(f"{head}{word}_class", *variant, label, name)] = value
    return found


def _score(pieces: tuple[str, ...], score: Mapping[str, Any]) -> dict[str, float]:
    """A value under its own name, its interval below it."""
    return {
        metric_name(*pieces, *(() if key == "value" else (key,))): value
        for key, value in score.items()
        if value is not None
    }
