"""MLflow as an idempotent projection of the run directory; nothing else here talks to MLflow.

The run directory is the truth. :func:`sync` looks at what MLflow shows of it and sends what
differs, so it may be called at any time, any number of times, and a store that was down or lost is
made whole again. :class:`Projector` keeps a process beside the driver that does so every few
seconds; a tracking server that is down costs the training nothing.

What is shown: one experiment per data set and system, in it a run per run directory, and below it
a run per trial and per meta-learner. They are known by their tags, never by MLflow's ids::

    soundsweep.run_id    the plan's run_id
    soundsweep.trial     number of the trial
    soundsweep.stack     name of the meta-learner
    soundsweep.stage     meta-learner and number of a trial of the search of its settings
    soundsweep.state     complete, stopped, diverged, failed, running or interrupted

A trial that the pruner stopped is FINISHED, with ``stopped`` as its state: its figures are good,
only short. One that diverged or failed is FAILED. RUNNING is shown only while a driver is alive on
this machine; what a kill left behind is KILLED until it is resumed.

Names of metrics: ``epoch/NAME`` (of fold 0; ``fold1/NAME`` of further folds) over the epochs;
``value``, ``best_step``, ``seconds`` of a trial; ``out_of_fold``, ``versus_best`` and ``by_fusing``
(against the same on the best member alone) of a meta-learner; ``test/NAME`` wherever predictions of
the test part were scored,
``test_variant/VARIANT/NAME`` under other decisions and ``test_class/CLASS/NAME`` by class
(``test_transductive...`` where the sound of the test part was used). The ends of a 95 % interval
are ``.../low`` and ``.../high``.

Once the test part is scored, the best model and every stack are logged as models of MLflow, each
named ``model`` below its own run (the best trial's, the meta-learner's), so that
``mlflow.pyfunc.load_model("runs:/RUN_ID/model")`` loads it without pickles (``pyfunc_model.py``).
The run's tag ``soundsweep.best_model`` is that address of the best one.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import math
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from orchestrator.models.bundle import export, sources
from orchestrator.plan.plan import Plan, load_plan
from orchestrator.runs.files import best_line, read_json
from orchestrator.runs.rundir import RunDir, TrialDir
from orchestrator.search.study import Search, TrialState, cause_of, state_name
from systems.errors import UserError

TAG = "soundsweep."
SYNCED = TAG + "synced_steps"  # how many lines of metrics.jsonl MLflow has
MODEL = "model"  # name of each logged model below its run
REQUIREMENTS = ("soundsweep", "mlflow", "torch", "numpy", "scikit-learn", "librosa", "soundfile",
                "soxr", "safetensors")  # fmt: skip
LONGEST_NAME = 250  # MLflow's limit
LONGEST_VALUE = 2000  # of a parameter or tag; MLflow takes 6,000, but 1 MB in one request
POINTS, FINALS, PARAMS, TAGS = 600, 200, 100, 90  # of one request; MLflow takes 1,000 together
PAGE = 200  # runs asked for at once
INTERVAL = 5.0  # seconds between two syncs beside a driver
PATIENCE = 60.0  # seconds that a driver waits at its end for the last sync,
A_STACK = 5.0  # and for each meta-learner, whose model is logged
SHARE, LONGEST_PAUSE = 10, 60.0  # it rests this many times as long as it worked; seconds at most
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a call retries for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


@dataclass(frozen=True)
class Synced:
    """What a sync brought up to date; ``uri`` is without a password."""

    uri: str
    experiment: str
    parent_run_id: str
    children: int


def tracking_uri(run: RunDir, plan: Plan) -> str:
    """The MLflow store of a run: what the plan names, else SQLite in the storage root."""
    return plan.mlflow or f"sqlite:///{run.root.resolve() / 'mlflow.db'}"


def experiment_name(plan: Plan) -> str:
    """The experiment in which all runs of a system on a data set stand side by side."""
    what = (plan.fusion or "stack") if plan.purpose == "stack" else plan.system
    return f"soundsweep/{plan.dataset}/{what}"


def sync(run: RunDir, *, driving: bool | None = None) -> Synced:
    """Bring MLflow up to date with the present state of a run directory.

    Args:
        run: the run directory; nothing in it is changed but its ``tracking.lock``.
        driving: whether a driver works on it; ``None`` looks whether one is alive on this machine.

    Raises:
        UserError: there is no plan, or the store cannot be reached or refuses; what was sent stays,
            and the next sync sends the rest.
    """
    if not run.plan.exists():
        raise UserError(f"{run.path} holds no run: it has no plan.json.")
    with _locked(run):
        plan = load_plan(run)
        views = _views(run, plan, _is_driven(run) if driving is None else driving)
        uri = tracking_uri(run, plan)
        try:
            return _put(uri, run, plan, views)
        except UserError:
            raise
        except Exception as error:
            # Stores raise what their client libraries raise: SQLAlchemy, requests, boto, ...
            raise UserError(
                f"MLflow at {_without_password(uri)} could not be brought up to date: "
                f"{_first_line(error, uri)}. Nothing is lost: when it is reachable, run "
                f"`soundsweep sync {run.path}`."
            ) from error


def locate(run_id: str, uri: str, root: Path) -> tuple[RunDir, int | None]:
    """The run directory that an MLflow run shows, and which trial, if it is one's.

    Where the directory has moved, the run of the same id below ``root``.

    Raises:
        UserError: MLflow cannot be reached, knows no such run, or its directory is gone.
    """
    try:
        client = _client(uri)
        shown = client.get_run(run_id).data.tags
        parent = shown.get("mlflow.parentRunId")
        whole = client.get_run(parent).data.tags if parent else shown
    except Exception as error:
        raise UserError(
            f"no MLflow run {run_id} at {_without_password(uri)}: {_first_line(error, uri)}. "
            "Name the store with --mlflow."
        ) from error
    if TAG + "run_id" not in shown or TAG + "directory" not in whole:
        raise UserError(f"the MLflow run {run_id} is none of soundsweep's.")
    trial = shown.get(TAG + "trial")
    for path in (Path(whole[TAG + "directory"]), *(p.parent for p in root.glob("*/plan.json"))):
        plan = path / "plan.json"
        if plan.exists() and read_json(plan)["run_id"] == shown[TAG + "run_id"]:
            return RunDir(path), None if trial is None else int(trial)
    raise UserError(
        f"the run directory of the MLflow run {run_id}, {whole[TAG + 'directory']}, is not there; "
        f"nor is that run below {root}."
    )


# Names


def metric_name(*pieces: str) -> str:
    """Pieces joined by ``/`` as a name that MLflow takes, one to one.

    A piece may be any text: a class name, say. Of its characters letters, digits and ``_ . -`` and
    spaces stay; others become ``_xHH_`` (their code in hexadecimal), as does a ``_`` before an
    ``x``; so :func:`name_pieces` can take every name apart again. A name that would be longer than
    MLflow's 250 characters is cut and ends in a digest of the whole.
    """
    name = "/".join(map(_escaped, pieces))
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: LONGEST_NAME - 70]}_xcut_{digest}"


def name_pieces(name: str) -> tuple[str, ...]:
    """The inverse of :func:`metric_name` where the name was not cut."""

    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else ""

    return tuple(re.sub("_x([0-9a-f]*)_", character, piece) for piece in name.split("/"))


def _escaped(piece: str) -> str:
    if not piece:
        return "_x_"
    if set(piece) == {"."}:  # MLflow refuses what reads as a relative path
        return f"_x2e_{piece[1:]}"
    return "".join(
        f"_x{ord(char):x}_" if _is_special(char, following) else char
        for char, following in itertools.zip_longest(piece, piece[1:], fillvalue="")
    )


def _is_special(char: str, following: str) -> bool:
    if char == "_":
        return following == "x"
    return not (char.isalnum() or char in ".- ")


# What MLflow should show: a function of the run directory, without MLflow


@dataclass
class _View:
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


@dataclass
class _Trial:
    """A trial as study and directory have it."""

    frozen: Any
    lines: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    state: str
    start: int | None
    end: int | None
    value: float | None
    best_step: int | None
    seconds: float


_STATUS = {
    "complete": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "running": "RUNNING",
    "interrupted": "KILLED",
}


def _views(run: RunDir, plan: Plan, driving: bool) -> list[_View]:
    """The parent's view, then those of its children."""
    results = read_json(run.results) if run.results.exists() else {}
    members = read_json(run.members)["members"] if run.members.exists() else []
    numbers = [member["trial"] for member in members]
    trials = _trials(run, plan, driving)
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


def _trials(run: RunDir, plan: Plan, driving: bool) -> list[_Trial]:
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


def _trial(folder: TrialDir, frozen: Any, plan: Plan, driving: bool) -> _Trial:
    lines, attempts = folder.read_metrics(), folder.attempts()
    scored = [line for line in lines if line["fold"] == 0 and plan.metric in line]
    best = best_line(scored, plan.metric, plan.mode)
    state = state_name(frozen)
    start, end = _times(frozen, lines, attempts)
    return _Trial(
        frozen=frozen,
        lines=lines,
        attempts=attempts,
        state="interrupted" if state == "running" and not driving else state,
        start=start,
        end=end,
        value=best[plan.metric] if frozen.value is None and best else frozen.value,
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
    return _ms(first), _ms(last)


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _parent_view(
    run: RunDir, plan: Plan, trials: Sequence[_Trial], results: Mapping[str, Any],
    test: Sequence[Mapping[str, Any]], driving: bool,
) -> _View:  # fmt: skip
    start = _ms(datetime.strptime(plan.created, "%Y-%m-%dT%H:%M:%S%z").timestamp())
    state = _state(trials, bool(test), driving)
    ends = [t.end for t in trials if t.end is not None]
    ends += [int(p.stat().st_mtime * 1000) for p in (run.scores, run.results) if p.exists()][:1]
    return _View(
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


def _state(trials: Sequence[_Trial], scored: bool, driving: bool) -> str:
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
    return _texts(
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
            **{("config", key): value for key, value in _flat(plan.config)},
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
    tags = {TAG + key: _text(value) for key, value in about.items() if value is not None}
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
    tags = {TAG + key: _text(value) for key, value in about.items() if value is not None}
    tags |= {metric_name(f"{TAG}version.{name}"): v for name, v in plan.versions.items()}
    source = {"mlflow.source.name": "soundsweep", "mlflow.source.git.commit": plan.git_commit}
    return tags | {key: value for key, value in source.items() if value}


def _device(trials: Iterable[_Trial]) -> dict[str, str]:
    devices = {a["device"] for trial in trials for a in trial.attempts if "device" in a}
    return {TAG + "device": ",".join(sorted(devices))} if devices else {}


def _search_metrics(plan: Plan, trials: Sequence[_Trial]) -> dict[str, float]:
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


def _cost(plan: Plan, trials: Iterable[_Trial]) -> dict[str, float]:
    seconds = sum(trial.seconds for trial in trials)
    gpus = plan.resources.gpus * plan.resources.workers
    return {"seconds": seconds, "gpu_seconds": seconds * gpus}


def _whole_cost(
    plan: Plan, trials: Iterable[_Trial], results: Mapping[str, Any]
) -> dict[str, float]:
    """The report's cost, refits and stage two included, where there is a report."""
    cost = results.get("cost", {})
    known = {key: cost[key] for key in ("seconds", "gpu_seconds") if key in cost}
    return known or _cost(plan, trials)


def _trial_view(
    run: RunDir, plan: Plan, trial: _Trial, results: Mapping[str, Any], members: Sequence[int],
    test: Sequence[Mapping[str, Any]],
) -> _View:  # fmt: skip
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
    return _View(
        key=("trial", str(number)),
        name=f"trial {number:05d}",
        status=_STATUS[trial.state],
        start=trial.start,
        end=trial.end,
        params=_texts({(key,): value for key, value in trial.frozen.params.items()}),
        tags={
            **_shared_tags(plan),
            **_device([trial]),
            **{TAG + key: _text(value) for key, value in tags.items() if value is not None},
        },
        metrics={
            **(_trial_metrics(plan, trial, results) if ended else {}),
            **_test_metrics([row for row in test if row["trial"] == number]),
        },
        lines=trial.lines,
        artifacts=[folder.config, folder.result, folder.refit / "predictions"],
        model="best" if run.scores.exists() and members[:1] == [number] else None,
    )


def _trial_metrics(plan: Plan, trial: _Trial, results: Mapping[str, Any]) -> dict[str, float]:
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


def _stack_view(run: RunDir, plan: Plan, folder: Path, test: Sequence[Mapping[str, Any]]) -> _View:
    path = folder / "scores.json"
    scores, when = read_json(path), path.stat().st_mtime
    members = ",".join(map(str, scores["members"]))
    params: dict[tuple[str, ...], Any] = {("members",): members}
    params |= {(key,): value for key, value in _flat(scores.get("parameters") or {})}
    # Meta-learners are fitted in the driver, on its CPU.
    metrics: dict[str, float] = {"seconds": scores["seconds"], "gpu_seconds": 0.0}
    for part in ("out_of_fold", "versus_best", "by_fusing"):
        metrics |= _score((part,), scores.get(part) or {})
    return _View(
        key=("stack", scores["name"]),
        name=f"stack {scores['name']}",
        status="FINISHED",
        start=_ms(when - scores["seconds"]),
        end=_ms(when),
        params=_texts(params),
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


def _stage_views(plan: Plan, folder: Path) -> list[_View]:
    """The trials of the search of a meta-learner's settings, over all rows."""
    path = folder / "search" / "final" / "trials.json"
    if not path.exists():
        return []
    when = _ms(path.stat().st_mtime)
    return [
        _View(
            key=("stage", f"{folder.name} {trial['number']}"),
            name=f"stage {folder.name} {trial['number']:03d}",
            status=_STATUS[trial["state"]],
            start=when,
            end=when,
            params=_texts({(key,): value for key, value in trial["params"].items()}),
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


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _texts(values: Mapping[tuple[str, ...], Any]) -> dict[str, str]:
    return {metric_name(*pieces): _text(value) for pieces, value in values.items()}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    if isinstance(value, bool | list | dict) or value is None:
        text = json.dumps(value)
    return text[:LONGEST_VALUE]


# What MLflow shows now, and the difference


def _client(uri: str) -> Any:
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # 60 lines about a new database
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _put(uri: str, run: RunDir, plan: Plan, views: Sequence[_View]) -> Synced:
    client = _client(uri)
    name = experiment_name(plan)
    store = _Store(client, _experiment(client, name, run, plan), plan.run_id)
    parent = store.put(views[0], None)
    ids = [parent, *(store.put(view, parent) for view in views[1:])]
    for view, run_id in zip(views, ids, strict=True):  # last, as they need a store of their own
        store.put_artifacts(view, run_id)
        if view.model is not None:
            store.put_model(view, run_id, run)
            if view.model == "best":
                store.tag_best_model(parent, f"runs:/{run_id}/{MODEL}")
    return Synced(_without_password(uri), name, parent, len(views) - 1)


def _experiment(client: Any, name: str, run: RunDir, plan: Plan) -> str:
    """The experiment's id; it is made where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # By default artifacts would go to the folder that a process happens to be in.
        location = None if plan.mlflow else (run.root.resolve() / "mlartifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except Exception:
            found = client.get_experiment_by_name(name)  # another run may have made it just now
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment '{name}' has been deleted: restore it "
            f"(`mlflow experiments restore --experiment-id {found.experiment_id}`) and run "
            f"`soundsweep sync {run.path}`."
        )
    return str(found.experiment_id)


class _Store:
    """The runs of one run directory in MLflow."""

    def __init__(self, client: Any, experiment: str, run_id: str) -> None:
        self.client, self.experiment, self.run_id = client, experiment, run_id
        self.runs = self._find()

    def _find(self) -> dict[tuple[str, str], Any]:
        """Parent and children by what they show; of doubles the oldest."""
        found: dict[tuple[str, str], Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`{TAG}run_id` = '{self.run_id}'",
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                found.setdefault(_key(run.data.tags), run)
            token = page.token
            if not token:
                return found

    def put(self, view: _View, parent: str | None) -> str:
        """Send what of a view is missing or differs; returns MLflow's id of the run."""
        run = self._current(view) or self._create(view, parent)
        run_id = str(run.info.run_id)
        metrics, tags = _finite(view)
        shown = run.data
        points = _point_batches(view.lines, int(shown.tags.get(SYNCED, "0")))
        finals = {k: v for k, v in metrics.items() if shown.metrics.get(k) != v}
        params = {k: v for k, v in view.params.items() if k not in shown.params}
        tags = {k: v for k, v in tags.items() if shown.tags.get(k) != v}
        for batch in _merged(points, _rest_batches(finals, params, tags)):
            self.client.log_batch(run_id, *batch, synchronous=True)
        self._set_status(run.info, view)
        return run_id

    def put_artifacts(self, view: _View, run_id: str) -> None:
        """Upload files and folders whose contents are not those that were uploaded last."""
        shown = self.runs[view.key].data.tags
        for path in view.artifacts:
            digest, tag = _digest(path), f"{TAG}artifact.{path.name}"
            if digest is None or shown.get(tag) == digest:
                continue
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), path.name)
            else:
                self.client.log_artifact(run_id, str(path))
            self.client.set_tag(run_id, tag, digest)

    def put_model(self, view: _View, run_id: str, run: RunDir) -> None:
        """Log a view's model unless it is there as it is now; one of before is put aside.

        The tag comes last: what a kill left half done is made anew.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        assert view.model is not None
        digests = [_digest(path) for path in sources(run, view.model)]
        if None in digests:  # cleaned away
            return
        digest, tag = hashlib.sha256(str(digests).encode()).hexdigest()[:32], TAG + MODEL
        if self.runs[view.key].data.tags.get(tag) == digest:
            return
        self._delete_models(run_id)
        logged = self.client.create_logged_model(
            self.experiment, MODEL, run_id, view.tags, view.params, model_type="audio tagging"
        )
        with tempfile.TemporaryDirectory() as temporary:
            folder = _save_model(run, view.model, Path(temporary), run_id, logged)
            self.client.log_model_artifacts(logged.model_id, str(folder))
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        metrics = [
            Metric(m.key, m.value, m.timestamp, m.step, logged.model_id, run_id=run_id)
            for key in view.metrics
            if key.startswith("test/")
            for m in self.client.get_metric_history(run_id, key)[-1:]
        ]
        self.client.log_batch(run_id, metrics, synchronous=True)
        self.client.set_tag(run_id, tag, digest)

    def tag_best_model(self, parent: str, address: str) -> None:
        """Name the best model on the parent."""
        tag = TAG + "best_model"
        if self.runs["run", ""].data.tags.get(tag) != address:
            self.client.set_tag(parent, tag, address)

    def _delete_models(self, run_id: str) -> None:
        for model in self.client.search_logged_models(
            [self.experiment], f"source_run_id = '{run_id}'"
        ):
            self.client.delete_logged_model(model.model_id)

    def _current(self, view: _View) -> Any:
        """The run that shows a view; a meta-learner's that was fitted anew since is put aside."""
        found = self.runs.get(view.key)
        if found is None or view.key[0] not in ("stack", "stage"):
            return found
        params = found.data.params
        if all(view.params.get(key) == value for key, value in params.items()):
            return found
        self._delete_models(found.info.run_id)
        self.client.delete_run(found.info.run_id)  # parameters cannot be changed
        return None

    def _create(self, view: _View, parent: str | None) -> Any:
        # Its tags come with it in one request: a kill afterwards leaves no run that is not found.
        kind, which = view.key
        tags = {TAG + "run_id": self.run_id}
        if parent is not None:
            tags |= {TAG + kind: which, "mlflow.parentRunId": parent}
        run = self.client.create_run(self.experiment, view.start, tags, view.name)
        self.runs[view.key] = run
        return run

    def _set_status(self, info: Any, view: _View) -> None:
        if view.status == "RUNNING":
            if info.status != "RUNNING":
                self.client.update_run(info.run_id, status="RUNNING")
            return
        end = view.end or info.start_time
        if (info.status, info.end_time) != (view.status, end):
            self.client.set_terminated(info.run_id, view.status, end)


def _save_model(run: RunDir, model: str, folder: Path, run_id: str, logged: Any) -> Path:
    """The bundle of a model as MLflow's folder of a model made from code."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    bundle = export(run, folder / "bundle", model=model)
    classes = read_json(bundle / "bundle.json")["classes"]
    # The input has no name: then a list of paths will do as well as a frame.
    outputs = [ColSpec("string", "path"), *(ColSpec("double", name) for name in classes)]
    signature = ModelSignature(
        Schema([ColSpec("string")]), Schema([*outputs, ColSpec("string", "events")])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses an example, for which there is no audio
        mlflow.pyfunc.save_model(
            str(folder / MODEL),
            python_model=str(Path(__file__).parents[1] / "models" / "pyfunc_model.py"),
            artifacts={"bundle": str(bundle)},
            signature=signature,
            pip_requirements=_requirements(),
            model_config={"device": "cpu"},
            mlflow_model=Model(
                artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id
            ),
        )
    return folder / MODEL


def _requirements() -> list[str]:
    found = []
    for name in REQUIREMENTS:
        with contextlib.suppress(PackageNotFoundError):  # a checkout that is not installed
            found.append(f"{name}=={version(name)}")
    return found


def _key(tags: Mapping[str, str]) -> tuple[str, str]:
    for kind in ("trial", "stage", "stack"):
        if TAG + kind in tags:
            return kind, tags[TAG + kind]
    return "run", ""


def _finite(view: _View) -> tuple[dict[str, float], dict[str, str]]:
    """Finite metrics, and the tags with the others among them: MLflow makes 1.8e308 of inf."""
    finite = {k: float(v) for k, v in view.metrics.items() if math.isfinite(v)}
    odd = {f"{TAG}not_finite.{k}": str(v) for k, v in view.metrics.items() if k not in finite}
    return finite, {**view.tags, **{key[:LONGEST_NAME]: value for key, value in odd.items()}}


Batch = tuple[list[Any], list[Any], list[Any]]  # metrics, parameters, tags


def _point_batches(lines: Sequence[Mapping[str, Any]], done: int) -> list[Batch]:
    """Points of the lines after the first ``done``; each batch says how many lines are done then.

    A point keeps the time that metrics.jsonl has: should it be sent twice, MLflow knows it.
    """
    from mlflow.entities import Metric, RunTag

    points = [
        (index, Metric(name, value, int(line["time"] * 1000), line["step"]))
        for index, line in enumerate(lines)
        if index >= done
        for name, value in _points(line)
    ]
    batches: list[Batch] = []
    for start in range(0, len(points), POINTS):
        after = points[start + POINTS][0] if start + POINTS < len(points) else len(lines)
        metrics = [point for _, point in points[start : start + POINTS]]
        batches.append((metrics, [], [RunTag(SYNCED, str(after))]))
    return batches


def _points(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    head = f"fold{line['fold']}" if line["fold"] else "epoch"
    for key, value in line.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key not in ("fold", "step", "time") and is_number and math.isfinite(value):
            yield metric_name(head, key), float(value)


def _rest_batches(
    finals: Mapping[str, float], params: Mapping[str, str], tags: Mapping[str, str]
) -> list[Batch]:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)  # the latest is the one that is shown
    metrics = [Metric(key, value, now, 0) for key, value in finals.items()]
    parameters = [Param(key, value) for key, value in params.items()]
    labels = [RunTag(key, value) for key, value in tags.items()]
    return [
        (list(some), list(other), list(third))
        for some, other, third in itertools.zip_longest(
            _chunks(metrics, FINALS), _chunks(parameters, PARAMS), _chunks(labels, TAGS),
            fillvalue=(),
        )
    ]  # fmt: skip


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _merged(points: Sequence[Batch], rest: Sequence[Batch]) -> Iterator[Batch]:
    """Both in as few requests as MLflow's limits allow."""
    nothing: Batch = ([], [], [])
    for one, other in itertools.zip_longest(points, rest, fillvalue=nothing):
        yield one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _digest(path: Path) -> str | None:
    """A digest of a file, or of a folder's files and their names; ``None`` if there is nothing."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(path.parent)}\n{content}\n".encode())
    except FileNotFoundError:  # not written yet, or just being written anew
        return None
    return digest.hexdigest()[:32] if files else None


# Locks and liveness


@contextlib.contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    """One sync of a run at a time: two would each create the runs that both find missing."""
    try:
        file = open(run.path / "tracking.lock", "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"no lock can be made in {run.path}: {error.strerror}.") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_driven(run: RunDir, but_by: int | None = None) -> bool:
    """Whether a driver other than process ``but_by`` is alive on this machine.

    Read, not locked: a lock held for a moment would turn a driver away that starts in it.
    """
    try:
        about = json.loads((run.path / "driver").read_text(encoding="utf-8"))
        pid = int(about["pid"])
    except (OSError, ValueError, KeyError):
        return False
    if about.get("host") != socket.gethostname() or pid == but_by:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _without_password(uri: str) -> str:
    return re.sub(r"(//[^/@]*):[^/]*@", r"\1:***@", uri)


def _first_line(error: BaseException, uri: str) -> str:
    text = str(error).replace(uri, _without_password(uri)).strip() or type(error).__name__
    line = re.sub(r"0x[0-9a-f]+", "0x...", text.splitlines()[0])  # addresses differ each time
    cause = re.search(r"\(Caused by \w+\((.*)\)\)$", line)  # of requests: the rest is the address
    line = cause[1].strip("\"'") if cause else line
    return line if len(line) <= 300 else line[:300] + "..."


# The process beside the driver


class Projector:
    """While it is entered, a process of its own keeps MLflow up to date with a run directory.

    Neither starting, failing nor ending it raises. After the end ``problem`` is one line for the
    user if MLflow is not up to date, else ``None``.
    """

    def __init__(
        self, run: RunDir, plan: Plan, *, interval: float = INTERVAL, patience: float = PATIENCE
    ) -> None:
        """Args:
        run: the run directory; the process writes to its ``tracking.log``.
        plan: its plan.
        interval: seconds between two syncs.
        patience: seconds that the end waits for the last sync.
        """
        self.run, self.uri = run, _without_password(tracking_uri(run, plan))
        self.interval, self.patience = interval, patience + A_STACK * len(plan.stack)
        self.log = run.path / "tracking.log"
        self.problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Projector:
        try:
            with open(self.log, "ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "orchestrator.tracking", str(self.run.path),
                     "--follow", "--interval", str(self.interval)],
                    stdin=subprocess.PIPE, stdout=log, stderr=log, env=_environment(),
                    start_new_session=True,  # Ctrl-C is the driver's affair
                )  # fmt: skip
        except OSError as error:
            self.problem = self._say(f"its process could not be started: {error}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it may have died
            process.stdin.write(b"end\n")  # a fork of the driver may hold the pipe open
            process.stdin.close()
        try:
            code = process.wait(self.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.problem = self._say(f"it was not done within {self.patience:g} s")
            return
        if code != 0:
            self.problem = self._say(self._last_error() or f"see {self.log}")

    def _say(self, why: str) -> str:
        return (
            f"MLflow at {self.uri} is not up to date ({why}). Nothing is lost: run "
            f"`soundsweep sync {self.run.path}`."
        )

    def _last_error(self) -> str | None:
        """Why the last sync failed, from the log."""
        text = self.log.read_bytes()[self._log_start :].decode(errors="replace")
        found = re.findall(r"could not be brought up to date: (.*?)\. Nothing is lost", text)
        return found[-1] if found else None


def _environment() -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    here = Path(__file__).resolve().parents[2]
    if here.name not in ("site-packages", "dist-packages"):  # a checkout that may not be installed
        paths = [str(here), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def follow(run: RunDir, interval: float = INTERVAL, pipe: IO[bytes] | None = None) -> int:
    """Sync again and again until the pipe from the driver ends, then once more.

    Args:
        run: the run directory.
        interval: seconds between two syncs; after a slow one more.
        pipe: by default standard input.

    Returns:
        0 if the last sync succeeded, else 1. Errors are logged, once a change.
    """
    stream = pipe or sys.stdin.buffer
    parent, seen, problem = os.getppid(), None, None
    pause = 0.0
    while not _has_ended(stream, pause, parent):
        began, state = time.monotonic(), _signature(run)
        if state != seen or problem is not None:
            problem = _try(run, None, problem)
            seen = state
        rest = min(SHARE * (time.monotonic() - began), LONGEST_PAUSE)
        pause = max(interval, rest)
    return 0 if _try(run, _is_driven(run, but_by=parent), problem) is None else 1


def _has_ended(stream: IO[bytes], pause: float, parent: int) -> bool:
    """Wait; whether the driver has said that it ends, closed the pipe or died."""
    ready, _, _ = select.select([stream], [], [], pause)
    return bool(ready) or os.getppid() != parent


def _try(run: RunDir, driving: bool | None, before: str | None) -> str | None:
    """Sync and log what changed; returns the problem, if there is one."""
    try:
        sync(run, driving=driving)
    except UserError as error:
        problem, details = str(error), ""
    except Exception as error:  # also a file that is just being written: the next one may succeed
        problem, details = f"{type(error).__name__}: {error}", "\n" + traceback.format_exc()
    else:
        if before is not None:
            _log("MLflow is up to date again")
        return None
    if problem != before:
        _log(problem + details)
    return problem


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def _signature(run: RunDir) -> list[tuple[str, int, int]]:
    """Names, times and sizes of the files that are shown."""
    patterns = ("*.json", "study.log", "trials/*/metrics.jsonl", "trials/*/*.json",
                "trials/*/attempts/*.json", "trials/*/refit/predictions/*",
                "stack/*/*", "report/*")  # fmt: skip
    found = []
    for path in itertools.chain.from_iterable(map(run.path.glob, patterns)):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m orchestrator.tracking RUN [--follow]``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator.tracking", description=main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--follow", action="store_true", help="until standard input ends")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between syncs")
    given = parser.parse_args(arguments)
    run = RunDir(given.run.resolve())
    if given.follow:
        os.nice(10)  # the training comes first
        return follow(run, given.interval)
    try:
        done = sync(run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"MLflow: {done.uri}, experiment '{done.experiment}', {done.children} runs below the run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
