"""The runs of a run directory in MLflow, and what of them is missing or differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.plan.plan import Plan
from orchestrator.tracking.batches import finite, merged, point_batches, rest_batches
from orchestrator.tracking.models import delete_models, digest_of
from orchestrator.tracking.moved import ARTIFACT
from orchestrator.tracking.names import SYNCED, TAG
from orchestrator.tracking.views import View

PAGE = 200  # runs asked for at once


class Store:
    """The runs of one run directory in MLflow."""

    def __init__(self, client: Any, experiment: str, plan: Plan) -> None:
        self.client, self.experiment, self.plan = client, experiment, plan
        self.runs = self._find()

    def _find(self) -> dict[tuple[str, str], Any]:
        """Parent and children by what they show; of doubles the oldest."""
        found: dict[tuple[str, str], Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`{TAG}run_id` = '{self.plan.run_id}'",
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                found.setdefault(_key(run.data.tags), run)
            token = page.token
            if not token:
                return found

    def put(self, view: View, parent: str | None) -> str:
        """Send what of a view is missing or differs; returns MLflow's id of the run."""
        run = self._current(view) or self._create(view, parent)
        run_id = str(run.info.run_id)
        metrics, tags = finite(view)
        shown = run.data
        points = point_batches(view.lines, int(shown.tags.get(SYNCED, "0")))
        finals = {k: v for k, v in metrics.items() if shown.metrics.get(k) != v}
        params = {k: v for k, v in view.params.items() if k not in shown.params}
        tags = {k: v for k, v in tags.items() if shown.tags.get(k) != v}
        for batch in merged(points, rest_batches(finals, params, tags)):
            self.client.log_batch(run_id, *batch, synchronous=True)
        if not run.inputs.dataset_inputs:
            self.client.log_inputs(run_id, [_dataset(self.plan)])
        self._set_status(run.info, view)
        return run_id

    def put_artifacts(self, view: View, run_id: str, *, verify: bool) -> None:
        """Upload files and folders whose contents are not those that were uploaded last.

        ``verify``: also those whose upload is not there any more, whatever the tags say.
        """
        from mlflow.entities import RunTag

        shown, uploaded = self.runs[view.key].data.tags, []
        claimed = any(tag.startswith(ARTIFACT) for tag in shown)
        there = self._artifacts(run_id) if verify and claimed else None
        for path in view.artifacts:
            digest, tag = digest_of(path), f"{ARTIFACT}{path.name}"
            is_there = there is None or path.name in there
            if digest is None or (shown.get(tag) == digest and is_there):
                continue
            uploaded.append(RunTag(tag, digest))
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), path.name)
            else:
                self.client.log_artifact(run_id, str(path))
        if uploaded:
            self.client.log_batch(run_id, tags=uploaded, synchronous=True)

    def _artifacts(self, run_id: str) -> set[str]:
        return {file.path for file in self.client.list_artifacts(run_id)}

    def tags(self, view: View) -> dict[str, str]:
        """The tags that a run had before it was put."""
        return dict(self.runs[view.key].data.tags)

    def set_tag(self, view: View, tag: str, value: str) -> None:
        """Set a tag unless it is so already."""
        run = self.runs[view.key]
        if run.data.tags.get(tag) != value:
            self.client.set_tag(run.info.run_id, tag, value)

    def _current(self, view: View) -> Any:
        """The run that shows a view; a meta-learner's that was fitted anew since is put aside."""
        found = self.runs.get(view.key)
        if found is None or view.key[0] not in ("stack", "stage"):
            return found
        params = found.data.params
        if all(view.params.get(key) == value for key, value in params.items()):
            return found
        delete_models(self.client, self.experiment, found.info.run_id)
        self.client.delete_run(found.info.run_id)  # parameters cannot be changed
        return None

    def _create(self, view: View, parent: str | None) -> Any:
        # Its tags come with it in one request: a kill afterwards leaves no run that is not found.
        kind, which = view.key
        tags = {TAG + "run_id": self.plan.run_id}
        if parent is not None:
            tags |= {TAG + kind: which, "mlflow.parentRunId": parent}
        run = self.client.create_run(self.experiment, view.start, tags, view.name)
        self.runs[view.key] = run
        return run

    def _set_status(self, info: Any, view: View) -> None:
        if view.status == "RUNNING":
            if info.status != "RUNNING":
                self.client.update_run(info.run_id, status="RUNNING")
            return
        end = view.end or info.start_time
        if (info.status, info.end_time) != (view.status, end):
            self.client.set_terminated(info.run_id, view.status, end)


def _dataset(plan: Plan) -> Any:
    """What a run was trained on, for the table's column of data sets."""
    from mlflow.entities import Dataset, DatasetInput

    source = json.dumps({"uri": plan.data or "embedded"})
    return DatasetInput(Dataset(plan.dataset, plan.fingerprint, "local", source))


def _key(tags: Mapping[str, str]) -> tuple[str, str]:
    for kind in ("trial", "stage", "stack"):
        if TAG + kind in tags:
            return kind, tags[TAG + kind]
    return "run", ""
