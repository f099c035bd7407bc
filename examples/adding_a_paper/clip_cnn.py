"""An example of a paper: one class a clip, from a small CNN on log-mel, averaged over time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from systems.excerpts import Excerpts
from systems.frontend.log_mel import LogMel
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import register
from systems.training.losses import ClipBce
from systems.training.settings import Training

BIBTEX = """
@misc{clip_cnn,
  title = {A small CNN on log-mel: an example},
}
"""


@dataclass(frozen=True)
class CnnConfig:
    """Two convolutions of ``width`` and twice as many filters."""

    width: int = 16
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise ValueError("width is at least 1, dropout lies in [0, 1)")


@dataclass(frozen=True)
class Config:
    """The whole system."""

    clip_seconds: float = 4.0
    front_end: LogMel = LogMel(rate=16_000, window=1024, hop=512, bands=64)
    network: CnnConfig = CnnConfig()
    training: Training = Training(
        epochs=40, labelled=32, unlabelled=0, learning_rate=1e-3, patience=10
    )


class Cnn(nn.Module):
    """Log-mel [B, 1, F, T] -> class posterior [B, K]."""

    def __init__(self, config: CnnConfig, classes: int) -> None:
        super().__init__()
        width = config.width
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(4),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(4 * width, classes))

    def forward(self, x: Tensor) -> Outputs:
        maps = self.layers(x)
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        return Outputs(torch.sigmoid(self.out(pooled)))


@register(
    "clip_cnn",
    config=Config(),
    task="single_label_tagging",
    dataset="table",
    labels=("class",),
    schedule=("training.epochs",),
    quick={"training.epochs": 8, "training.steps_per_epoch": 20},
    gives=("clip_scores",),
)
def clip_cnn(config: Config) -> NetworkSystem:
    """A small CNN for one class a clip."""
    return NetworkSystem(
        front_end=config.front_end,
        network=lambda shape, classes: Cnn(config.network, classes),
        loss=[ClipBce()],
        training=config.training,
        excerpts=Excerpts(seconds=config.clip_seconds),
        frames=False,
    )
