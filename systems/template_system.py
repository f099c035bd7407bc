"""A system that trains nothing: what is heard is set against templates, and the best answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import load_file, save

from systems.context import Context
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.files import write_whole
from systems.kinds.direction import angles
from systems.predictions import Predictions
from systems.system import Input, Sounds, Undecided
from systems.training.history import History

Arrays = Mapping[str, np.ndarray]


class Matcher(Protocol):
    """How two-channel sound is set against K templates. ``learns``: whether it needs dry speech."""

    @property
    def learns(self) -> bool: ...

    def fit(
        self, templates: np.ndarray, degrees: np.ndarray, speech: Iterable[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What it keeps of templates [K, 2, N], their angles [K] and dry sounds [S]."""
        ...

    def scores(self, kept: Arrays, heard: np.ndarray) -> np.ndarray:
        """How well each template answers sound [2, S]: [K] in 0..1, more is better."""
        ...


class TemplateSystem:
    """Stereo sound (role ``labelled``) and the templates that it is set against (``template``).

    Classes are the templates, by their column ``class``.

    Args:
        rate: of all sound in Hz.
        matcher: how the two are compared.
    """

    selects = None
    keeps = 1
    least_seconds = 0.0
    columns = ()

    def __init__(self, *, rate: int, matcher: Matcher) -> None:
        self.rate = rate
        self.matcher = matcher

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Nothing is."""
        return ""

    def inputs(self) -> dict[str, Input]:
        stereo = {"audio": "labelled", "templates": "template"}
        found = {k: Input((role,), self.rate, channels="stereo") for k, role in stereo.items()}
        return found | (
            {"speech": Input(("unlabelled",), self.rate)} if self.matcher.learns else {}
        )

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedTemplates:
        """Take the templates in the order of the classes, and the dry speech if it is needed.

        Raises:
            UserError: the data set has no such templates, or no dry speech.
        """
        templates, speech = data.unlabelled.get("template"), data.unlabelled.get("unlabelled")
        if templates is None or len(templates) != len(data.classes):
            raise UserError("this system needs a template (a clip of that role) for each class.")
        if self.matcher.learns and not speech:
            raise UserError("this system learns from dry speech, of which the data set has none.")
        of_class = {
            columns["class"]: i
            for i, columns in zip(templates.clip_ids, templates.columns, strict=True)
        }
        pairs = np.stack([sounds["templates"][of_class[name]] for name in data.classes])
        dry = (
            (sounds["speech"][i] for i in speech.clip_ids) if self.matcher.learns and speech else ()
        )
        fitted = self.matcher.fit(pairs.astype(float), angles(data.classes), dry)
        # As they will be read back: sums run in the order of memory.
        kept = {name: np.ascontiguousarray(one) for name, one in fitted.items()}
        return FittedTemplates(self, kept, data.classes, History())

    def load(self, folder: Path) -> FittedTemplates:
        """What :meth:`FittedTemplates.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        kept = load_file(folder / "templates.safetensors")
        return FittedTemplates(self, kept, tuple(about["classes"]), History())

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> None:
        """It has no steps."""

    def network(self, classes: int) -> None:
        """It has none."""


@dataclass(frozen=True)
class FittedTemplates(Undecided):
    """Templates, and what is compared with them."""

    system: TemplateSystem
    kept: Arrays
    classes: tuple[str, ...]
    history: History

    frame_hop = None
    frame_start = 0.0
    channels = "stereo"

    @property
    def rate(self) -> int:
        """In Hz."""
        return self.system.rate

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """A score of each template for some clips."""
        scores = [self._scores(sounds["audio"][clip_id]) for clip_id in clip_ids]
        rows = np.array(scores, np.float32).reshape(len(scores), len(self.classes))
        return Predictions.of(clip_ids, self.classes, fold, ranking=rows)

    def score(self, waveforms: Sequence[np.ndarray], context: Context) -> tuple[np.ndarray, None]:
        """The same [B, K] of waveforms [2, S] that are in no store."""
        named = {str(place): one for place, one in enumerate(waveforms)}
        said = self.predict(tuple(named), {"audio": Waveforms(self.rate, named)}, context)
        assert said.ranking is not None
        return said.ranking, None

    def _scores(self, heard: np.ndarray) -> np.ndarray:
        return self.system.matcher.scores(self.kept, np.asarray(heard, float))

    def save(self, folder: Path) -> None:
        """What is kept as safetensors, the rest as JSON."""
        write_whole(folder / "templates.safetensors", save(dict(self.kept)))
        write_whole(folder / "model.json", json.dumps({"classes": self.classes}, indent=1))
