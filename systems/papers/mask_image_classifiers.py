"""Is a mask worn? Networks of images over spectrograms as pictures, and the mean of several.

Source: Szep and Hariri, INTERSPEECH 2020 (ComParE), of which only the abstract was at hand; what it
leaves open is settled in docs/papers/mask_image_classifiers.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.image import SpectrogramImage
from systems.nets.backbone import Backbone, ImageNetwork
from systems.network_system import NetworkSystem
from systems.registry import register
from systems.training.losses import CrossEntropy
from systems.training.mixing import Mixing
from systems.training.settings import Schedule, Training
from systems.weights import StartFrom

BIBTEX = """
@inproceedings{szep2020paralinguistic,
  author    = {Szep, Jeno and Hariri, Salim},
  title     = {Paralinguistic Classification of Mask Wearing by Image Classifiers and Fusion},
  booktitle = {Interspeech},
  year      = {2020},
}
"""
PAPER = "mask_image_classifiers"
LINEAR, LOG = f"{PAPER}/imgclf_linear3ch", f"{PAPER}/imgclf_logscale"


@dataclass(frozen=True)
class Config:
    """A network of images over three spectrograms; its body learns more slowly than its head."""

    front_end: SpectrogramImage = SpectrogramImage()
    image_size: int = 224
    backbone: str = "resnet50"
    weights: str = "imagenet"
    body_rate: float = 0.1  # of the head's learning rate
    mixup: float = 0.0  # alpha; 0: none
    training: Training = Training(
        epochs=15, labelled=64, unlabelled=0, learning_rate=1e-3, patience=None, optimiser="adamw",
        weight_decay=1e-2, schedule=Schedule("one_cycle"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.body_rate <= 0 or self.mixup < 0:
            raise ValueError("body_rate lies above 0, mixup at or above 0")


SMALL: dict[str, Any] = {  # without ImageNet's weights all of it is new, and learns at one rate
    "backbone": "test_resnet", "weights": "none", "image_size": 96, "body_rate": 1.0,
    "training.labelled": 16,
}  # fmt: skip
MEMBERS: dict[str, dict[str, Any]] = {  # of the fusion: other backbones and other pictures
    "short windows": {"backbone": "resnet34", "front_end.window": 128},
    "differences": {
        "backbone": "densenet121", "front_end.window": 400, "front_end.content": "deltas"
    },
}  # fmt: skip


@register(
    LINEAR, config=Config(), dataset="compare2020_mask", task="speech_classification",
    example="synthetic_speech", labels=("class",), gives=("clip_scores",),
    schedule=("training.epochs",), classes=2, parameters=23_512_130,
    quick={**SMALL, "training.epochs": 10},
    tiny={**SMALL, "image_size": 48, "training.epochs": 4, "training.labelled": 8,
          "training.learning_rate": 3e-3},
    figures=tuple(Figure(name, overrides) for name, overrides in MEMBERS.items()),
    unmapped={"gain over best single-dataset baseline model; set and kind not stated":
              "neither its baseline nor what it was scored on is stated"},
)  # fmt: skip
def classifier(c: Config) -> NetworkSystem:
    """A network of images over three spectrograms on a linear scale: mask or clear."""
    return NetworkSystem(
        front_end=c.front_end,
        excerpts=Excerpts(seconds=1.0),
        scale="none",
        network=lambda shape, classes: ImageNetwork(
            Backbone(c.backbone, size=c.image_size), (), classes
        ),
        activation="softmax",
        frames=False,
        activation_maps=True,
        start=StartFrom(c.weights, c.backbone, "backbone.trunk"),
        lr_scales={"backbone": c.body_rate},
        augment=[Mixing(c.mixup)] if c.mixup else [],
        loss=[CrossEntropy()],
        training=c.training,
    )


register.variant(
    LOG, of=LINEAR, overrides={"front_end.scale": "log"}, parameters=23_512_130, figures=(),
    unmapped={}, summary="The same over spectrograms on a logarithmic scale.",
)  # fmt: skip
register.fusion(
    f"{PAPER}/imgclf_fusion",
    members=(LINEAR, *(f"{LINEAR}#{name}" for name in MEMBERS), LOG),
    learner="mean",
    summary="The mean of four networks with other backbones, spectrograms and scales.",
    figures=(
        Figure("trained on train only; scored set implied (devel)", split="dev"),
        Figure("trained on train+devel", split="test"),
    ),
    unmapped={"gain over the challenge baseline": "the baseline is not registered"},
)
