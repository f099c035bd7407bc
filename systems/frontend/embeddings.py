"""What fitted systems say before their last layers, as features of another system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.prepare import Waveforms


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

    def embedding(self, waveform: np.ndarray, context: Context) -> Tensor:
        """Its frame embedding [T, E] of a waveform [S]."""
        fitted = self.fitted
        sound = Waveforms(fitted.rate, {"": waveform}, fitted.system.prepare)
        (heard,) = fitted.listen(("",), {"audio": sound}, context)
        found: Tensor = heard.frame_embedding
        return found


@dataclass(frozen=True)
class FrameEmbeddings:
    """Frame embeddings of required systems, one below the other: [1, 1, E, T] of a whole sound.

    ``names``: of the requirements; ``widths``: of their embeddings at the paper's values, until
    there are ``teachers``, which have their own; ``hop_seconds``: s from step to step.
    """

    rate: int
    names: tuple[str, ...]
    widths: tuple[int, ...]
    hop_seconds: float
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    frame_start = 0.0

    def taught(self, context: Context) -> FrameEmbeddings:
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
        widths = [one.embedding(second, context).shape[1] for one in teachers.values()]
        return replace(self, teachers=teachers, widths=tuple(widths))

    def shape(self, samples: int) -> tuple[int, int, int]:
        return 1, sum(self.widths), round(samples / self.rate / self.hop_seconds)

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
        said = [one.embedding(waveform, context) for one in self.config.teachers.values()]
        steps = min(len(one) for one in said)
        together = torch.cat([one[:steps] for one in said], dim=1)  # [T, E]
        return together.T[None, None].to(waveforms.device)
