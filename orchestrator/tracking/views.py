"""What MLflow is to show of a run: a function of the run directory, without MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.search.evolving import LINEAGE
from orchestrator.search.study import cause_of
from orchestrator.tracking.about import (
    device_tag,
    label,
    night_tags,
    plan_params,
    plan_tags,
    shared_tags,
    system_of,
)
from orchestrator.tracking.metrics import (
    further_metrics,
    score_metrics,
    search_metrics,
    stack_metrics,
    test_metrics,
    trial_metrics,
    trivial_metrics,
    whole_cost,
)
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


def read_views(run: RunDir, driving: bool) -> list[View]:
    """The parent's view, then those of its children."""
    plan = run.plan
    results = read_json(run.results) if run.results.exists() else {}
    members = read_json(run.members)["members"] if run.members.exists() else []
    trials = read_trials(run, driving)
    test = _test(run, results, driving)
    stacks = [folder for folder in run.learners() if folder.scores.exists()]
    return [
        _parent_view(run, trials, results, members, test, driving),
        *(_trial_view(run, trial, results, members, test) for trial in trials),
        *(_stack_view(run, folder, test) for folder in stacks),
        *(view for folder in stacks for view in _stage_views(plan, folder)),
    ]


def best_models(plan: Plan, views: Sequence[View]) -> set[str]:
    """The best single model, and the meta-learner that is best out of fold.

    Each further one is a copy of all its members' weights; they are logged when asked for.
    """
    sign, name = 1 if plan.mode == "max" else -1, metric_name(plan.metric)
    stacks = [v for v in views if v.key[0] == "stack" and v.model and name in v.metrics]
    best = max(stacks, key=lambda view: sign * view.metrics[name], default=None)
    return {"best"} | ({best.model} if best and best.model else set())


@dataclass(frozen=True)
class Test:
    """What was scored of the test parts: rows of the main one, and the further parts."""

    scored: bool
    rows: Sequence[Mapping[str, Any]] = ()
    further: Sequence[Mapping[str, Any]] = ()

    def metrics(self, mine: Callable[[Mapping[str, Any]], bool]) -> dict[str, float]:
        """Those of the rows that are ``mine``."""
        return {
            **test_metrics(list(filter(mine, self.rows))),
            **further_metrics(self.further, mine),
        }


def _test(run: RunDir, results: Mapping[str, Any], driving: bool) -> Test:
    """What was scored; an old results.json counts only while no driver works."""
    if run.scores.exists():
        scores = read_json(run.scores)
    else:
        scores = None if driving else results.get("test")
    return Test(True, scores["rows"], scores.get("further", ())) if scores else Test(False)


def _out_of_fold(plan: Plan, members: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The first of some members' value on rows whose epoch other rows chose."""
    found = members[0].get("out_of_fold") if members else None
    return score_metrics(("out_of_fold", plan.metric), found or {})


def _parent_view(
    run: RunDir, trials: Sequence[Trial], results: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]], test: Test, driving: bool,
) -> View:  # fmt: skip
    plan = run.plan
    start = milliseconds(datetime.strptime(plan.created, "%Y-%m-%dT%H:%M:%S%z").timestamp())
    ended = test.scored or (plan.teaches and run.members.exists())
    state = _state(trials, ended, driving)
    nights = run.nights()
    ends = [t.end for t in trials if t.end is not None]
    ends += [int(p.stat().st_mtime * 1000) for p in (run.scores, run.results) if p.exists()][:1]
    return View(
        key=("run", ""),
        name=label(plan),
        status=_STATUS[state],
        start=start,
        end=max(ends, default=start),
        params=plan_params(plan),
        tags={
            **plan_tags(run),
            **device_tag(trials),
            TAG + "state": state,
            **night_tags(nights[-1] if nights else None),
        },
        metrics={
            **search_metrics(plan, trials),
            **({} if driving else whole_cost(plan, trials, results)),
            **_out_of_fold(plan, members),
            **test.metrics(lambda row: row["best"]),
            **trivial_metrics(
                plan,
                read_json(run.trivial) if run.trivial.exists() else {},
                test.metrics(lambda row: bool(row.get("trivial"))),
            ),
        },
        artifacts=[run.plan_file, run.results, run.report, run.submission],
    )


def _state(trials: Sequence[Trial], ended: bool, driving: bool) -> str:
    states = {trial.state for trial in trials}
    if driving:
        return "running"
    if ended and "interrupted" not in states:
        return "complete"
    if states and states <= {"failed", "diverged", "stopped"}:
        return "failed"
    return "interrupted"


def _trial_view(
    run: RunDir, trial: Trial, results: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]], test: Test,
) -> View:  # fmt: skip
    plan = run.plan
    number = trial.frozen.number
    folder = run.trial(number)
    places = [member["trial"] for member in members]
    tags = {
        "trial": number,
        "state": trial.state,
        "attempts": len(trial.attempts),
        "published": bool(trial.frozen.user_attrs.get("published")),
        "member": number in places,
        "cause": cause_of(trial.frozen),
        **{f"lineage.{key}": value
           for key, value in trial.frozen.user_attrs.get(LINEAGE, {}).items()},
    }  # fmt: skip
    return View(
        key=("trial", str(number)),
        name=f"{label(plan)} trial {number:05d}",
        status=_STATUS[trial.state],
        start=trial.start,
        end=trial.end,
        params=_params(plan, trial.frozen.params),
        tags={
            **shared_tags(plan),
            **device_tag([trial]),
            **night_tags(run.night_of(number)),
            **{TAG + key: as_text(value) for key, value in tags.items() if value is not None},
        },
        metrics={
            **trial_metrics(plan, trial, results),
            **_out_of_fold(plan, [member for member in members if member["trial"] == number]),
            **test.metrics(lambda row: row["trial"] == number),
        },
        lines=trial.lines,
        artifacts=[folder.config, folder.result, folder.refit / "predictions"],
        model="best" if run.scores.exists() and places[:1] == [number] else None,
    )


def _stack_view(run: RunDir, folder: LearnerDir, test: Test) -> View:
    plan = run.plan
    path = folder.scores
    scores, when = read_json(path), path.stat().st_mtime
    members = ",".join(map(str, scores["members"]))
    params = {"members": members, **dict(flat(scores.get("parameters") or {}))}
    return View(
        key=("stack", scores["name"]),
        name=f"{label(plan)} stack {scores['name']}",
        status="FINISHED",
        start=milliseconds(when - scores["seconds"]),
        end=milliseconds(when),
        params=_params(plan, params),
        tags={
            **shared_tags(plan),
            TAG + "stack": scores["name"],
            TAG + "state": "complete",
            TAG + "device": "cpu",
        },
        metrics={
            **stack_metrics(scores),
            **test.metrics(lambda row: row["learner"] == scores["name"]),
        },
        artifacts=[path, folder.learner, folder.out_of_fold, folder.test],
        model=scores["name"] if run.scores.exists() else None,
    )


def _params(plan: Plan, params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by their keys; ``system`` tells apart what stands in one table."""
    shared = {"system": system_of(plan), "metric": plan.metric}
    return texts({(key,): value for key, value in {**shared, **params}.items()})


def _stage_views(plan: Plan, folder: LearnerDir) -> list[View]:
    """The trials of the search of a meta-learner's settings, over all rows."""
    path = folder.searched
    if not path.exists():
        return []
    when = milliseconds(path.stat().st_mtime)
    return [
        View(
            key=("stage", f"{folder.name} {trial['number']}"),
            name=f"{label(plan)} stage {folder.name} {trial['number']:03d}",
            status=_STATUS[trial["state"]],
            start=when,
            end=when,
            params=_params(plan, trial["params"]),
            tags={**shared_tags(plan), TAG + "state": trial["state"], TAG + "of": folder.name},
            metrics={} if trial["value"] is None else {"worth": trial["value"]},
        )
        for trial in read_json(path)
    ]
