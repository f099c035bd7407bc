"""Masks from speech: CNN14 of AudioSet under mixup, and votes of its epochs and of an outsider.

Source: Koike, Qian, Schuller and Yamamoto, INTERSPEECH 2020 (ComParE). What it leaves open is
settled in docs/papers/mask_panns_mixup.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from systems.clip_features import OfNetwork
from systems.estimator_system import EstimatorSystem
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.backbone import AsPhoto, Backbone, ImageNetwork
from systems.nets.cnn14 import Cnn14
from systems.network_system import NetworkSystem
from systems.outside import OutsideSystem
from systems.registry import register
from systems.training.losses import LogitBce
from systems.training.masking import BlockMasking
from systems.training.mixing import Mixing
from systems.training.settings import Keep, Schedule, Training
from systems.weights import StartFrom

PAPER = "mask_panns_mixup"
BIBTEX = """
@inproceedings{koike2020learning,
  author    = {Koike, Tomoya and Qian, Kun and Schuller, Bj\\"orn W. and Yamamoto, Yoshiharu},
  title     = {Learning Higher Representations from Pre-Trained Deep Models with Data Augmentation
               for the {ComParE} 2020 Challenge Mask Task},
  booktitle = {Interspeech},
  year      = {2020},
}
"""
# 50 ms every 2 ms, 200 bands, dB.
MEL = LogMel(
    rate=16_000, window=800, hop=32, fft=1024, bands=200, fmin=50, fmax=8000, log="db", pad="mirror"
)


@dataclass(frozen=True)
class Config:
    """CNN14; ``weights``: ``audioset``, ``none`` or a file; ``mixup`` 0: none."""

    front_end: LogMel = MEL
    width: int = 64
    weights: str = "audioset"
    masking: BlockMasking = BlockMasking()
    mixup: float = 0.1
    training: Training = Training(
        epochs=30, labelled=32, unlabelled=0, learning_rate=1e-4, patience=None,
        schedule=Schedule("steps", factor=0.99), keep=Keep("last"),
    )  # fmt: skip


@dataclass(frozen=True)
class ImageConfig:
    """A ResNet over the same log-mel; ``weights``: ``imagenet``, ``none`` or a file."""

    front_end: LogMel = MEL
    backbone: str = "resnet50"
    weights: str = "imagenet"
    masking: BlockMasking = BlockMasking()
    mixup: float = 0.0
    training: Training = Config().training


@dataclass(frozen=True)
class OutsideConfig:
    """An outside system: its ``predictions`` as a table, or in their place a linear SVM over
    features of an image network that is not trained."""

    predictions: str = ""
    front_end: LogMel = MEL
    backbone: str = "resnet50"
    weights: str = "imagenet"
    c: float = 1e-2


CUT = {  # for two CPU cores
    "front_end.window": 512,
    "front_end.hop": 160,
    "front_end.fft": 512,
    "front_end.bands": 64,
    "weights": "none",
}
FEW = {**CUT, "training.epochs": 10, "training.learning_rate": 1e-3}
PHOTO = {"backbone": "test_resnet"}
MASK: dict[str, Any] = {
    "task": "speech_classification", "dataset": "compare2020_mask", "example": "synthetic_speech",
    "labels": ("class",), "gives": ("clip_scores",), "classes": 2,
}  # fmt: skip
NETWORK: dict[str, Any] = {"schedule": ("training.epochs",), **MASK}


def of_mel(c: Config | ImageConfig, network: Any, start: StartFrom) -> NetworkSystem:
    """What all networks share: a second of log-mel, masks, mixup, and cross-entropy of each class
    by itself."""
    augment: list[Any] = []
    if c.masking.time or c.masking.frequency:
        augment.append(c.masking)
    if c.mixup:
        augment.append(Mixing(c.mixup, per="sample"))
    return NetworkSystem(
        front_end=c.front_end,
        excerpts=Excerpts(seconds=1.0),
        scale="none",
        network=network,
        activation="sigmoid",
        frames=False,
        start=start,
        augment=augment,
        loss=[LogitBce()],
        training=c.training,
    )


MAIN = "alpha 0.1, 50 ms / 2 ms"
OF_CLASS = {  # metric of Table 1 -> whose what: the paper's positive class is "mask"
    "f1": ("mask", "clip_f1"), "accuracy": ("", "accuracy"),
    "sensitivity": ("mask", "recall"), "specificity": ("clear", "recall"),
}  # fmt: skip


def table_1(variant: str) -> tuple[Figure, ...]:
    """A row of Table 1."""
    of_class = (Figure(variant, metric=metric, of=of) for metric, of in OF_CLASS.items())
    return (*of_class, Figure(variant))


@register(
    PAPER + "/panns_mixup", config=Config(), parameters=79_678_162,
    quick={**FEW, "width": 8},
    tiny={**FEW, "width": 4, "training.labelled": 8, "training.epochs": 4},
    figures=(
        Figure(MAIN), Figure(f"{MAIN}, epoch 30, train+devel"), *table_1("alpha 0.1"),
        Figure(""), Figure("printed 32.2 must be 30.2 (row sums to 102)"),
    ),
    **NETWORK,
)  # fmt: skip
def panns(c: Config) -> NetworkSystem:
    """CNN14 of AudioSet, fine-tuned with mixup."""
    bands = c.front_end.bands
    return of_mel(
        c,
        lambda shape, classes: Cnn14(bands, classes, c.width),
        # The file's first norm is of 64 bands of another front end.
        StartFrom(c.weights, "cnn14_16k", "trunk", fresh=("bn0",)),
    )


register.variant(
    f"{PAPER}/panns_ft", of=f"{PAPER}/panns_mixup", overrides={"mixup": 0.0},
    parameters=79_678_162, summary="CNN14 of AudioSet, fine-tuned without mixup.",
    figures=(Figure("50 ms / 2 ms, no augmentation"), *table_1("AudioSet pretrained")),
)  # fmt: skip
register.variant(
    f"{PAPER}/panns_scratch", of=f"{PAPER}/panns_ft", overrides={"weights": "none"},
    parameters=79_678_162, figures=(), summary="CNN14 from random weights.",
)  # fmt: skip


@register(
    f"{PAPER}/resnet_ft", config=ImageConfig(), parameters=23_512_130,
    quick={**FEW, **PHOTO}, tiny={**FEW, **PHOTO, "training.epochs": 4},
    figures=table_1("ImageNet pretrained"), **NETWORK,
)  # fmt: skip
def resnet(c: ImageConfig) -> NetworkSystem:
    """ResNet50 of ImageNet, fine-tuned on the same log-mel."""
    return of_mel(
        c,
        lambda shape, classes: nn.Sequential(
            AsPhoto(), ImageNetwork(Backbone(c.backbone), (), classes)
        ),
        StartFrom(c.weights, c.backbone, "1.backbone.trunk"),
    )


register.variant(
    f"{PAPER}/resnet_scratch", of=f"{PAPER}/resnet_ft", overrides={"weights": "none"},
    parameters=23_512_130, figures=(), summary="ResNet50 from random weights.",
)  # fmt: skip


@register(
    f"{PAPER}/deepspectrum_svm", config=OutsideConfig(), quick={**CUT, **PHOTO},
    tiny={**CUT, **PHOTO}, **MASK,
)  # fmt: skip
def outside(c: OutsideConfig) -> EstimatorSystem | OutsideSystem:
    """An outside system's predictions as a table, or a linear SVM over frozen image features."""
    if c.predictions:
        return OutsideSystem(c.predictions, c.front_end.rate)
    from systems.bags import linear_machine  # loads scikit-learn

    return EstimatorSystem(
        features=OfNetwork(
            c.front_end,
            lambda: nn.Sequential(AsPhoto(), Backbone(c.backbone)),
            StartFrom(c.weights, c.backbone, "1.trunk"),
        ),
        estimator=lambda seed: linear_machine(c.c, seed),
    )


register.fusion(
    f"{PAPER}/snapshot_vote", members=(f"{PAPER}/panns_mixup",), learner="snapshot_vote",
    settings={"count": 5}, figures=(Figure("epochs 10, 15, 20, 25, 30"),),
    summary="The majority vote of epochs 10, 15, 20, 25 and 30 of a training.",
)  # fmt: skip
register.fusion(
    f"{PAPER}/late_fusion_vote", learner="vote",
    members=tuple(
        f"{PAPER}/{name}" for name in ("deepspectrum_svm", "panns_mixup", "snapshot_vote")
    ),
    figures=(Figure("DeepSpectrum + PANNs mixup + snapshots"),),
    summary="The majority vote of an outside system, the last epoch, and the vote of the epochs.",
)  # fmt: skip
