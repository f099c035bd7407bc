"""A system without gradients: features of each clip, and an estimator of scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from systems.clip_features import ClipFeatures
from systems.context import Context
from systems.data.dataset import AUDIO, LabelKind
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.data.store import Channels
from systems.errors import UserError
from systems.files import write_whole
from systems.predictions import Predictions
from systems.system import Input, Sounds, Undecided
from systems.training.history import History

VALUES = "values"

# What of scikit-learn's and ours skops may load beside its own list.
TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",  # which is looked at: see ``check_trees``
    "systems.bags.BagOfWords",
    "systems.presence.AsItIs",
    "systems.presence.Presence",
    "systems.rlda.RldaCosine",
    "systems.selection.Nearest",
    "systems.selection.TopByImportance",
)


class EstimatorSystem:
    """Features of a clip, and an estimator over them.

    Args:
        features: of a clip, of any shape that the estimator takes in a list.
        estimator: a fresh estimator of scikit-learn: of classes with ``predict_proba``, of values
            one whose ``predict`` gives [N, D].
    """

    selects = None
    keeps = 1

    def __init__(self, *, features: ClipFeatures, estimator: Callable[[int], Any]) -> None:
        self.features = features
        self._estimator = estimator

    least_seconds = 0.0
    columns = ()

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Nothing is."""
        return ""

    def inputs(self) -> dict[str, Input]:
        return self.features.inputs

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedEstimator:
        """Fit the estimator on the labelled clips; it is a function of the context's seed."""
        assert data.labelled.targets is not None
        features = self.features.taught(data, context)
        made = features.of(data.labelled.clip_ids, sounds, context)
        estimator = self._estimator(context.seed % 2**32)
        targets = data.labelled.targets
        estimator.fit(made, targets if data.kind == VALUES else targets.argmax(axis=1))
        return FittedEstimator(features, estimator, data.classes, History(), data.kind)

    def load(self, folder: Path) -> FittedEstimator:
        """What :meth:`FittedEstimator.save` wrote; nothing else is loaded from it."""
        import skops.io

        about = json.loads((folder / "model.json").read_text())
        content = (folder / "estimator.skops").read_bytes()
        unknown = set(skops.io.get_untrusted_types(data=content)) - {*TRUSTED}
        if unknown:
            raise UserError(f"{folder} holds types that are not loaded: {', '.join(unknown)}.")
        estimator = skops.io.loads(content, trusted=list(TRUSTED))
        check_trees(estimator, folder)
        features, classes = self.features.load(folder), tuple(about["classes"])
        return FittedEstimator(features, estimator, classes, History(), about["kind"])

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> None:
        """It has no steps."""

    def network(self, classes: int) -> None:
        """It has none."""


def check_trees(estimator: Any, folder: Path) -> None:
    """Walking a tree trusts its file: a child that lies elsewhere would read foreign memory, one
    that lies above would never end.

    Raises:
        UserError: a tree that scikit-learn cannot have written.
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    for forest in (step for step in steps if type(step).__name__ == "RandomForestClassifier"):
        for one in forest.estimators_:
            tree = one.tree_
            place = np.arange(tree.node_count)
            leaf = tree.children_left < 0
            later = np.minimum(tree.children_left, tree.children_right) > place
            there = np.maximum(tree.children_left, tree.children_right) < tree.node_count
            known = (tree.feature >= 0) & (tree.feature < forest.n_features_in_)
            if not np.all(leaf == (tree.children_right < 0)) or not np.all(
                leaf | (later & there & known)
            ):
                raise UserError(f"{folder} holds a tree that does not fit together.")


@dataclass(frozen=True)
class FittedEstimator(Undecided):
    """A fitted estimator over the features of clips."""

    features: ClipFeatures
    estimator: Any
    classes: tuple[str, ...]
    history: History
    kind: LabelKind = "class"

    frame_hop = None
    frame_start = 0.0

    @property
    def _first(self) -> Input:
        return next(iter(self.features.inputs.values()))

    @property
    def rate(self) -> int:
        return self._first.rate

    @property
    def channels(self) -> Channels:
        return self._first.channels

    @property
    def tracks(self) -> dict[str, Input]:
        """The tracks that it hears by name; of one that hears clips themselves none."""
        return {n: one for n, one in self.features.inputs.items() if one.track != AUDIO}

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """Clip scores, or values, of some clips."""
        name, said = self._said(clip_ids, sounds, context)
        return Predictions.of(clip_ids, self.classes, fold, **{name: said})

    def score(self, waveforms: Sequence[Any], context: Context) -> tuple[np.ndarray, None]:
        """Clip scores (values) [B, K] of waveforms [S] that are in no store, or of tracks."""
        names = tuple(map(str, range(len(waveforms))))
        tracks = [one if isinstance(one, Mapping) else {"audio": one} for one in waveforms]
        sounds = {
            name: Waveforms(
                one.rate, dict(zip(names, (t[name] for t in tracks), strict=True)), one.prepare
            )
            for name, one in self.features.inputs.items()
        }
        return self._said(names, sounds, context)[1], None

    def _said(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context
    ) -> tuple[str, np.ndarray]:
        """Its answer [N, K] to the labels, and what predictions call it."""
        made = self.features.of(clip_ids, sounds, context)
        if self.kind != VALUES:
            return "clip_scores", self._scores(made)
        values = np.asarray(self.estimator.predict(made), np.float32)
        return "clip_values", values.reshape(len(made), len(self.classes))

    def _scores(self, made: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities [N, K]; of a class that no training clip had, zero (or what the estimator
        says is the ``lowest`` score)."""
        lowest = getattr(self.estimator, "lowest", 0.0)
        scores = np.full((len(made), len(self.classes)), lowest, np.float32)
        scores[:, self.estimator.classes_] = self.estimator.predict_proba(list(made))
        return scores

    def save(self, folder: Path) -> None:
        """The estimator by skops, the rest as JSON, and for people what the estimator says that it
        has ``chosen``."""
        import skops.io

        about: dict[str, Any] = {"classes": self.classes, "kind": self.kind}
        if chosen := getattr(self.estimator, "chosen", None):
            about["chosen"] = chosen
        self.features.save(folder)
        write_whole(folder / "estimator.skops", skops.io.dumps(self.estimator))
        write_whole(folder / "model.json", json.dumps(about, indent=1))
