"""Scenes: a convolutional network decoded from a genome that an evolution has found.

Source: Roletscheck, Watzka, Seiderer, Schiller and André, DCASE 2018 workshop. The evolution itself
is `search_spaces/evolution.py`. What the paper leaves open: docs/papers/deepsaga_evolution.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from systems.data.protocol import LABEL, Protocol
from systems.errors import Impossible
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack, glorot
from systems.network_system import NetworkSystem
from systems.objective import Objective
from systems.outputs import Outputs
from systems.registry import register
from systems.training.losses import CrossEntropy
from systems.training.settings import Schedule, Training

BIBTEX = """
@inproceedings{roletscheck2018evolutionary,
  author    = {Roletscheck, Christian and Watzka, Tobias and Seiderer, Andreas and
               Schiller, Dominik and Andr{\\'e}, Elisabeth},
  title     = {Using an Evolutionary Approach to Explore Convolutional Neural Networks for
               Acoustic Scene Classification},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
PAPER = "deepsaga_evolution"


@dataclass(frozen=True)
class Bundle:
    """A gene bundle: zeros, a convolution, ReLU, a max pool; sizes in time (t) and mel (m)."""

    filters: int = 64
    kernel_t: int = 3
    kernel_m: int = 3
    stride_t: int = 1
    stride_m: int = 1
    pad_t: int = 0
    pad_m: int = 0
    norm: bool = False
    dropout: float = 0.0
    pool_t: int = 1
    pool_m: int = 1
    pool_stride_t: int = 1
    pool_stride_m: int = 1


@dataclass(frozen=True)
class ConvBlock:
    """Chromosome C-0: its first ``bundles`` bundles. Those of genome Nr.1 (Fig. 4)."""

    bundles: int = 2
    bundle_1: Bundle = Bundle(50, 3, 16, 1, 6, 1, 1, norm=True, pool_t=13, pool_m=2)
    bundle_2: Bundle = Bundle(163, 7, 12, 1, 1, 2, 1, pool_t=2, pool_m=2)
    bundle_3: Bundle = Bundle()
    bundle_4: Bundle = Bundle()
    bundle_5: Bundle = Bundle()


@dataclass(frozen=True)
class Dense:
    """Chromosome D-i of a hidden layer: linear, norm, activation, dropout."""

    neurons: int = 128
    activation: Literal["relu", "elu", "selu", "tanh"] = "relu"
    norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Output:
    """The last dense chromosome: norm and dropout before the layer of the classes."""

    norm: bool = True
    dropout: float = 0.3


@dataclass(frozen=True)
class Structure:
    """Chromosome N: how the convolutions end, and how many hidden dense layers follow.

    ``norm_first``: norm and dropout before a bundle's convolution, as Fig. 4 lists them. ``width``:
    share of the filters and neurons that are built. ``most_parameters``, ``most_values``: of a
    network, and of its maps of one sequence; a genome above them is impossible.
    """

    last: Literal["gap", "flatten"] = "gap"
    hidden: int = 0
    norm_first: bool = False
    width: float = 1.0
    most_parameters: int = 20_000_000
    most_values: int = 10_000_000


@dataclass(frozen=True)
class Genes(Training):
    """Chromosome T: the training, and the ``frames`` of a sequence (Seq-Length; half overlap)."""

    frames: int = 48


@dataclass(frozen=True)
class Config:
    """Genome Nr.1, chromosome by chromosome, over the front end."""

    front_end: LogMel = LogMel(
        rate=48_000, window=2048, hop=1024, bands=100, fmax=22_050, window_shape="hamming"
    )
    structure: Structure = Structure()
    conv: ConvBlock = ConvBlock()
    dense_1: Dense = Dense()
    dense_2: Dense = Dense()
    dense_3: Dense = Dense()
    output: Output = Output()
    training: Genes = Genes(
        epochs=100, labelled=126, unlabelled=0, patience=39, least_gain=0.001, optimiser="sgd",
        learning_rate=0.001, momentum=0.232,
        schedule=Schedule("triangular", every=4, peak=0.333, factor=0.99994),
    )  # fmt: skip


def bundles(c: Config, shape: tuple[int, int, int]) -> list[tuple[Conv, int]]:
    """The bundles as convolutions over (mel, time), each with the number of values of its map.

    They are repaired: kernels and pools are no larger than what they slide over.
    """
    rows, size = [], shape[1:]
    order = "{} drop conv act" if c.structure.norm_first else "conv {} act drop"
    for place in range(1, c.conv.bundles + 1):
        b: Bundle = getattr(c.conv, f"bundle_{place}")
        stride, steps = (b.stride_m, b.stride_t), (b.pool_stride_m, b.pool_stride_t)
        padded = (size[0] + 2 * b.pad_m, size[1] + 2 * b.pad_t)
        kernel = (min(b.kernel_m, padded[0]), min(b.kernel_t, padded[1]))
        made = slid(padded, kernel, stride)
        pool = (min(b.pool_m, made[0]), min(b.pool_t, made[1]))
        size = slid(made, pool, steps)
        row = Conv(
            scaled(b.filters, c), kernel, stride=stride, padding=(b.pad_m, b.pad_t), pool=pool,
            pool_stride=steps, dropout=b.dropout, order=order.format("norm" if b.norm else ""),
        )  # fmt: skip
        rows.append((row, row.channels * made[0] * made[1]))
    return rows


def slid(size: tuple[int, int], kernel: tuple[int, int], step: tuple[int, int]) -> tuple[int, int]:
    """Where a kernel fits into a map."""
    return (size[0] - kernel[0]) // step[0] + 1, (size[1] - kernel[1]) // step[1] + 1


def scaled(count: int, c: Config) -> int:
    """Filters or neurons that are built of so many."""
    return max(1, round(count * c.structure.width))


class Decoded(nn.Module):
    """Log-mel [B, 1, F, T] -> logits [B, K]: bundles, their mean or all of it, dense layers."""

    def __init__(self, c: Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.convs = ConvStack([row for row, _ in bundles(c, shape)], shape)
        channels, *rest = self.convs.out
        gap = c.structure.last == "gap"
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1) if gap else nn.Identity(), nn.Flatten())
        features = channels if gap else channels * rest[0] * rest[1]
        layers: list[nn.Module] = []
        activations = {"relu": nn.ReLU, "elu": nn.ELU, "selu": nn.SELU, "tanh": nn.Tanh}
        for d in (c.dense_1, c.dense_2, c.dense_3)[: c.structure.hidden]:
            neurons = scaled(d.neurons, c)
            norm = [nn.BatchNorm1d(neurons)] if d.norm else []
            layers += [nn.Linear(features, neurons), *norm, activations[d.activation]()]
            layers.append(nn.Dropout(d.dropout))
            features = neurons
        layers += [nn.BatchNorm1d(features)] if c.output.norm else []
        layers += [nn.Dropout(c.output.dropout), nn.Linear(features, classes)]
        self.dense = nn.Sequential(*layers)
        glorot(self)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.dense(self.last(self.convs(x))))


def decode(c: Config, shape: tuple[int, int, int], classes: int) -> Decoded:
    """The network of a genome.

    Raises:
        Impossible: it is larger than a network may be.
    """
    with torch.device("meta"):  # before it takes memory
        parameters = sum(p.numel() for p in Decoded(c, shape, classes).parameters())
    values = sum(count for _, count in bundles(c, shape))
    if parameters > c.structure.most_parameters or values > c.structure.most_values:
        raise Impossible(
            f"the genome's network has {parameters:,} parameters and maps of {values:,} values a "
            "sequence: more than structure.most_parameters or structure.most_values"
        )
    return Decoded(c, shape, classes)


def score(accuracy: float, epochs: float, limit: int) -> float:
    """The fitness of a genome (section 3): 0.98 accuracy, 0.02 the share of epochs not needed."""
    return 0.98 * accuracy + 0.02 * (limit - epochs) / limit


QUICK = {  # for two CPU cores
    "front_end.rate": 16_000,
    "front_end.window": 1024,
    "front_end.hop": 512,
    "front_end.bands": 40,
    "front_end.fmax": 0.0,
    "structure.width": 0.1,
    "training.epochs": 10,
    "training.steps_per_epoch": 20,
}
WALL_TIME = "hours of the paper's own machines"
FIGURES = (Figure("class-wise"), Figure("average"))  # Table 1


@register(
    f"{PAPER}/deepsaga_cnn",
    config=Config(),
    task="scene_classification",
    dataset="tut2018",
    example="synthetic_scenes",
    labels=("class",),
    gives=("clip_scores",),
    schedule=("training.epochs",),
    quick=QUICK,
    protocol=Protocol(hold_out=0.25, within=(LABEL, "city"), final="fold_mean"),  # of the places
    figures=FIGURES,
    unmapped={"whole search, all three runs": WALL_TIME, "third run only": WALL_TIME},
    parameters=689_279,
    tiny={**QUICK, "training.steps_per_epoch": 6, "training.labelled": 16, "output.dropout": 0.0},
    objective=Objective("0.98 accuracy + 0.02 (limit − epochs) / limit", score),
)
def deepsaga_cnn(config: Config) -> NetworkSystem:
    """The network of a genome; published is the best one that the evolution has found."""
    return NetworkSystem(
        front_end=config.front_end,
        excerpts=Excerpts(
            frames=config.training.frames, train="windows", predict="windows", hop=0.5, rest="drop"
        ),
        network=lambda shape, classes: decode(config, shape, classes),
        activation="softmax",
        frames=False,
        loss=[CrossEntropy()],
        training=config.training,
    )


register.fusion(
    f"{PAPER}/population_vote",
    members=(f"{PAPER}/deepsaga_cnn",) * 10,
    learner="vote",
    settings={"weights": tuple(range(10, 0, -1)), "ties": "first"},
    final="fold_mean",
    figures=FIGURES,
    summary="The ten best networks of a search vote for a class, the best with ten votes.",
)
