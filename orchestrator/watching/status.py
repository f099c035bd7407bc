"""How a run stands, read from its files: without torch, Ray or MLflow."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import NOWHERE, seen_at, tracking_uri, without_password
from orchestrator.tracking.record import FILE, Synced


@dataclass(frozen=True)
class Status:
    """A run as its files show it. ``state``: running, done, interrupted or failed.

    ``driver``: host, pid and heartbeat (Unix time, s), of the last one if none works now.
    ``trials``: state -> how many; ``best``: number and value of the best completed one.
    ``seconds``: worked, over all drivers. ``links``: where something of it is seen.
    """

    run: RunDir
    plan: dict[str, Any]
    state: str
    driver: dict[str, Any]
    phase: str
    since: float | None
    why: str
    trials: dict[str, int] = field(default_factory=dict)
    best: tuple[int, float] | None = None
    seconds: float = 0.0
    links: dict[str, str] = field(default_factory=dict)


def read_status(run: RunDir) -> Status:
    """The status of a run now.

    Raises:
        UserError: one of its files cannot be read.
    """
    driven = run.is_driven()
    plan, told = read_json(run.plan_file), read_phase(run)
    trials, best = _trials(run, driven)
    return Status(
        run=run,
        plan=plan,
        state=_state(run, told, driven, trials),
        driver=run.about_driver(),
        phase=str(told.get("phase", "")) if driven else "",
        since=told.get("since"),
        why=str(told.get("why", "")) if not driven else "",
        trials=trials,
        best=best,
        seconds=float(read_json(run.clock)["seconds"]) if run.clock.exists() else 0.0,
        links=_links(run, plan, told),
    )


def read_phase(run: RunDir) -> dict[str, Any]:
    """What the last driver keeps in ``phase``; nothing of a run of an earlier version."""
    try:
        return dict(read_json(run.phase))
    except FileNotFoundError:
        return {}


def _state(run: RunDir, told: dict[str, Any], driven: bool, trials: dict[str, int]) -> str:
    if driven:
        return "running"
    if told:  # a driver that was killed has left no code
        return {0: "done", 1: "failed", 2: "failed"}.get(told["code"], "interrupted")
    return "done" if run.scores.exists() and "running" not in trials else "interrupted"


def _trials(run: RunDir, driven: bool) -> tuple[dict[str, int], tuple[int, float] | None]:
    """Trials by state, and the best one; those that a driver left running count as interrupted."""
    if not run.study.exists() or b"\n" not in run.study.read_bytes():
        return {}, None
    import optuna
    from optuna.storages import JournalStorage
    from optuna.study import StudyDirection

    from orchestrator.search.journal import Journal
    from orchestrator.search.states import state_name

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _without_warnings():
        storage = JournalStorage(Journal(run.study, read_only=True))
        study = storage.get_all_studies()[0]
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
    states = Counter(map(state_name, trials))
    states.pop("waiting", None)
    if not driven and "running" in states:
        states["interrupted"] = states.pop("running")
    sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
    done = [(t.number, t.value) for t in trials if state_name(t) == "complete"]
    best = max(done, key=lambda one: (sign * (one[1] or 0.0), -one[0]), default=None)
    return dict(states), None if best is None or best[1] is None else (best[0], best[1])


@contextlib.contextmanager
def _without_warnings() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _links(run: RunDir, plan: dict[str, Any], told: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if told.get("code") is None:  # a Ray of the run's own ends with it
        found |= told.get("links", {})
    uri = without_password(tracking_uri(run))
    if uri != NOWHERE:
        found["MLflow"] = seen_at(uri, f"soundsweep/{plan['dataset']}")
        with contextlib.suppress(FileNotFoundError):
            page = Synced(**read_json(run.path / FILE)["synced"]).page
            found["MLflow"] = page if uri.startswith("http") else f"{found['MLflow']}, then {page}"
    if (run.report / "index.html").exists():
        found["report"] = str(run.report / "index.html")
    return found
