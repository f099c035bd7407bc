"""Masks and breath from speech: ImageNet networks, convolutions with LSTMs, and their fusions.

Source: Markitantov et al., INTERSPEECH 2020 (ComParE). Sections are the paper's; what it leaves
open is settled in docs/papers/mask_breathing_resnet.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from systems.clip_features import OfWaveform
from systems.data.prepare import Standardised
from systems.data.protocol import Protocol
from systems.estimator_system import EstimatorSystem
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.embeddings import FrameEmbeddings
from systems.frontend.log_mel import LogMel, Mfcc, Waveform
from systems.nets.backbone import Backbone, ImageNetwork
from systems.nets.convs import Conv, ConvStack
from systems.nets.recurrent import SeriesHead
from systems.nets.residual import Bottleneck
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, register
from systems.training.losses import CrossEntropy, OneMinusPcc
from systems.training.settings import Keep, Schedule, Training
from systems.weights import StartFrom

BIBTEX = """
@inproceedings{markitantov2020ensembling,
  author    = {Markitantov, Maxim and Dresvyanskiy, Denis and Mamontov, Danila and Kaya, Heysem and
               Minker, Wolfgang and Karpov, Alexey},
  title     = {Ensembling End-to-End Deep Models for Computational Paralinguistics Tasks: {ComParE}
               2020 Mask and Breathing Sub-Challenges},
  booktitle = {Interspeech},
  year      = {2020},
}
"""
PAPER = "mask_breathing_resnet"
STEP = 0.04  # s: 25 values of the belt a second
PARTS = ("devel", "train")  # the folds of devel come first, as in the authors' code
FOUR = Protocol(folds=4, of=PARTS, grouped="clip", final="fold_mean")
TEN = replace(FOUR, folds=10)
RECORDINGS = Protocol(folds=4, of=("train", "devel"), shuffled=False, final="fold_mean")


@dataclass(frozen=True)
class MaskConfig:
    """An image network over log-mel or MFCC; ``v1`` has three dense layers, ``v2`` one."""

    front_end: LogMel = LogMel(window=512, hop=160, bands=64, center=False, log="db_max",
                               range_db=80.0)  # fmt: skip
    features: Literal["log_mel", "mfcc"] = "log_mel"
    image_size: int = 0
    backbone: str = "resnet18"
    weights: str = "imagenet"
    head: Literal["v1", "v2"] = "v2"
    head_dropout: float = 0.6
    training: Training = Training(
        epochs=120, labelled=16, unlabelled=0, learning_rate=1e-4, patience=None,
        schedule=Schedule("plateau", factor=0.1, patience=1, on="loss"), keep=Keep(on="loss"),
    )  # fmt: skip


SGD = {"training.optimiser": "sgd", "training.learning_rate": 1e-3, "training.momentum": 0.9}
SMALL = {"backbone": "test_resnet", "weights": "none"}  # no weights: see the paper's card
MASK: dict[str, Any] = {
    "task": "speech_classification", "dataset": "compare2020_mask", "example": "synthetic_speech",
    "labels": ("class",), "protocol": FOUR,
}  # fmt: skip


@register(
    f"{PAPER}/mask_resnet18v2",
    config=MaskConfig(),
    schedule=("training.epochs",),
    quick={**SMALL, "training.epochs": 8, "training.learning_rate": 1e-3},
    tiny={**SMALL, "training.epochs": 4, "training.learning_rate": 3e-3},
    figures=(Figure("Adam", {}), Figure("SGD", SGD)),
    gives=("clip_scores",),
    classes=2,
    parameters=11_177_538,
    **MASK,
)
def mask(c: MaskConfig) -> NetworkSystem:
    """ResNet18 over log-mel images with one dense layer: mask or clear."""
    hidden = (256, 16) if c.head == "v1" else ()
    return NetworkSystem(
        front_end=c.front_end if c.features == "log_mel" else Mfcc(c.front_end),
        excerpts=Excerpts(seconds=1.0),
        scale="batch",
        network=lambda shape, classes: ImageNetwork(
            Backbone(c.backbone, size=c.image_size), hidden, classes, c.head_dropout
        ),
        activation="softmax",
        frames=False,
        activation_maps=c.features == "log_mel",
        start=StartFrom(c.weights, c.backbone, "backbone.trunk"),
        loss=[CrossEntropy()],
        training=c.training,
    )


register.variant(
    f"{PAPER}/mask_resnet18v1", of=f"{PAPER}/mask_resnet18v2", overrides={"head": "v1"},
    parameters=11_311_986, figures=(), summary="The same with three dense layers and dropout.",
)  # fmt: skip


@dataclass(frozen=True)
class SvmConfig:
    """A support vector machine over bags of audio words."""

    words: int = 2000
    c: float = 1.0
    gamma: float = 0.0  # 0: one over the number of features times their variance
    kernel: Literal["rbf", "linear"] = "rbf"


@register(
    f"{PAPER}/mask_boaw_svm", config=SvmConfig(), quick={"words": 200}, tiny={"words": 20},
    gives=("clip_scores",), classes=2, **MASK,
)  # fmt: skip
def mask_svm(c: SvmConfig) -> EstimatorSystem:
    """A non-linear SVM over bags of audio words."""
    from systems.bags import bag_machine, descriptors  # loads scikit-learn

    return EstimatorSystem(
        features=OfWaveform(16_000, descriptors),
        estimator=lambda seed: bag_machine(c.words, c.c, c.gamma or "scale", c.kernel, seed),
    )


@dataclass(frozen=True)
class BreathConfig:
    """Convolutions that shorten the waveform 640 times, and two LSTMs (section 3.2.1)."""

    size: Literal["small", "medium", "complex"] = "medium"
    seconds: float = 16.0  # of a window; the batch is 26 at 24 s
    hop: float = 0.4
    width: float = 1.0  # of all layers, times
    dropout: float = 0.3
    training: Training = Training(epochs=150, labelled=40, unlabelled=0, patience=None)


CONVS = {  # (channels, kernel, pool); of the kernel of 5 the mean, else the maximum
    "small": ((32, 10, 10), (64, 8, 8), (128, 6, 8)),
    "medium": ((64, 10, 10), (128, 8, 4), (256, 6, 4), (256, 5, 4)),
}
LSTMS = {"small": (256, 256), "medium": (256, 256), "complex": (512, 256)}


class BreathNetwork(nn.Module):
    """Waveform [B, 1, S] -> the belt [B, S / 640, 1] in -1..1; the trunk gives the embedding."""

    def __init__(self, c: BreathConfig, shape: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.trunk, width = breath_trunk(c, shape)
        units = [round(n * c.width) for n in LSTMS[c.size]]
        dropout = (0.0, c.dropout if c.size == "complex" else 0.0)
        self.head = SeriesHead("lstm", width, units, dropout, outputs)

    def forward(self, x: Tensor) -> Outputs:
        embedding = self.trunk(x).transpose(1, 2)
        return Outputs(frames=self.head(embedding), frame_embedding=embedding)


def breath_trunk(c: BreathConfig, shape: tuple[int, int]) -> tuple[nn.Module, int]:
    """What shortens the waveform 640 times, and its channels."""
    if c.size != "complex":
        about: dict[str, Any] = {"order": "conv act drop", "dropout": c.dropout}
        rows = [(round(n * c.width), k, p) for n, k, p in CONVS[c.size]]
        table = [Conv(n, k, pool=p, pooling="mean" if k == 5 else "max", **about)
                 for n, k, p in rows]  # fmt: skip
        return ConvStack(table, shape), table[-1].channels
    stem, inner, one, inner_two, two = (round(n * c.width) for n in (128, 64, 256, 128, 512))
    first = [Bottleneck(stem, inner, one), *(Bottleneck(one, inner, one) for _ in range(2))]
    second = [Bottleneck(one, inner_two, two), *(Bottleneck(two, inner_two, two) for _ in range(2))]
    start = ConvStack([Conv(stem, 8, pool=10)], shape)
    return nn.Sequential(start, *first, nn.AvgPool1d(8), *second, nn.AvgPool1d(8)), two


BREATH: dict[str, Any] = {
    "task": "series_regression", "dataset": "compare2020_breathing", "labels": ("series",),
    "protocol": RECORDINGS, "gives": ("frame_values",), "classes": 1,
    "schedule": ("training.epochs",),
}  # fmt: skip
CUT = {"seconds": 8.0, "width": 0.25, "training.labelled": 4}
SINGLE = "single model; no CV"


@register(
    f"{PAPER}/breath_cnn_lstm_medium",
    config=BreathConfig(),
    quick={**CUT, "training.epochs": 6, "training.steps_per_epoch": 40},
    tiny={
        **CUT,
        "width": 0.1,
        "training.epochs": 3,
        "training.learning_rate": 3e-3,
        "training.steps_per_epoch": 12,
    },
    parameters=1_644_097,
    **BREATH,
)
def breath(c: BreathConfig) -> NetworkSystem:
    """Four convolutions and two LSTMs over the waveform."""
    return NetworkSystem(
        front_end=Waveform(16_000),
        prepare=Standardised(),
        excerpts=Excerpts(
            seconds=c.seconds, train="windows", predict="windows", hop=c.hop, mean="overlap"
        ),
        scale="none",
        step=STEP,
        network=lambda shape, outputs: BreathNetwork(c, shape, outputs),
        loss=[OneMinusPcc()],
        training=c.training,
    )


register.variant(
    f"{PAPER}/breath_cnn_lstm_small", of=f"{PAPER}/breath_cnn_lstm_medium",
    overrides={"size": "small"}, parameters=987_937, protocol=None,  # train, judged on devel
    figures=(Figure(SINGLE, split="dev"), Figure(SINGLE, split="test")),
    summary="Three convolutions with fewer filters.",
)  # fmt: skip
register.variant(
    f"{PAPER}/breath_cnn_lstm_complex", of=f"{PAPER}/breath_cnn_lstm_medium",
    overrides={"size": "complex"}, parameters=3_821_441,
    summary="Seven residual blocks and two LSTMs.",
)  # fmt: skip


@dataclass(frozen=True)
class PiecesConfig:
    """An image network over a second of log-mel around each value, and two GRUs (3.2.2)."""

    front_end: LogMel = LogMel(window=640, hop=320, bands=128, center=False, log="db_max",
                               range_db=80.0)  # fmt: skip
    seconds: float = 80.0
    backbone: str = "resnet18"
    weights: str = "imagenet"
    units: tuple[int, ...] = (512, 64)
    dropout: float = 0.3
    training: Training = Training(
        epochs=20, labelled=1, unlabelled=0, learning_rate=2e-3, patience=None
    )


class PiecesNetwork(nn.Module):
    """Log-mel [B, 1, F, 2 T + 48] -> the belt [B, T, 1]: a piece of 50 frames for each value."""

    def __init__(self, c: PiecesConfig, outputs: int) -> None:
        super().__init__()
        self.backbone = Backbone(c.backbone)
        self.head = SeriesHead("gru", self.backbone.width, c.units, (c.dropout,) * 2, outputs)

    def forward(self, x: Tensor) -> Outputs:
        pieces = x.unfold(3, 50, 2).permute(0, 3, 1, 2, 4)  # [B, T, 1, F, 50]
        embedding = self.backbone(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2])
        return Outputs(frames=self.head(embedding), frame_embedding=embedding)


FROZEN = tuple(f"backbone.trunk.{name}" for name in ("conv1", "bn1", "layer1", "layer2"))
SHORT = {"seconds": 8.0, "backbone": "test_resnet", "weights": "none", "units": (32, 16)}


@register(
    f"{PAPER}/breath_resnet18_gru",
    config=PiecesConfig(),
    quick={**SHORT, "front_end.bands": 32, "training.epochs": 3, "training.steps_per_epoch": 40},
    tiny={
        **SHORT,
        "front_end.bands": 8,
        "seconds": 4.0,
        "units": (16, 8),
        "training.epochs": 3,
        "training.steps_per_epoch": 15,
    },
    parameters=12_863_489,
    **BREATH,
)
def pieces(c: PiecesConfig) -> NetworkSystem:
    """A partly frozen ResNet18 over log-mel pieces, and two GRUs."""
    frames = round(c.seconds / c.front_end.hop_seconds)
    return NetworkSystem(
        front_end=c.front_end,
        excerpts=Excerpts(
            frames=frames, overhang=48, mirror=0.5, train="windows", predict="windows", hop=0.5,
            mean="overlap",
        ),
        scale="all",
        step=STEP,
        network=lambda shape, outputs: PiecesNetwork(c, outputs),
        start=StartFrom(c.weights, c.backbone, "backbone.trunk"),
        frozen=FROZEN,
        loss=[OneMinusPcc()],
        training=c.training,
    )  # fmt: skip


@dataclass(frozen=True)
class FusionConfig:
    """Two LSTMs over the embeddings of two trained networks (section 3.2.3)."""

    seconds: float = 64.0
    units: tuple[int, ...] = (512, 256)
    dropout: float = 0.4
    training: Training = Training(
        epochs=100, labelled=15, unlabelled=0, patience=None, optimiser="nadam"
    )


class FusionNetwork(nn.Module):
    """Embeddings [B, 1, E, T], each step of unit length -> the belt [B, T, 1]."""

    def __init__(self, c: FusionConfig, shape: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.head = SeriesHead("lstm", shape[1], c.units, (0.0, c.dropout), outputs)

    def forward(self, x: Tensor) -> Outputs:
        steps = nn.functional.normalize(x[:, 0].transpose(1, 2), dim=2)
        return Outputs(frames=self.head(steps))


FITTED: dict[str, Any] = {"what": "fitted", "rows": "same_fold"}


@register(
    f"{PAPER}/breath_de_fusion_lstm",
    config=FusionConfig(),
    quick={"seconds": 16.0, "units": (64, 32), "training.labelled": 4, "training.epochs": 8},
    tiny={"seconds": 8.0, "units": (8, 8), "training.epochs": 3},
    requires={
        "cnn": Requirement(f"{PAPER}/breath_cnn_lstm_medium", **FITTED),
        "resnet": Requirement(f"{PAPER}/breath_resnet18_gru", **FITTED),
    },
    figures=(Figure("LSTM 512+256 on concatenated embeddings; mean of 4 folds", split="cv"),),
    parameters=3_414_273,
    **BREATH,
)  # fmt: skip
def fusion_network(c: FusionConfig) -> NetworkSystem:
    """LSTMs over the embeddings of the convolutions and of the ResNet."""
    return NetworkSystem(
        front_end=FrameEmbeddings(16_000, ("cnn", "resnet"), (256, 512), STEP),
        excerpts=Excerpts(
            frames=round(c.seconds / STEP), train="windows", predict="windows", hop=0.4,
            mean="overlap",
        ),
        step=STEP,
        network=lambda shape, outputs: FusionNetwork(c, shape, outputs),
        loss=[OneMinusPcc()],
        training=c.training,
    )  # fmt: skip


ADAM, BY_SGD = f"{PAPER}/mask_resnet18v2#Adam", f"{PAPER}/mask_resnet18v2#SGD"
BEST = "ResNet18v2 best of Adam/SGD per fold; N="
VARIANTS = {  # fusion -> variants of results.csv
    "mask_sys1": ("ResNet18v1 Adam; N=4",),
    "mask_sys2": (BEST + "4", BEST + "4; text value differs from table"),
    "mask_sys3": ("ResNet18v2 SGD + SVM BoAW-2000; N=4",),
    "mask_sys4": (BEST + "10",),
    "mask_sys5": ("WF of ResNet18v2 Adam and SGD; N=10",),
    "breath_sys2": ("breath_cnn_lstm_medium; 4 folds",),
    "breath_sys3": ("breath_cnn_lstm_complex; 4 folds",),
    "breath_sys4": ("breath_resnet18_gru; 4 folds",),
    "breath_sys5": (
        "Dirichlet-weighted fusion of medium + resnet18_gru + DE fusion; 4 folds",
    ),
}  # fmt: skip
BREATH_THREE = tuple(
    f"{PAPER}/{name}"
    for name in ("breath_cnn_lstm_medium", "breath_resnet18_gru", "breath_de_fusion_lstm")
)
ONE = {"whole": True}  # a fold takes one member, the best on its held-out rows
for name, members, learner, settings, protocol, summary in (
    ("mask_sys1", (f"{PAPER}/mask_resnet18v1",), "mean", {}, FOUR, "ResNet18v1 of four folds."),
    ("mask_sys2", (ADAM, BY_SGD), "fold_weights", ONE, FOUR, "Adam or SGD, by fold."),
    ("mask_sys3", (BY_SGD, f"{PAPER}/mask_boaw_svm"), "fold_weights", {"given": (0, 0, 1, 1)},
     FOUR, "ResNet18v2 in the first two folds, the SVM in the others."),
    ("mask_sys4", (ADAM, BY_SGD), "fold_weights", ONE, TEN, "Adam or SGD, by one of ten folds."),
    ("mask_sys5", (ADAM, BY_SGD), "fold_weights", {}, TEN, "Adam and SGD, weighted by fold."),
    ("breath_sys2", BREATH_THREE[:1], "mean", {}, RECORDINGS, "Convolutions of four folds."),
    ("breath_sys3", (f"{PAPER}/breath_cnn_lstm_complex",), "mean", {}, RECORDINGS,
     "Residual convolutions of four folds."),
    ("breath_sys4", BREATH_THREE[1:2], "mean", {}, RECORDINGS, "ResNet18 and GRUs of four folds."),
    ("breath_sys5", BREATH_THREE, "fold_weights", {"standardise": True}, RECORDINGS,
     "Three networks, weighted by fold."),
):  # fmt: skip
    register.fusion(
        f"{PAPER}/{name}", members=members, learner=learner, settings=settings,
        final="fold_mean", protocol=protocol, summary=summary,
        figures=tuple(Figure(variant) for variant in VARIANTS[name]),
    )  # fmt: skip
