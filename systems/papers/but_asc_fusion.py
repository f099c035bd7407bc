"""Scenes: 2-D networks of mono and of four maps of stereo, x-vectors, and the mean of sixteen.

Source: Zeinali, Burget and Cernocky, DCASE 2018 workshop. What the paper leaves open is settled in
docs/papers/but_asc_fusion.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.clip_features import Embedding
from systems.data.protocol import Protocol
from systems.estimator_system import EstimatorSystem
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.channels import ChannelMix
from systems.frontend.cqt import Cqt
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, register
from systems.training.copies import SameClassMix
from systems.training.losses import CrossEntropy
from systems.training.settings import Keep, Schedule, Training

PAPER = "but_asc_fusion"
BIBTEX = """
@inproceedings{zeinali2018convolutional,
  author    = {Zeinali, Hossein and Burget, Luk\\'a\\v{s} and \\v{C}ernock\\'y, Jan},
  title     = {Convolutional Neural Networks and x-Vector Embedding for {DCASE2018} Acoustic Scene
               Classification Challenge},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""


@dataclass(frozen=True)
class Features:
    """80 rows every 20 ms: log-mel, or the constant-Q transform."""

    kind: Literal["mel", "cqt"] = "mel"
    mel: LogMel = LogMel(
        rate=48_000, window=1920, hop=960, fft=2048, bands=80, window_shape="hamming",
        log="ln_add", whole_hops=True,
    )  # fmt: skip
    cqt: Cqt = Cqt(rate=48_000, hop=960, bins=80)

    def of(self, mix: Literal["mono", "lrms"]) -> ChannelMix:
        """Of signals without their mean."""
        return ChannelMix(self.mel if self.kind == "mel" else self.cqt, mix, centred=True)


# Until the loss has not fallen for 20 epochs; then from the best epoch at half the rate, twice.
TRAINING = Training(
    epochs=600, labelled=64, unlabelled=0, patience=None,
    schedule=Schedule("from_best", factor=0.5, patience=20, stages=3), keep=Keep(on="loss"),
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The 2-D network over a whole segment (Table 1); ``mix.copies`` 0: without augmentation."""

    clip_seconds: float = 10.0
    features: Features = Features()
    channels: Literal["mono", "lrms"] = "lrms"
    filters: int = 32
    kernel: tuple[int, int] = (7, 11)
    dropout: float = 0.3
    mix: SameClassMix = SameClassMix(copies=0)
    training: Training = TRAINING


class Cnn2d(nn.Module):
    """[B, 1 or 4, F, T] -> logits [B, K]; the last pool takes all of the time axis."""

    def __init__(self, c: Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        pools = ((2, 10), (2, 5), (5, max(1, shape[2] // 50)))
        table = [
            Conv(c.filters * 2**n, c.kernel, pool=pool, dropout=c.dropout)
            for n, pool in enumerate(pools)
        ]
        self.convs = ConvStack(table, shape)
        width = self.convs.out[0]
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.head(self.convs(x).mean((2, 3))))


@dataclass(frozen=True)
class XVectorConfig:
    """The 1-D network over time, of mono sound (Table 2)."""

    clip_seconds: float = 10.0
    features: Features = Features()
    width: int = 128
    dropout: float = 0.15
    mix: SameClassMix = SameClassMix(copies=0)
    training: Training = TRAINING


class XVector(nn.Module):
    """[B, 1, F, T] -> logits [B, K]; the embedding is the first dense layer's affine output."""

    def __init__(self, c: XVectorConfig, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        n, drop = c.width, c.dropout
        table = [
            *(Conv(n, kernel, order="conv act norm", dropout=drop) for kernel in (3, 3, 5, 1)),
            Conv(2 * n, 1, order="conv act norm"),
        ]
        self.convs = ConvStack(table, (shape[1], 0))
        self.embed = nn.Linear(4 * n, n)
        self.head = nn.Sequential(
            nn.ReLU(), nn.BatchNorm1d(n), nn.Dropout(drop),
            nn.Linear(n, n), nn.ReLU(), nn.BatchNorm1d(n), nn.Linear(n, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Outputs:
        frames = self.convs(x[:, 0])  # [B, C, T]
        deviation = (frames.var(2, unbiased=False) + 1e-5).sqrt()
        embedding = self.embed(torch.cat([frames.mean(2), deviation], 1))
        return Outputs(self.head(embedding), embedding=embedding)


@dataclass(frozen=True)
class CosineConfig:
    """Regularised LDA of the x-vectors of ``net``, and the cosine to each class's mean."""

    net: XVectorConfig = XVectorConfig()
    alpha: float = 1e-3
    beta: float = 1e-2
    dimensions: int = 100


MIXED = SameClassMix().copies
CONDITIONS = {
    f"{feature}; {augmentation}": {"features.kind": kind, "mix.copies": copies}
    for (augmentation, copies), (feature, kind) in product(
        {"no augmentation": 0, "with augmentation": MIXED}.items(),
        {"log-mel": "mel", "CQT": "cqt"}.items(),
    )
}
FIGURES = tuple(Figure(name, overrides) for name, overrides in CONDITIONS.items())  # Table 3
QUICK = {  # for two CPU cores
    "features.mel.rate": 16_000,
    "features.mel.window": 640,
    "features.mel.hop": 320,
    "features.mel.fft": 1024,
    "features.mel.bands": 40,
    "features.cqt.rate": 16_000,
    "features.cqt.hop": 320,
    "features.cqt.bins": 40,
    "features.cqt.per_octave": 6,
    "training.labelled": 16,
    "training.epochs": 30,
    "training.steps_per_epoch": 20,
    "training.schedule.patience": 5,
}
SMALL = {"filters": 8, "kernel": (3, 5)}
SCENES = {"synthetic_scenes": {"clip_seconds": 3.0}}
COMMON: dict[str, Any] = {
    "task": "scene_classification", "dataset": "tut2018", "example": "synthetic_scenes",
    "labels": ("class",), "gives": ("clip_scores",),
    "protocol": Protocol(hold_out=0.3, grouped="clip", final="fold_mean"),
}  # fmt: skip


def of_segments(
    c: Config | XVectorConfig, mix: Literal["mono", "lrms"], network: Any, **about: Any
) -> NetworkSystem:
    """What both networks share: whole segments, cross-entropy, derived clips."""
    frames = round(c.clip_seconds / c.features.mel.hop_seconds)
    return NetworkSystem(
        front_end=c.features.of(mix),
        excerpts=Excerpts(frames=frames, predict="windows"),
        network=lambda shape, classes: network(c, shape, classes),
        activation="softmax",
        frames=False,
        copies=[c.mix] if c.mix.copies else [],
        loss=[CrossEntropy()],
        training=c.training,
        **about,
    )


@register(
    f"{PAPER}/cnn2d_lrms", config=Config(), schedule=("training.epochs",), published=SCENES,
    figures=FIGURES, parameters=800_554, quick={**QUICK, **SMALL},
    tiny={**QUICK, **SMALL, "training.epochs": 3, "training.steps_per_epoch": 6}, **COMMON,
)  # fmt: skip
def cnn2d(config: Config) -> NetworkSystem:
    """The 2-D network over left, right, their sum and difference: the main single system."""
    return of_segments(config, config.channels, Cnn2d)


register.variant(
    f"{PAPER}/cnn2d_mono", of=f"{PAPER}/cnn2d_lrms", overrides={"channels": "mono"},
    parameters=793_162, summary="The 2-D network over mono sound.",
)  # fmt: skip


@register(
    f"{PAPER}/cnn1d_xvector", config=XVectorConfig(), schedule=("training.epochs",),
    published=SCENES,
    figures=FIGURES, parameters=297_226, quick={**QUICK, "width": 32},
    tiny={**QUICK, "width": 16, "training.epochs": 3, "training.steps_per_epoch": 6}, **COMMON,
)  # fmt: skip
def cnn1d(config: XVectorConfig) -> NetworkSystem:
    """The x-vector network with its own softmax."""
    return of_segments(config, "mono", XVector, embeddings=True)


def net_of(config: CosineConfig) -> dict[str, Requirement]:
    """The network whose embeddings it takes, of the same fold."""
    features, copies = config.net.features.kind, config.net.mix.copies
    same = {"features.kind": features, "mix.copies": MIXED if copies else 0}
    name = next(name for name, overrides in CONDITIONS.items() if overrides == same)
    return {"net": Requirement(f"{PAPER}/cnn1d_xvector#{name}", "fitted", rows="same_fold")}


@register(
    f"{PAPER}/xvector_cos", config=CosineConfig(), requires=net_of,
    published={"synthetic_scenes": {"net.clip_seconds": 3.0}},
    figures=tuple(
        Figure(name, {f"net.{key}": value for key, value in overrides.items()})
        for name, overrides in CONDITIONS.items()
    ),
    quick={f"net.{key}": value for key, value in {**QUICK, "width": 32}.items()},
    tiny={
        f"net.{key}": value for key, value in {
            **QUICK, "width": 16, "training.epochs": 3, "training.steps_per_epoch": 6
        }.items()
    },
    **COMMON,
)  # fmt: skip
def xvector_cos(config: CosineConfig) -> EstimatorSystem:
    """Regularised LDA of the x-vectors, and cosines to the class means."""
    from systems.rlda import RldaCosine  # loads scikit-learn

    return EstimatorSystem(
        features=Embedding("net", cnn1d(config.net).inputs()["audio"]),
        estimator=lambda seed: RldaCosine(config.alpha, config.beta, config.dimensions),
    )


SYSTEMS = ("cnn2d_mono", "cnn2d_lrms", "cnn1d_xvector", "xvector_cos")


def members(part: str = "") -> tuple[str, ...]:
    """All systems in the conditions whose names have a part."""
    return tuple(
        f"{PAPER}/{system}#{condition}"
        for condition, system in product(CONDITIONS, SYSTEMS)
        if part in condition
    )


SETS = {  # members, and the variant in the table
    "noaug": ("no augmentation", "8 systems, no augmentation"),
    "aug": ("with augmentation", "8 systems, with augmentation; submitted"),
    "mel": ("log-mel", "all mel systems"),
    "cqt": ("CQT", "all CQT systems"),
    "all": ("", "all 16 systems; submitted"),
}
RULES = {"average": "mean", "focal": "multiclass_calibration"}
for (name, (part, variant)), (rule, learner) in product(SETS.items(), RULES.items()):
    if rule == "focal" and name in ("mel", "cqt"):
        continue  # the paper has none
    official = (Figure("official fold"),) if (name, rule) == ("all", "average") else ()
    register.fusion(
        f"{PAPER}/{name}_{rule}", members=members(part), learner=learner, final="fold_mean",
        figures=(Figure(variant), *official),
        summary=f"The {'mean' if rule == 'average' else 'calibrated fusion'} of {variant}.",
    )  # fmt: skip
