"""Sounds of a city with a tenth of the labels: CNN14 of AudioSet, and FixMatch on the other clips.

Source: Tsao, Lo, Li, Weng and Chen, ROCLING 2021, of whose Chinese text only formulae's digits and
Latin terms were at hand. What is open is settled in docs/papers/panns_fixmatch.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.cnn14 import Cnn14
from systems.network_system import NetworkSystem
from systems.registry import register
from systems.training.labelling import Hidden
from systems.training.losses import CrossEntropy, FixMatch
from systems.training.masking import Drops
from systems.training.mixing import Mixing
from systems.training.settings import Keep, Schedule, Training
from systems.training.views import TwoViews
from systems.weights import StartFrom

PAPER = "panns_fixmatch"
BIBTEX = """
@inproceedings{tsao2021preliminary,
  author    = {Tsao, You-Sheng and Lo, Tien-Hong and Li, Jiun-Ting and Weng, Shi-Yan and
               Chen, Berlin},
  title     = {A Preliminary Study on Environmental Sound Classification Leveraging Large-Scale
               Pretrained Model and Semi-Supervised Learning},
  booktitle = {Conference on Computational Linguistics and Speech Processing (ROCLING)},
  year      = {2021},
}
"""
ADAMW: dict[str, Any] = {
    "optimiser": "adamw", "learning_rate": 5e-4, "weight_decay": 1e-2, "patience": None,
    "momentum": 0.9,  # of SGD
    "schedule": Schedule("cosine_restarts", every=35), "keep": Keep("last"),
}  # fmt: skip


@dataclass(frozen=True)
class SupervisedConfig:
    """CNN14 on the clips of ``labelled_folds`` folds (0: all that train); ``weights``:
    ``audioset``, ``none`` or a file."""

    front_end: LogMel = LogMel(
        window=512, hop=160, bands=64, fmin=50, fmax=8000, log="db", pad="mirror"
    )
    seconds: float = 4.0
    width: int = 64
    weights: str = "audioset"
    labelled_folds: int = 1
    weak: Drops = Drops(bands=8, band_drops=1, frames=32, frame_drops=1)
    mixup: float = 0.0
    smoothing: float = 0.0
    training: Training = Training(epochs=70, labelled=32, unlabelled=0, **ADAMW)


@dataclass(frozen=True)
class Config(SupervisedConfig):
    """And FixMatch on the clips whose labels are hidden: what the ``weak`` view names at a
    probability of ``threshold``, the ``strong`` one is to be named too."""

    strong: Drops = Drops(bands=35, band_drops=2, frames=64, frame_drops=2)
    mixup: float = 0.4
    threshold: float = 0.75
    consistency: float = 0.5  # weight of its loss
    training: Training = field(
        default=Training(epochs=70, labelled=16, unlabelled=112, over="unlabelled", **ADAMW)
    )


FEW = {  # for two CPU cores
    "weights": "none",
    "front_end.hop": 320,
    "width": 8,
    "training.epochs": 20,
    "training.schedule.every": 10,
    "training.learning_rate": 2e-3,
}
FEW_VIEWS = {**FEW, "training.labelled": 8, "training.unlabelled": 24}
TINY = {"width": 4, "labelled_folds": 5, "seconds": 1.0, "training.labelled": 4,
        "training.epochs": 4}  # fmt: skip
URBAN: dict[str, Any] = {
    "task": "single_label_tagging", "dataset": "urbansound8k", "example": "synthetic_classes",
    "labels": ("class",), "gives": ("clip_scores",), "parameters": 79_694_282,
    "schedule": ("training.epochs", "training.schedule.every"),
}  # fmt: skip
SGD = {"training.optimiser": "nesterov", "training.learning_rate": 1e-2,
       "training.weight_decay": 5e-4}  # fmt: skip
RANGER = {"training.optimiser": "lookahead_radam", "training.learning_rate": 1e-3}
ABLATION = "ablation; fold protocol not legible"


def of_urban(c: SupervisedConfig, loss: list[Any], **about: Any) -> NetworkSystem:
    """What all share: CNN14 over a clip's log-mel under drops, and labels that are hidden."""
    mixing = Mixing(c.mixup, per="sample", dominant=True) if c.mixup else None
    return NetworkSystem(
        front_end=c.front_end,
        excerpts=Excerpts(seconds=c.seconds),
        scale="none",
        network=lambda shape, classes: Cnn14(c.front_end.bands, classes, c.width),
        activation="softmax",
        frames=False,
        start=StartFrom(c.weights, "cnn14_16k", "trunk"),
        labelling=[Hidden("fold", c.labelled_folds)] if c.labelled_folds else [],
        augment=[c.weak, *([mixing] if mixing else [])],
        loss=[CrossEntropy(c.smoothing), *loss],
        training=c.training,
        **about,
    )


@register(
    f"{PAPER}/panns_fixmatch", config=Config(), quick=FEW_VIEWS,
    tiny={**FEW_VIEWS, **TINY, "training.unlabelled": 8},
    figures=(
        Figure("semi-supervised, 10% labels"),
        Figure(f"with mixup; {ABLATION}"),
        Figure(f"without mixup; {ABLATION}", {"mixup": 0.0}, node="without mixup"),
        Figure(f"gradient accumulation; {ABLATION}", {"training.accumulate": 2},
               node="accumulation"),
        Figure(f"optimiser AdamW (printed ADAM); {ABLATION}", node="adamw"),
        Figure(f"optimiser SGD; {ABLATION}", SGD, node="sgd"),
        Figure(f"optimiser Ranger; {ABLATION}", RANGER, node="ranger"),
    ),
    unmapped={f"row label lost; {ABLATION}": "what the row is of is lost with the paper's text"},
    **URBAN,
)  # fmt: skip
def fixmatch(c: Config) -> NetworkSystem:
    """CNN14 of AudioSet, a fold with labels, and FixMatch on eight without."""
    mixing = Mixing(c.mixup, per="sample", dominant=True) if c.mixup else None
    return of_urban(
        c, [FixMatch(c.threshold, c.consistency)], views=TwoViews(c.weak, c.strong, mixing)
    )


register.variant(
    f"{PAPER}/cnn14_fixmatch", of=f"{PAPER}/panns_fixmatch", overrides={"weights": "none"},
    parameters=79_694_282, figures=(Figure("semi-supervised, 10% labels"),), unmapped={},
    summary="The same from random weights.",
)  # fmt: skip


@register(
    f"{PAPER}/panns_ft", config=SupervisedConfig(), quick={**FEW, "training.labelled": 8},
    tiny={**FEW, **TINY},
    figures=(
        Figure("supervised, 10% labels"),
        Figure("supervised, 100% labels", {"labelled_folds": 0}),
        Figure(f"supervised; {ABLATION}"),
    ),
    **URBAN,
)  # fmt: skip
def supervised(c: SupervisedConfig) -> NetworkSystem:
    """CNN14 of AudioSet, fine-tuned on a fold with labels, or on nine."""
    return of_urban(c, [])


register.variant(
    f"{PAPER}/cnn14_scratch", of=f"{PAPER}/panns_ft", overrides={"weights": "none"},
    parameters=79_694_282, summary="CNN14 from random weights.",
    figures=(Figure("supervised, 10% labels"), Figure(f"supervised; {ABLATION}")),
)  # fmt: skip
