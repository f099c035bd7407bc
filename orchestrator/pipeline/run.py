"""A run as an object: its plan, results, models and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

if TYPE_CHECKING:  # these load torch
    from orchestrator.models.inference import Predictor
    from systems.predictions import Predictions

Part = Literal["test", "out_of_fold"]


@dataclass(frozen=True)
class Results:
    """The numbers of a run: ``raw`` is its results.json, whose schema is in docs/results.md."""

    raw: dict[str, Any]

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial: number, state, value, and each searched value by its key."""
        rows = [{**{k: t[k] for k in ("number", "state", "value", "best_step", "seconds")},
                 **t["params"]} for t in self.raw["trials"]]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def test(self) -> pd.DataFrame:
        """A row for each model that was scored on the test part, a column for each metric."""
        return pd.DataFrame(
            {"who": row["who"], "variant": row["variant"], "learner": row["learner"],
             **{name: score["value"] for name, score in row["metrics"].items()}}
            for row in (self.raw["test"] or {"rows": []})["rows"]
        )  # fmt: skip

    @property
    def stack(self) -> pd.DataFrame:
        """A row for each meta-learner: out-of-fold value, gain over the best member, its claim."""
        return pd.DataFrame(
            {"name": row["name"], "title": row["title"], "value": row["out_of_fold"]["value"],
             "gain": row["versus_best"]["value"], "low": row["versus_best"]["low"],
             "high": row["versus_best"]["high"],
             "claimed": None if row["compared"] is None else row["compared"]["claims"]}
            for row in self.raw["stack"]
        )  # fmt: skip

    @property
    def paper(self) -> pd.DataFrame:
        """A row for each published figure, ours beside it or the reason why there is none."""
        return pd.DataFrame(
            {**row, "ours": row["ours"] and row["ours"]["value"]} for row in self.raw["paper"]
        )


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same clips.

    ``runs``: their names. ``settings``: what was asked for otherwise: key -> (first, second).
    ``rows``: a row for each figure that both have: part, who, metric, either value, and the paired
    ``difference`` (second - first) between ``low`` and ``high``, its 95 % interval.
    """

    runs: tuple[str, str]
    settings: dict[str, tuple[Any, Any]]
    rows: pd.DataFrame


class Run:
    """A run directory, as far as it has come. Nothing is read before it is asked for.

    ``interrupted``: whether the call that gave this object was ended by a signal.
    """

    def __init__(self, path: Path, *, interrupted: bool = False) -> None:
        self.path = Path(path)
        self.interrupted = interrupted

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def files(self) -> RunDir:
        """Its directory, read anew: a run may go on meanwhile."""
        return RunDir(self.path)

    @property
    def plan(self) -> Plan:
        """What was asked for, resolved. Raises UserError where it cannot be read."""
        return self.files.plan

    @property
    def results(self) -> Results:
        """The numbers so far. Raises UserError where none have been written."""
        if not self.files.results.exists():
            raise UserError(f"{self.path} has no results.json yet: `soundsweep report` writes it.")
        return Results(read_json(self.files.results))

    def report(self) -> Path:
        """Write results.json and the report again; returns its page."""
        from orchestrator.report.report import write_report

        return write_report(self.files)

    def models(self) -> tuple[str, ...]:
        """The names of its finished models: ``best``, ``best:VARIANT``, ``trial:N``, learners."""
        from orchestrator.models.bundle import finished_models

        return finished_models(self.files)

    def model(self, name: str = "best", device: str = "cpu") -> Predictor:
        """A model that predicts any audio file.

        Raises:
            UserError: there is no such model, or the run has not come so far.
        """
        from orchestrator.models.bundle import export
        from orchestrator.models.inference import Predictor

        with TemporaryDirectory() as folder:
            return Predictor.load(export(self.files, Path(folder) / "model", model=name), device)

    def predictions(self, name: str = "best", part: Part = "test") -> Predictions:
        """What a model says of the test part, or of the validation clips (``out_of_fold``).

        Raises:
            UserError: there is no such model, or the run has not come so far.
        """
        from orchestrator.models.said import predictions_of

        return predictions_of(self.files, name, part)
