"""What an estimator sees of a clip: a function of its waveform, or what a network makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.features import packed, part_features
from systems.data.prepare import Sound
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.files import write_whole
from systems.frontend import FrontEnd, built
from systems.system import Input, Sounds


class ClipFeatures(Protocol):
    """Features of clips, of one input ``audio`` or of several tracks by name."""

    @property
    def inputs(self) -> dict[str, Input]: ...

    def taught(self, data: TrainingData, context: Context) -> ClipFeatures:
        """With what it learns from in a training."""
        ...

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        """The features of each clip."""
        ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> ClipFeatures:
        """As :meth:`save` left it."""
        ...


@dataclass(frozen=True)
class OfWaveform:
    """A function (mono waveform [S], rate in Hz) -> features of any shape."""

    rate: int
    function: Callable[[np.ndarray, int], np.ndarray]

    @property
    def inputs(self) -> dict[str, Input]:
        return {"audio": Input(("labelled",), self.rate)}

    def taught(self, data: TrainingData, context: Context) -> OfWaveform:
        return self

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        return [self.function(sounds["audio"][i], self.rate) for i in clip_ids]

    def save(self, folder: Path) -> None:
        """There is nothing to keep."""

    def load(self, folder: Path) -> OfWaveform:
        return self


@dataclass(frozen=True)
class Stored:
    """The vector [F] that a front end makes of a stereo clip and that is stored beside the sound;
    ``columns``: which of its values [n] count, asked for when they are needed."""

    front_end: Any
    columns: Callable[[], np.ndarray]

    @property
    def inputs(self) -> dict[str, Input]:
        one = self.front_end
        return {"audio": Input(("labelled",), one.rate, channels="stereo", features=one)}

    def taught(self, data: TrainingData, context: Context) -> Stored:
        return self

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        columns, front_end = self.columns(), self.front_end
        rows = (stored_rows(sounds["audio"], front_end, clip_id) for clip_id in clip_ids)
        return [np.asarray(one[0])[columns] for one in rows]

    def save(self, folder: Path) -> None:
        """There is nothing to keep."""

    def load(self, folder: Path) -> Stored:
        return self


def stored_rows(sound: Any, front_end: Any, clip_id: str) -> np.ndarray:
    """The rows [T, R] of a clip's features that are stored beside the sound; of a file, which is in
    no store, they are made."""
    rows = getattr(sound, "held", lambda clip_id: None)(clip_id)
    if rows is None:
        module = built(front_end)
        rows = [packed(part_features(module, part))[0] for part in sound.parts(clip_id)]
    found: np.ndarray = rows[0]
    return found


@dataclass(frozen=True)
class OfTracks:
    """Of each track, by name, what a front end makes of it and stores ([F, T]), or without one its
    samples [S] at ``rate`` Hz; ``function`` puts them together.

    It is given these and the calibration (dB SPL of an RMS of 1, or ``None``), that of the clips
    which trained, and returns an array of any shape.
    """

    tracks: tuple[str, ...]
    function: Callable[[Mapping[str, np.ndarray], float | None], np.ndarray]
    front_end: Any = None
    rate: int = 0
    calibration: float | None = None

    @property
    def inputs(self) -> dict[str, Input]:
        one = self.front_end
        rate = self.rate if one is None else one.rate
        return {t: Input(("labelled",), rate, features=one, track=t) for t in self.tracks}

    def taught(self, data: TrainingData, context: Context) -> OfTracks:
        return replace(self, calibration=data.calibration)

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        return [
            self.function({t: self._of(sounds[t], i) for t in self.tracks}, self.calibration)
            for i in clip_ids
        ]

    def _of(self, sound: Sound, clip_id: str) -> np.ndarray:
        if self.front_end is None:
            return np.asarray(sound[clip_id])
        return np.asarray(stored_rows(sound, self.front_end, clip_id)).T

    def save(self, folder: Path) -> None:
        write_whole(folder / "calibration.json", json.dumps(self.calibration))

    def load(self, folder: Path) -> OfTracks:
        return replace(self, calibration=json.loads((folder / "calibration.json").read_text()))


@dataclass(frozen=True)
class Embedding:
    """The clip embedding [E] of a required system, which takes ``input``. Its folder holds it."""

    name: str
    input: Input
    fitted: Any = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Input]:
        return {"audio": self.input}

    def taught(self, data: TrainingData, context: Context) -> Embedding:
        about = context.required_about(self.name)
        return replace(self, fitted=context.required(self.name), about=about)

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        said = list(self.fitted.listen(clip_ids, sounds, context))
        if any(one.embedding is None for one in said):
            raise UserError(f"{self.about['system']} gives no embedding of a clip.")
        return [one.embedding.numpy() for one in said]

    def save(self, folder: Path) -> None:
        self.fitted.save(folder / self.name)
        write_whole(folder / f"{self.name}.json", json.dumps(dict(self.about), indent=1))

    def load(self, folder: Path) -> Embedding:
        about = json.loads((folder / f"{self.name}.json").read_text())
        entry = registry.get(about["system"])
        system = entry.build(configs.from_dict(type(entry.config), about["config"]))
        return replace(self, fitted=system.load(folder / self.name), about=about)


@dataclass(frozen=True)
class OfNetwork:
    """What a network that is never trained makes of a clip's features: [1, C, F, T] -> [1, E].

    ``start`` sets its weights; those that it leaves random are the same in every training, so that
    folds' features correspond.
    """

    front_end: FrontEnd
    build: Callable[[], nn.Module]
    start: Callable[[nn.Module, Context], None]
    network: nn.Module | None = None

    @property
    def inputs(self) -> dict[str, Input]:
        return {"audio": Input(("labelled",), self.front_end.rate)}

    def taught(self, data: TrainingData, context: Context) -> OfNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self.build()
        self.start(network, context)
        return replace(self, network=network.eval())

    def of(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[np.ndarray]:
        assert self.network is not None
        network = self.network.to(context.device)
        front_end = self.front_end.build().to(context.device)
        found = []
        with torch.inference_mode():
            for clip_id in clip_ids:
                waveform = torch.from_numpy(np.array(sounds["audio"][clip_id]))[None]
                found.append(network(front_end(waveform.to(context.device)))[0].cpu().numpy())
        return found

    def save(self, folder: Path) -> None:
        assert self.network is not None
        state = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        write_whole(folder / "network.safetensors", save(state))

    def load(self, folder: Path) -> OfNetwork:
        network = self.build()
        network.load_state_dict(load_file(folder / "network.safetensors"))
        return replace(self, network=network.eval())
