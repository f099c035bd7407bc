"""Tags from noisy labels: VGG13 and gated and recurrent twins, stacked, and trained a second time.

Source: Iqbal, Kong, Plumbley and Wang, DCASE 2018 workshop. Tables and sections are the paper's;
what it leaves open is settled in docs/papers/gcnn_gcrnn_stacking.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from torch import Tensor, nn

from systems.data.prepare import Segments
from systems.data.protocol import Protocol
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack
from systems.nets.recurrent import ReluGru
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, register
from systems.training.labelling import Confirmed, WeightedBy
from systems.training.losses import CrossEntropy
from systems.training.mixing import Mixing
from systems.training.settings import Keep, Schedule, Training

BIBTEX = """
@inproceedings{iqbal2018noisy,
  author    = {Iqbal, Turab and Kong, Qiuqiang and Plumbley, Mark D. and Wang, Wenwu},
  title     = {General-Purpose Audio Tagging from Noisy Labels Using Convolutional Neural Networks},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
PAPER = "gcnn_gcrnn_stacking"
FLAG = "manually_verified"


@dataclass(frozen=True)
class NetworkConfig:
    """Blocks of two 3x3 convolutions and a 2x2 pool, gated or not (Table 2); a bi-GRU over what is
    left of time, or none."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    gated: bool = True
    recurrent_units: int = 512  # each way; 0: none


@dataclass(frozen=True)
class LabelConfig:
    """The weight of clips that are not verified; what a first pass's stack makes of labels."""

    unverified_weight: float = 0.7  # eta; 0.9 in the second pass
    pass_: Literal[1, 2] = 1
    above: float = 0.7  # tau
    promote: bool = True
    relabel: bool = True


@dataclass(frozen=True)
class Config:
    """A network; the defaults are the paper's, or the card's where the paper is silent."""

    front_end: LogMel = LogMel(  # configuration A; B: 512, 256
        rate=32_000, window=1024, hop=512, bands=64, log="db_max"
    )
    segments: Segments = Segments()
    chunk_frames: int = 128
    network: NetworkConfig = NetworkConfig()
    mixup_alpha: float = 1.0
    labels: LabelConfig = LabelConfig()
    training: Training = Training(
        epochs=40, labelled=128, unlabelled=0, learning_rate=5e-4, patience=None, clip_norm=5.0,
        schedule=Schedule("steps", factor=0.9, every=2), keep=Keep(count=4),
    )  # fmt: skip


class Vgg(nn.Module):
    """Log-mel [B, 1, 64, 128] -> logits [B, K]: a mean over the map, or a bi-GRU's over time."""

    def __init__(self, c: NetworkConfig, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        activation: Literal["glu", "relu"] = "glu" if c.gated else "relu"
        table = [Conv(n, repeat=2, order="conv act norm", activation=activation, pool=2)
                 for n in c.widths]  # fmt: skip
        self.convs = ConvStack(table, shape)
        width = c.widths[-1]
        self.recurrent = ReluGru(width, c.recurrent_units) if c.recurrent_units else None
        self.out = nn.Linear(self.recurrent.out if self.recurrent else width, classes)

    def forward(self, x: Tensor) -> Outputs:
        sequence = self.convs(x).mean(2).transpose(1, 2)  # [B, T, C]
        if self.recurrent is not None:
            sequence = self.recurrent(sequence)
        return Outputs(self.out(sequence.mean(1)))


SECOND = {"labels.pass_": 2, "labels.unverified_weight": 0.9}
FRONT_ENDS: dict[str, dict[str, Any]] = {
    "A": {}, "B": {"front_end.window": 512, "front_end.hop": 256}
}  # fmt: skip
CV = "configuration A, verified training clips, 5 folds"
FIGURES = (
    Figure(CV, {}, split="cv", node="A, pass 1"),
    Figure("B, pass 1", FRONT_ENDS["B"]),
    Figure("A, pass 2", SECOND),
    Figure("B, pass 2", {**SECOND, **FRONT_ENDS["B"]}),
)
QUICK = {  # for two CPU cores
    "front_end.rate": 16_000,
    "front_end.bands": 32,
    "chunk_frames": 64,
    "network.widths": (8, 16, 32),
    "network.recurrent_units": 32,
    "training.epochs": 6,
    "training.labelled": 32,
    "training.steps_per_epoch": 30,
    "training.learning_rate": 2e-3,
}

TINY = {
    **QUICK,
    "front_end.rate": 8000,
    "front_end.window": 512,
    "front_end.hop": 256,
    "chunk_frames": 32,
    "network.widths": (4, 8),
    "network.recurrent_units": 8,
    "training.labelled": 8,
    "training.steps_per_epoch": 6,
}


def requires(config: Config) -> dict[str, Requirement]:
    """In the second pass, what the first one's stack says of every training clip."""
    return {"stack": Requirement(f"{PAPER}/teacher")} if config.labels.pass_ == 2 else {}


@register(
    f"{PAPER}/gcrnn",
    config=Config(),
    task="single_label_tagging",
    dataset="fsdkaggle2018",
    labels=("class",),
    schedule=("training.epochs",),
    quick=QUICK,
    protocol=Protocol(folds=5, grouped="clip", strata=(FLAG,), judged={FLAG: (1,)},
                      final="fold_mean"),
    figures=FIGURES,
    requires=requires,
    parameters=22_004_393,  # counted, as are those below
    classes=41,
    tiny=TINY,
)  # fmt: skip
def network(config: Config) -> NetworkSystem:
    """Gated convolutions and a bidirectional GRU: the best single network."""
    c, labels = config, config.labels
    labelling: list[Any] = [WeightedBy(FLAG, {"0": labels.unverified_weight})]
    if labels.pass_ == 2:
        teach = Confirmed("stack", FLAG, "1", labels.above, labels.promote, labels.relabel)
        labelling.insert(0, teach)
    return NetworkSystem(
        front_end=c.front_end,
        prepare=c.segments,
        excerpts=Excerpts(
            frames=c.chunk_frames, train="windows", predict="windows", short="minimum",
            mean="geometric",
        ),
        scale="all",
        network=lambda shape, classes: Vgg(c.network, shape, classes),
        activation="softmax",
        frames=False,
        labelling=labelling,
        augment=[Mixing(c.mixup_alpha)] if c.mixup_alpha else [],
        loss=[CrossEntropy()],
        training=c.training,
    )  # fmt: skip


NO_RNN, PLAIN = {"network.recurrent_units": 0}, {"network.gated": False}
for name, overrides, parameters, summary in (
    ("vgg13", {**PLAIN, **NO_RNN}, 9_430_761, "Plain convolutions and a mean."),
    ("gcnn", NO_RNN, 18_834_601, "Gated convolutions and a mean."),
    ("crnn", PLAIN, 12_600_553, "Plain convolutions and a bidirectional GRU."),
):
    register.variant(
        f"{PAPER}/{name}", of=f"{PAPER}/gcrnn", overrides=overrides, parameters=parameters,
        summary=summary,
    )  # fmt: skip


def members(number: int, networks: tuple[str, ...] = ("vgg13", "gcnn", "crnn", "gcrnn")) -> Any:
    """The networks on both front ends, in one pass."""
    return tuple(
        f"{PAPER}/{name}#{front_end}, pass {number}"
        for name, front_end in product(networks, FRONT_ENDS)
    )


STACK: dict[str, Any] = {
    "learner": "logreg_multinomial", "settings": {"balanced": True}, "final": "fold_mean"
}  # fmt: skip
FOUR = {"members": members(2, ("gcnn", "gcrnn"))}
register.fusion(
    f"{PAPER}/stacking_logreg", members=members(2), row_weights={FLAG: {"0": 0.9}}, **STACK,
    figures=(
        Figure("8-model"),
        Figure("8-model (from the text), verified training clips, 5 folds", split="cv"),
        Figure("4-model (gcnn and gcrnn, A and B)", FOUR),
    ),
    summary="Logistic regression over eight models of the second pass.",
)  # fmt: skip
register.fusion(
    f"{PAPER}/teacher",
    members=members(1),
    row_weights={FLAG: {"0": 0.7}},
    **STACK,
    summary="The same over the first pass, which teaches the second.",
)
register.fusion(
    f"{PAPER}/arithmetic_mean", members=members(2), learner="mean", final="fold_mean",
    figures=(Figure(
        "number of models not explicit (4 or 8), verified training clips, 5 folds", split="cv"
    ),),
    summary="The mean of the eight models.",
)  # fmt: skip
