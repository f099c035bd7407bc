"""Scenes of other devices without their labels: two networks, each before and after adaptation.

Source: Gharib, Drossos, Cakir, Serdyuk and Virtanen, DCASE 2018 workshop. What the paper leaves
open is settled in docs/papers/adversarial_domain_adaptation.md, mostly by the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.data.protocol import LABEL, Protocol
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, Traits, register
from systems.training.adversarial import Adversarial, Adversary
from systems.training.batches import Streams
from systems.training.losses import CrossEntropy
from systems.training.settings import Keep, Training

PAPER = "adversarial_domain_adaptation"
BIBTEX = """
@inproceedings{gharib2018unsupervised,
  author    = {Gharib, Shayan and Drossos, Konstantinos and {\\c{C}}ak{\\i}r, Emre and
               Serdyuk, Dmitriy and Virtanen, Tuomas},
  title     = {Unsupervised Adversarial Domain Adaptation for Acoustic Scene Classification},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
DEVICES = ("b", "c")  # the target domain; device a is the source
PLAIN = ("", "accuracy")  # over clips: other papers' accuracy on this set is the mean over classes


@dataclass(frozen=True)
class Classifier:
    """The Kaggle model or the DCASE baseline; ``width``: the share of their filters."""

    model: Literal["kaggle", "dcase"] = "kaggle"
    width: float = 1.0
    dense: int = 256
    dropout: float = 0.25

    def __post_init__(self) -> None:
        if self.width <= 0 or self.dense < 1 or not 0 <= self.dropout < 1:
            raise ValueError("width lies above 0, dense is at least 1, dropout lies in [0, 1)")


@dataclass(frozen=True)
class Config:
    """Training on the source. ``scale_on``: whose clips the features are standardised by."""

    clip_seconds: float = 10.0
    front_end: LogMel = LogMel(
        rate=44_100, window=2048, hop=1024, bands=64, window_shape="hamming", power=1, mel="htk",
        log="ln_add", floor=2.2e-16,
    )  # fmt: skip
    scale_on: Literal["all", "source", "none"] = "all"
    network: Classifier = Classifier()
    training: Training = Training(
        epochs=350, labelled=38, unlabelled=0, learning_rate=1e-4, patience=None
    )


@dataclass(frozen=True)
class Adapted(Config):
    """Adaptation of what was trained on the source to both target devices, as many of each."""

    adversary: Adversary = Adversary()
    training: Training = Training(
        epochs=300, labelled=10, unlabelled=6, learning_rate=1e-4, patience=None,
        keep=Keep("last"),
    )  # fmt: skip


def kaggle_features(c: Classifier, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """Five convolutions; of a clip of 10 s maps of 128 x 3 x 4."""
    n = [max(1, round(c.width * filters)) for filters in (48, 128, 192, 192, 128)]
    table = [
        Conv(n[0], 11, stride=(2, 3), order="conv act", pool=3, pool_stride=(1, 2)),
        Conv(n[1], 5, stride=(2, 3), order="norm conv act", pool=3, pool_stride=2),
        Conv(n[2], 3, order="norm conv act"),
        Conv(n[3], 3, order="conv act"),
        Conv(n[4], 3, padding="valid", order="conv act", pool=3, pool_stride=(1, 2)),
    ]
    convs = ConvStack(table, shape)
    return nn.Sequential(convs, nn.BatchNorm2d(n[4])), convs.out


def dcase_features(c: Classifier, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """Two convolutions; the second pool takes 100 columns of 101, or all of fewer: [B, 128]."""
    n = [max(1, round(c.width * filters)) for filters in (32, 64)]
    time = min(100, shape[2] // 4 - 6)
    table = [
        Conv(n[0], 7, pool=(8, 4)),
        Conv(n[1], 7, padding=(3, 0), pool=(4, time)),
    ]
    convs = ConvStack(table, shape)
    channels, rows, columns = convs.out
    return nn.Sequential(convs, nn.Flatten()), (channels * rows * columns,)


class Network(nn.Module):
    """Log-mel [B, 1, F, T] -> logits [B, K]; ``shape`` of what ``features`` gives of an example."""

    def __init__(self, c: Classifier, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        made = kaggle_features if c.model == "kaggle" else dcase_features
        self.features, self.shape = made(c, shape)
        count = int(torch.Size(self.shape).numel())
        hidden = [nn.Linear(count, c.dense), nn.ReLU(), nn.Dropout(c.dropout)]
        if c.model == "kaggle":
            hidden += [nn.Linear(c.dense, c.dense), nn.ReLU(), nn.Dropout(c.dropout)]
        self.classifier = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(c.dense, classes))

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.classifier(self.features(x)))


def discriminator(shape: tuple[int, ...]) -> nn.Module:
    """The logit [B, 1] of "source": of maps by three convolutions, of vectors by a linear layer."""
    if len(shape) == 1:
        return nn.Linear(shape[0], 1)
    convs = ConvStack([Conv(n, 3, order="conv act norm") for n in (64, 32, 16)], shape)
    return nn.Sequential(convs, nn.Flatten(), nn.Linear(int(torch.Size(convs.out).numel()), 1))


def system(c: Config, **about: Any) -> NetworkSystem:
    """What training on the source and adaptation share."""
    frames = c.front_end.frames(round(c.clip_seconds * c.front_end.rate))
    return NetworkSystem(
        front_end=c.front_end,
        excerpts=Excerpts(frames=frames, train="start", predict="windows", short="minimum"),
        network=lambda shape, classes: Network(c.network, shape, classes),
        activation="softmax",
        frames=False,
        scale="none" if c.scale_on == "none" else "clips",
        loss=[CrossEntropy()],
        training=c.training,
        **about,
    )


def figures(state: str) -> tuple[Figure, ...]:
    """Table 1: accuracy over the clips of the source, and over those of both target devices."""
    return (
        Figure(f"{state}; source domain (device A)", where={"device": ("a",)}, of=PLAIN),
        Figure(f"{state}; target domain (devices B and C)", where={"device": DEVICES}, of=PLAIN),
    )


DCASE = {"network.model": "dcase", "network.dense": 100, "network.dropout": 0.3}
QUICK = {  # for two CPU cores
    "network.width": 0.25,
    "network.dense": 64,
    "training.epochs": 20,
    "training.steps_per_epoch": 20,
    "training.learning_rate": 1e-3,
}
TINY = {"network.width": 0.125, "network.dropout": 0.0, "training.steps_per_epoch": 4}
COMMON: dict[str, Any] = {
    "task": "scene_classification",
    "dataset": "tut2018_mobile",
    "example": "synthetic_scenes",
    "labels": ("class",),
    "gives": ("clip_scores",),
    "schedule": ("training.epochs",),
    "published": {"synthetic_scenes": {  # 3 s: as many columns as the networks take at least
        "clip_seconds": 3.0, "front_end.rate": 16_000, "front_end.window": 512,
        "front_end.hop": 256,
    }},
    "protocol": Protocol(
        hold_out=0.1, grouped="clip", within=(LABEL, "device"), hides={"device": DEVICES},
        final="fold_mean",
    ),
}  # fmt: skip


@register(
    f"{PAPER}/kaggle_cnn_uada", config=Adapted(), figures=figures("adapted"),
    requires=lambda c: {
        "source": Requirement(f"{PAPER}/{c.network.model}_cnn", "fitted", rows="same_fold")
    },
    traits=Traits(data_parallel=False), parameters=934_848 + 461_834, quick=QUICK,
    tiny={**QUICK, **TINY, "training.epochs": 4, "adversary.every": 3}, **COMMON,
)  # fmt: skip
def adapted(config: Adapted) -> NetworkSystem:
    """The Kaggle model after adversarial adaptation: the main system."""
    return system(
        config,
        begins_as="source",
        frozen=["classifier"],
        unlabelled=Streams("device", DEVICES),
        procedure=Adversarial(config.adversary, "source", discriminator),
    )


@register(
    f"{PAPER}/kaggle_cnn", config=Config(), figures=figures("non-adapted"),
    parameters=934_848 + 461_834, quick=QUICK, tiny={**QUICK, **TINY, "training.epochs": 3},
    **COMMON,
)  # fmt: skip
def source(config: Config) -> NetworkSystem:
    """The Kaggle model, trained on the source alone."""
    return system(config, scale_also=["unlabelled"] if config.scale_on == "all" else [])


register.variant(
    f"{PAPER}/dcase_cnn_uada", of=f"{PAPER}/kaggle_cnn_uada", overrides=DCASE,
    parameters=102_208 + 13_910, summary="The DCASE baseline after adversarial adaptation.",
)  # fmt: skip
register.variant(
    f"{PAPER}/dcase_cnn", of=f"{PAPER}/kaggle_cnn", overrides=DCASE,
    parameters=102_208 + 13_910, summary="The DCASE baseline, trained on the source alone.",
)  # fmt: skip
