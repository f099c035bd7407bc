"""What fitted systems say before their last layers, as features of another system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.system import Sounds


@dataclass(frozen=True)
class Teacher:
    """A fitted network, and what it is built of: its system's address and configuration."""

    fitted: Any
    system: str
    config: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """What builds it again, without its weights."""
        return {
            "system": self.system, "config": self.config, "classes": self.fitted.classes,
            "length": self.fitted.length, "label_hop": self.fitted.label_hop,
        }  # fmt: skip

    @classmethod
    def untrained(cls, about: Mapping[str, Any]) -> Teacher:
        """One as :meth:`about` says, before its weights are loaded."""
        entry = registry.get(about["system"])
        system: Any = entry.build(configs.from_dict(type(entry.config), about["config"]))
        fitted = system.untrained(tuple(about["classes"]), about["length"], about["label_hop"])
        return cls(fitted, about["system"], about["config"])

    def embedding(self, waveform: np.ndarray, rate: int, whole: bool, context: Context) -> Tensor:
        """Its frame embedding [T, E] of a waveform [S] at a rate in Hz; of a ``whole`` clip that of
        the clip [1, E]."""
        if rate != self.fitted.rate:
            waveform = soxr.resample(waveform, rate, self.fitted.rate)
        sound = self.fitted.system.sound_of([waveform])
        (heard,) = self.fitted.listen(tuple(sound.waveforms), {"audio": sound}, context)
        found: Tensor | None = heard.embedding if whole else heard.frame_embedding
        if found is None:
            what = "a clip" if whole else "frames, nor of windows"
            raise UserError(f"{self.system} gives no embedding of {what}.")
        return found[None] if whole else found


@dataclass(frozen=True)
class FrameEmbeddings:
    """Frame embeddings of required systems, one below the other: [1, 1, E, T] of a whole sound.

    ``names``: of the requirements; ``widths``: of their embeddings at the paper's values, until
    there are ``teachers``, which have their own; ``hop_seconds``: s from step to step. ``whole``:
    the embeddings of the clip are taken instead, a single step. Teachers hear the sound at their
    own rates.
    """

    rate: int
    names: tuple[str, ...]
    widths: tuple[int, ...]
    hop_seconds: float
    whole: bool = False
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    frame_start = 0.0

    def taught(self, data: TrainingData, sounds: Sounds, context: Context) -> FrameEmbeddings:
        """With the teachers of a training."""
        found = {}
        for name in self.names:
            about = context.required_about(name)
            found[name] = Teacher(context.required(name), about["system"], about["config"])
        return self._of(found)

    def restored(self, about: Mapping[str, Any]) -> FrameEmbeddings:
        """With teachers as the module's ``about`` says; their weights are loaded with its own."""
        return self._of({name: Teacher.untrained(about[name]) for name in self.names})

    def _of(self, teachers: Mapping[str, Teacher]) -> FrameEmbeddings:
        second, context = np.zeros(self.rate, np.float32), Context()
        said = [one.embedding(second, self.rate, self.whole, context) for one in teachers.values()]
        widths = [one.shape[1] for one in said]
        return replace(self, teachers=teachers, widths=tuple(widths))

    def shape(self, samples: int) -> tuple[int, int, int]:
        steps = 1 if self.whole else max(1, round(samples / self.rate / self.hop_seconds))
        return 1, sum(self.widths), steps

    def build(self) -> FrameEmbeddingsFrontEnd:
        return FrameEmbeddingsFrontEnd(self)


class FrameEmbeddingsFrontEnd(nn.Module):
    """Waveform [1, S] -> embeddings [1, 1, E, T]. It holds its teachers' models, so that what is
    saved with it is whole."""

    def __init__(self, config: FrameEmbeddings) -> None:
        super().__init__()
        self.config = config
        self.models = nn.ModuleDict({n: one.fitted.model for n, one in config.teachers.items()})
        self.about = {name: one.about() for name, one in config.teachers.items()}

    def forward(self, waveforms: Tensor) -> Tensor:
        context = Context(device=str(waveforms.device))
        waveform = waveforms[0].cpu().numpy()
        c = self.config
        said = [one.embedding(waveform, c.rate, c.whole, context) for one in c.teachers.values()]
        steps = min(len(one) for one in said)
        together = torch.cat([one[:steps] for one in said], dim=1)  # [T, E]
        return together.T[None, None].to(waveforms.device)
