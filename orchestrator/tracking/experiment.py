"""The experiment in which all runs on a data set stand: its name, its kind, its table."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.moved import own_artifacts
from orchestrator.tracking.names import VIEW, metric_name, table_page
from systems.errors import UserError

SHARED_VIEW = f"mlflow.sharedViewState.{VIEW}"
KIND = "mlflow.experimentKind"  # without it the page begins with traces of language models
MODEL_TRAINING = "custom_model_development"
NOTE = "mlflow.note.content"
FEW, MOST = 5, 16  # columns: parameters of a system, and in all;
LONGEST = 60  # characters of their names: MLflow takes 5,000 for the whole view
FIRST = ("0", "attributes.`Run Name`", "runDateAndNestInfo", "duration")  # the page's own columns


def experiment_name(plan: Plan) -> str:
    """All systems on a data set stand side by side, and stacks over them."""
    return f"soundsweep/{plan.dataset}"


def open_experiment(client: Any, run: RunDir) -> str:
    """The id of the experiment, which is made where it is missing and told its kind and columns.

    Raises:
        UserError: it has been deleted.
    """
    plan = run.plan
    name = experiment_name(plan)
    found = client.get_experiment_by_name(name) or _create(client, name, run)
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment '{name}' has been deleted: restore it "
            f"(`mlflow experiments restore --experiment-id {found.experiment_id}`) and run "
            f"`soundsweep sync {run.path}`."
        )
    number = str(found.experiment_id)
    view = table_view(plan, found.tags.get(SHARED_VIEW))
    wanted = {KIND: MODEL_TRAINING, NOTE: _note(plan, number)}
    missing = {key: value for key, value in wanted.items() if key not in found.tags}
    if found.tags.get(SHARED_VIEW) != view:
        missing[SHARED_VIEW] = view
    for key, value in missing.items():
        client.set_experiment_tag(number, key, value)
    return number


def _create(client: Any, name: str, run: RunDir) -> Any:
    # By default artifacts would go to the folder that a process happens to be in.
    plan = run.plan
    location = None if plan.mlflow else own_artifacts(run)
    try:
        client.create_experiment(name, artifact_location=location)
    except Exception:
        if client.get_experiment_by_name(name) is None:  # another run may have made it just now
            raise
    return client.get_experiment_by_name(name)


def _note(plan: Plan, experiment: str) -> str:
    return (
        f"All trials, meta-learners and runs of all systems on {plan.dataset}. "
        f"[The table with its metrics, the best first]({table_page(experiment)})"
    )


def table_view(plan: Plan, shown: str | None) -> str:
    """The table's columns as the page keeps them: JSON, with those that other runs have added.

    MLflow's own choice shows neither metrics nor parameters. The rows are sorted by the metric.

    Args:
        plan: of the run whose metric and first searched parameters become columns too.
        shown: the columns so far.
    """
    metric = metric_name(plan.metric)
    columns = [
        _column("attributes", "Models"),
        _column("metrics", metric),
        _column("metrics", f"test/{metric}"),
        _column("params", "system"),
    ]
    keys = [metric_name(parameter.key) for parameter in plan.space[:FEW]]
    params = [_column("params", key) for key in keys if len(key) <= LONGEST]
    view: dict[str, Any] = {}
    with contextlib.suppress(ValueError, TypeError):  # one that a person has saved in its place
        view = dict(json.loads(shown or "{}"))
    order = {"orderByKey": _column("metrics", metric), "orderByAsc": plan.mode == "min"}
    known = view.get("selectedColumns", [])
    chosen = known + [column for column in columns if column not in known]
    chosen += [column for column in params if column not in chosen][: max(0, MOST - len(chosen))]
    widths = {_column("attributes", "Run Name"): 300, _column("params", "system"): 200}
    return json.dumps(
        {
            **order,
            **view,
            "selectedColumns": chosen,
            "columnOrder": [*FIRST, *chosen],
            "columnWidths": dict.fromkeys(chosen, 140) | widths,
        }
    )


def _column(kind: str, key: str) -> str:
    return f"{kind}.`{key}`"
