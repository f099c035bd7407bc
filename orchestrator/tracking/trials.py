"""The trials of a run as study and directory have them, without MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import best_line, read_json
from orchestrator.runs.rundir import RunDir, TrialDir
from orchestrator.search.study import Search, TrialState, state_name


@dataclass
class Trial:
    """A trial as study and directory have it. ``value``: of the run's metric; ``score``: what it is
    ranked by, another number where the system has an objective of its own."""

    frozen: Any
    lines: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    state: str
    start: int | None
    end: int | None
    value: float | None
    score: float | None
    best_step: int | None
    seconds: float


def read_trials(run: RunDir, driving: bool) -> list[Trial]:
    plan = run.plan
    if not run.study.exists() or b"\n" not in run.study.read_bytes():  # nothing is in it yet
        return []
    search = Search(
        run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial, read_only=True
    )
    return [
        _trial(run.trial(frozen.number), frozen, plan, driving)
        for frozen in search.trials()
        if frozen.state != TrialState.WAITING
    ]


def _trial(folder: TrialDir, frozen: Any, plan: Plan, driving: bool) -> Trial:
    lines, attempts = folder.read_metrics(), folder.attempts()
    scored = [line for line in lines if line["fold"] == 0 and plan.metric in line]
    best = best_line(scored, plan.metric, plan.mode)
    state = state_name(frozen)
    start, end = _times(frozen, lines, attempts)
    result = read_json(folder.result) if folder.result.exists() else {}
    value = best[plan.metric] if frozen.value is None and best else frozen.value
    score, value = (frozen.value, result["value"]) if "score" in result else (value, value)
    return Trial(
        frozen=frozen,
        lines=lines,
        attempts=attempts,
        state="interrupted" if state == "running" and not driving else state,
        start=start,
        end=end,
        value=value,
        score=score,
        best_step=best["step"] if best else None,
        seconds=sum(line.get("seconds", 0.0) for line in lines),
    )


def _times(
    frozen: Any, lines: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]]
) -> tuple[int | None, int | None]:
    """When a trial started and when it was last heard of."""
    first = attempts[0]["started"] if attempts else _seconds(frozen.datetime_start)
    ends = [lines[-1]["time"]] if lines else []
    ends += [attempt["ended"] for attempt in attempts if "ended" in attempt]
    last = max(ends) if ends else _seconds(frozen.datetime_complete)
    return milliseconds(first), milliseconds(last)


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
