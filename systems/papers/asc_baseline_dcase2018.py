"""Scenes: the baseline of DCASE 2018 task 1, two convolutions over the log-mel of a whole clip.

Source: Mesaros, Heittola and Virtanen, DCASE 2018 workshop. What the paper leaves open is from the
public baseline (DCASE-REPO/dcase2018_baseline, task 1): docs/papers/asc_baseline_dcase2018.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from systems.data.protocol import LABEL, Protocol
from systems.excerpts import Excerpts, Voting
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack, glorot
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import register
from systems.training.labelling import Only
from systems.training.losses import CrossEntropy
from systems.training.settings import Training

BIBTEX = """
@inproceedings{mesaros2018multidevice,
  author    = {Mesaros, Annamaria and Heittola, Toni and Virtanen, Tuomas},
  title     = {A Multi-Device Dataset for Urban Acoustic Scene Classification},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""


@dataclass(frozen=True)
class CnnConfig:
    """Two convolutions of ``filters`` and twice as many, a dense layer; Keras's batch norm."""

    filters: int = 32
    kernel: int = 7
    dense: int = 100
    dropout: float = 0.3
    norm: Literal["frequency", "channel"] = "frequency"
    momentum: float = 0.01  # of the running statistics

    def __post_init__(self) -> None:
        if min(self.filters, self.kernel, self.dense) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("filters, kernel and dense: at least 1; dropout lies in [0, 1)")


@dataclass(frozen=True)
class Config:
    """The baseline; ``devices``: whose clips it trains on, of none all."""

    clip_seconds: float = 10.0
    front_end: LogMel = LogMel(
        rate=48_000, window=1920, hop=960, fft=2048, bands=40, window_shape="hamming", power=1,
        log="ln_add", floor=2.2e-16, whole_hops=True,
    )  # fmt: skip
    network: CnnConfig = CnnConfig()
    devices: tuple[str, ...] = ()
    training: Training = Training(epochs=200, labelled=16, unlabelled=0, patience=None)
    decision: Voting = Voting()  # "vote": the public code's threshold of 0.5 before the argmax


class Cnn(nn.Module):
    """Log-mel [B, 1, F, T] -> logits [B, K]; the second pool takes all of the time axis."""

    def __init__(self, c: CnnConfig, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        n, k, d = c.filters, c.kernel, c.dropout
        table = [
            Conv(n, k, norm=c.norm, pool=5, dropout=d),
            Conv(2 * n, k, norm=c.norm, pool=(4, shape[2] // 5), dropout=d),
        ]
        self.convs = ConvStack(table, shape)
        channels, rows, _ = self.convs.out
        self.dense = nn.Sequential(
            nn.Linear(channels * rows, c.dense), nn.ReLU(), nn.Dropout(d),
            nn.Linear(c.dense, classes),
        )  # fmt: skip
        glorot(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -0.05, 0.05)
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, c.momentum

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.dense(torch.flatten(self.convs(x), 1)))


B = "subtask B; trained on device A"
FIGURES = (  # Table 1
    Figure("subtask A; device A", dataset="tut2018"),
    Figure(f"{B}; device A", dataset="tut2018_mobile", where={"device": ("a",)}),
    Figure(f"{B}; device B", dataset="tut2018_mobile", where={"device": ("b",)}),
    Figure(f"{B}; device C", dataset="tut2018_mobile", where={"device": ("c",)}),
    Figure(f"{B}; mean of devices B and C", dataset="tut2018_mobile", where={"device": ("b", "c")}),
)  # the last: both have the same clips of each class, so it is the mean over classes of either
UNMAPPED = {f"{B}; device D": "device D is in the evaluation set alone"} | {
    f"{one.variant}; std over 10 runs": "the deviation over seeds: `reproduce --seeds 10` gives it"
    for one in FIGURES
}
QUICK = {  # for two CPU cores
    "front_end.rate": 16_000,
    "front_end.window": 640,
    "front_end.hop": 320,
    "front_end.fft": 1024,
    "network.filters": 8,
    "network.momentum": 0.1,
    "training.epochs": 10,
    "training.steps_per_epoch": 20,
}


@register(
    "asc_baseline_dcase2018/cnn_baseline",
    config=Config(),
    task="scene_classification",
    dataset="tut2018",
    example="synthetic_scenes",
    labels=("class",),
    schedule=("training.epochs",),
    quick=QUICK,
    published={"tut2018_mobile": {
        "front_end.rate": 44_100, "front_end.window": 1764, "front_end.hop": 882,
        "devices": ("a",),
    }},
    protocol=Protocol(hold_out=0.3, within=(LABEL, "city")),  # of the places
    figures=FIGURES,
    unmapped=UNMAPPED,
    decision="decision",
    parameters=116_118,
    tiny={**QUICK, "training.steps_per_epoch": 4, "network.dropout": 0.0},
)  # fmt: skip
def cnn_baseline(config: Config) -> NetworkSystem:
    """Two convolutions and a dense layer over 10 s of log-mel: the challenge's baseline."""
    frames = round(config.clip_seconds / config.front_end.hop_seconds)
    return NetworkSystem(
        front_end=config.front_end,
        excerpts=Excerpts(frames=frames, predict="windows"),  # of features that are made once
        network=lambda shape, classes: Cnn(config.network, shape, classes),
        activation="softmax",
        frames=False,
        labelling=[Only("device", config.devices)] if config.devices else [],
        loss=[CrossEntropy()],
        training=config.training,
        decision=config.decision,
    )
