"""MLflow as an idempotent projection of the run directory; nothing else here talks to MLflow.

The run directory is the truth. :func:`sync` looks at what MLflow shows of it and sends what
differs, so it may be called at any time, any number of times, and a store that was down or lost is
made whole again. :class:`Projector` keeps a process beside the driver that does so every few
seconds; a tracking server that is down costs the training nothing.

What is shown: one experiment per data set, in it a run per run directory, and below it a run per
trial and per meta-learner, of all systems. They are known by their tags, never by MLflow's ids::

    soundsweep.run_id    the plan's run_id
    soundsweep.trial     number of the trial
    soundsweep.stack     name of the meta-learner
    soundsweep.stage     meta-learner and number of a trial of the search of its settings
    soundsweep.state     complete, stopped, diverged, failed, running or interrupted

A trial that the pruner stopped is FINISHED, with ``stopped`` as its state: its figures are good,
only short. One that diverged or failed is FAILED. RUNNING is shown only while a driver is alive,
here or on another node; what a kill left behind is KILLED until it is resumed.

Names of metrics: the searched metric's own NAME is a trial's value, the best trial's on the run,
and a meta-learner's out of fold; ``epoch/NAME`` (of fold 0; ``fold1/NAME`` of further folds) over
the epochs; ``search/...`` and ``cost/...`` of runs and trials; ``versus_best`` and ``by_fusing``
(against the same on the best member alone) and ``versus_trivial`` of a meta-learner;
``trivial/NAME`` of the run, what one reaches who hears nothing (``trivial/test/NAME`` on the test
part); ``test/NAME`` wherever predictions of
the test part were scored, ``test/NAME/SUBSET`` on a subset of it (``device=b+c``),
``test_PART/NAME`` on a further test part, ``test_variant/VARIANT/NAME`` under other decisions and
``test_class/CLASS/NAME`` by class (``test_transductive...`` where the sound of the test part was
used); ``out_of_fold/NAME`` of members, and of the best one on the run. The ends of a 95 % interval
are ``.../low`` and ``.../high``.

Once the test part is scored, the best model and the meta-learner that is best out of fold are
logged as models of MLflow (others when they are asked for: each is a copy of all its members), each
named ``model`` below its own run (the best trial's, the meta-learner's), so that
``mlflow.pyfunc.load_model("runs:/RUN_ID/model")`` loads it without pickles
(``models/pyfunc_model.py``). The run's tag ``soundsweep.best_model`` is the best one's address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import (
    NOWHERE,
    first_line,
    make_client,
    tracking_uri,
    without_password,
)
from orchestrator.tracking.record import Synced, note, noted, state_of
from systems.errors import UserError, unknown
from systems.files import lock


def sync(run: RunDir, *, driving: bool | None = None, models: Sequence[str] = ()) -> Synced:
    """Bring MLflow up to date with the present state of a run directory.

    Args:
        run: the run directory; only its ``tracking.lock`` and ``tracking.json`` are written.
        driving: whether a driver works on it; ``None`` looks whether one is alive.
        models: meta-learners whose models are logged beside the best one's.

    Raises:
        UserError: there is no plan, no such meta-learner, or the store cannot be reached or
            refuses; what was sent stays, and the next sync sends the rest.
    """
    if not run.plan_file.exists():
        raise UserError(f"{run.path} holds no run: it has no plan.json.")
    if tracking_uri(run) == NOWHERE:
        raise UserError(
            f"{run.path} was planned with --mlflow {NOWHERE}: go on with it with another --mlflow."
        )
    with _locked(run):
        driven = run.is_driven() if driving is None else driving
        uri = tracking_uri(run)
        state = state_of(run, uri, driven)  # before it is read: what changes meanwhile is sent next
        known = noted(run, state, uri, models)
        if known is not None:
            return known
        try:
            synced = _put(uri, run, driven, models)
        except UserError:
            raise
        except Exception as error:
            # Stores raise what their client libraries raise: SQLAlchemy, requests, boto, ...
            raise UserError(
                f"MLflow at {without_password(uri)} could not be brought up to date: "
                f"{first_line(error, uri)}. Nothing is lost: when it is reachable, run "
                f"`soundsweep sync {run.path}`."
            ) from error
        note(run, state, synced, models)
        return synced


def _put(uri: str, run: RunDir, driven: bool, models: Sequence[str]) -> Synced:
    from orchestrator.tracking.experiment import experiment_name, open_experiment
    from orchestrator.tracking.models import LOGGED, MODEL, Models
    from orchestrator.tracking.moved import follow_root
    from orchestrator.tracking.names import TAG
    from orchestrator.tracking.store import Store
    from orchestrator.tracking.views import best_models, read_views

    plan = run.plan
    views = read_views(run, driven)
    there = [view.model for view in views if view.model]
    for name in set(models) - set(there):
        raise unknown("model of a run whose test part is scored:", name, there)
    wanted = {*best_models(plan, views), *models}
    if plan.mlflow is None:
        follow_root(run)
    client = make_client(uri)
    experiment = open_experiment(client, run)
    store = Store(client, experiment, plan)
    parent = store.put(views[0], None)
    ids = [parent, *(store.put(view, parent) for view in views[1:])]
    logged = Models(client, experiment, run)
    for view, run_id in zip(views, ids, strict=True):  # last, as they need a store of their own
        store.put_artifacts(view, run_id, verify=not driven)
        shown = store.tags(view)
        if view.model is not None and (view.model in wanted or LOGGED in shown):
            logged.put(view, run_id, shown)
            if view.model == "best":
                store.set_tag(views[0], TAG + "best_model", f"runs:/{run_id}/{MODEL}")
    return Synced(without_password(uri), experiment_name(plan), experiment, parent, len(views) - 1)


@contextlib.contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    """One sync of a run at a time: two would each create the runs that both find missing."""
    try:
        file = open(run.path / "tracking.lock", "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"no lock can be made in {run.path}: {error.strerror}.") from error
    with file:
        lock(file)
        yield
