"""The code of the models that are logged to MLflow: a bundle as a pyfunc model, without pickles.

MLflow runs this file when it saves and when it loads a model (``tracking/models.py`` logs them). In
use::

    model = mlflow.pyfunc.load_model("runs:/RUN_ID/model")  # model_config={"device": "cuda"}
    model.predict(pandas.DataFrame({"path": ["a.wav", "b.flac"]}))
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from orchestrator.models.inference import Predictor


class SoundModel(PythonModel):
    """Audio files -> scores and events, or values over time."""

    def load_context(self, context: Any) -> None:
        device = (context.model_config or {}).get("device", "cpu")
        self.predictor = Predictor.load(Path(context.artifacts["bundle"]), device)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """One row a file: ``path``, the score of each class, ``events`` as JSON; of a series
        ``path``, ``time`` (s) and each output, whose cells are lists of a value a step.

        Args:
            context: of MLflow; not used.
            model_input: paths of audio files in one column; MLflow makes it of a list too.
            params: of MLflow; there are none.

        Raises:
            systems.errors.UserError: one error that names every file that cannot be used.
        """
        paths = list(model_input.iloc[:, 0])
        said = self.predictor.predict_files(paths)
        if self.predictor.over_time:
            series = [{"path": one.file, **one.series.columns()} for one in said if one.series]
            return pd.DataFrame(series, columns=["path", "time", *self.predictor.classes])
        rows = [
            {"path": found.file, **found.tags,
             "events": json.dumps(found.events_as_json())}
            for found in said
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["path", *self.predictor.classes, "events"])


set_model(SoundModel())
