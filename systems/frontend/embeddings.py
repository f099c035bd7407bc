"""What fitted systems say before their last layers, as features of another system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.prepare import Waveforms


@dataclass(frozen=True)
class FrameEmbeddings:
    """Frame embeddings of required systems, one below the other: [1, 1, E, T] of a whole sound.

    ``teachers``: names of requirements; ``widths``: of their embeddings; ``hop_seconds``: s from
    step to step.
    """

    rate: int
    teachers: tuple[str, ...]
    widths: tuple[int, ...]
    hop_seconds: float

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
        self.models = nn.ModuleDict()
        self.fitted: dict[str, Any] = {}
        self.about: dict[str, Any] = {}

    def take(self, context: Context) -> None:
        """Take the teachers of a training."""
        for name in self.config.teachers:
            fitted = context.required(name)
            self._add(name, fitted, context.required_about(name))

    def restore(self, about: dict[str, Any]) -> None:
        """Teachers as :attr:`about` says, whose weights are loaded with the whole model's."""
        for name, one in about.items():
            entry = registry.get(one["system"])
            system: Any = entry.build(configs.from_dict(type(entry.config), one["config"]))
            fitted = system.untrained(tuple(one["classes"]), one["length"], one["label_hop"])
            self._add(name, fitted, one)

    def _add(self, name: str, fitted: Any, about: Any) -> None:
        self.models[name] = fitted.model
        self.fitted[name] = fitted
        self.about[name] = {
            "system": about["system"], "config": about["config"], "classes": fitted.classes,
            "length": fitted.length, "label_hop": fitted.label_hop,
        }  # fmt: skip

    def forward(self, waveforms: Tensor) -> Tensor:
        context = Context(device=str(waveforms.device))
        said = []
        for name in self.config.teachers:
            fitted = self.fitted[name]
            sound = Waveforms(self.config.rate, {"": waveforms[0].cpu().numpy()},
                              fitted.system.prepare)  # fmt: skip
            (heard,) = fitted.listen(("",), {"audio": sound}, context)
            said.append(heard.frame_embedding)
        steps = min(len(one) for one in said)
        together = torch.cat([one[:steps] for one in said], dim=1)  # [T, E]
        return together.T[None, None].to(waveforms.device)
