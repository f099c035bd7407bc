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
``mlflow.pyfunc.load_model("runs:/RUN_ID/model")`` loads it without pickles
(``models/pyfunc_model.py``). The run's tag ``soundsweep.best_model`` is the best one's address.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.plan import Plan, load_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.client import first_line, make_client, tracking_uri, without_password
from orchestrator.tracking.models import MODEL
from orchestrator.tracking.store import Store
from orchestrator.tracking.views import View, read_views
from systems.errors import UserError


@dataclass(frozen=True)
class Synced:
    """What a sync brought up to date; ``uri`` is without a password."""

    uri: str
    experiment: str
    parent_run_id: str
    children: int


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
        views = read_views(run, plan, run.is_driven() if driving is None else driving)
        uri = tracking_uri(run, plan)
        try:
            return _put(uri, run, plan, views)
        except UserError:
            raise
        except Exception as error:
            # Stores raise what their client libraries raise: SQLAlchemy, requests, boto, ...
            raise UserError(
                f"MLflow at {without_password(uri)} could not be brought up to date: "
                f"{first_line(error, uri)}. Nothing is lost: when it is reachable, run "
                f"`soundsweep sync {run.path}`."
            ) from error


def _put(uri: str, run: RunDir, plan: Plan, views: Sequence[View]) -> Synced:
    client = make_client(uri)
    name = experiment_name(plan)
    store = Store(client, _experiment(client, name, run, plan), plan.run_id)
    parent = store.put(views[0], None)
    ids = [parent, *(store.put(view, parent) for view in views[1:])]
    for view, run_id in zip(views, ids, strict=True):  # last, as they need a store of their own
        store.put_artifacts(view, run_id)
        if view.model is not None:
            store.put_model(view, run_id, run)
            if view.model == "best":
                store.tag_best_model(parent, f"runs:/{run_id}/{MODEL}")
    return Synced(without_password(uri), name, parent, len(views) - 1)


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
