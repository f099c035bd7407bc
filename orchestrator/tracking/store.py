"""The runs of a run directory in MLflow, and what of them is missing or differs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.models.bundle import sources
from orchestrator.runs.rundir import RunDir
from orchestrator.tracking.batches import finite, merged, point_batches, rest_batches
from orchestrator.tracking.models import MODEL, save_model
from orchestrator.tracking.names import SYNCED, TAG
from orchestrator.tracking.views import View

PAGE = 200  # runs asked for at once


class Store:
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
        self._set_status(run.info, view)
        return run_id

    def put_artifacts(self, view: View, run_id: str) -> None:
        """Upload files and folders whose contents are not those that were uploaded last."""
        shown = self.runs[view.key].data.tags
        for path in view.artifacts:
            digest, tag = digest_of(path), f"{TAG}artifact.{path.name}"
            if digest is None or shown.get(tag) == digest:
                continue
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), path.name)
            else:
                self.client.log_artifact(run_id, str(path))
            self.client.set_tag(run_id, tag, digest)

    def put_model(self, view: View, run_id: str, run: RunDir) -> None:
        """Log a view's model unless it is there as it is now; one of before is put aside.

        The tag comes last: what a kill left half done is made anew.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        assert view.model is not None
        digests = [digest_of(path) for path in sources(run, view.model)]
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
            folder = save_model(run, view.model, Path(temporary), run_id, logged)
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

    def _current(self, view: View) -> Any:
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

    def _create(self, view: View, parent: str | None) -> Any:
        # Its tags come with it in one request: a kill afterwards leaves no run that is not found.
        kind, which = view.key
        tags = {TAG + "run_id": self.run_id}
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


def _key(tags: Mapping[str, str]) -> tuple[str, str]:
    for kind in ("trial", "stage", "stack"):
        if TAG + kind in tags:
            return kind, tags[TAG + kind]
    return "run", ""


def digest_of(path: Path) -> str | None:
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
