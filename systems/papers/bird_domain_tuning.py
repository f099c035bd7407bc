"""Birds in recordings of several domains: a convolutional network on three front ends, enhanced or
aligned, and three of them joined.

Source: Liaqat, Bozorg, Jose, Conrey, Tamasi and Johnson, DCASE 2018 workshop. What the paper leaves
open is settled in docs/papers/bird_domain_tuning.md, mostly by the team's code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from systems.data.enhancement import Enhanced
from systems.data.protocol import Protocol
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.coral import Coral
from systems.frontend.embeddings import FrameEmbeddings
from systems.frontend.log_mel import LogMel
from systems.frontend.ranged import Ranged
from systems.nets.convs import Conv, ConvStack
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, register
from systems.training.losses import KernelPenalty, LogitBce
from systems.training.masking import Rolls
from systems.training.settings import Schedule, Training

PAPER = "bird_domain_tuning"
BIBTEX = """
@inproceedings{liaqat2018domain,
  author    = {Liaqat, Sidrah and Bozorg, Narjes and Jose, Neenu and Conrey, Patrick and
               Tamasi, Anthony and Johnson, Michael T.},
  title     = {Domain Tuning Methods for Bird Audio Detection},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
B = LogMel(  # 46 ms every 14 ms
    rate=22_050, window=1024, hop=315, bands=80, fmin=50, fmax=11_000, power=1, mel="htk",
    floor=2.2e-16, whole_hops=True,
)  # fmt: skip
HT = LogMel(  # 12 ms every 6 ms, as HTK has filter banks
    rate=44_100, window=529, hop=264, fft=1024, bands=80, fmin=50, fmax=12_000,
    window_shape="hamming", center=False, frame="window", power=1, mel="htk", triangles="mel",
    norm="none", floor=1.0, full_scale=32_768, emphasis=0.97,
)  # fmt: skip
HF = replace(HT, window=1411, hop=705, fft=2048, bands=160)  # 32 ms every 16 ms


@dataclass(frozen=True)
class Alignment:
    """CORAL to a domain: ``column`` of the clips (empty: none is aligned), ``target``, how many
    ``clips`` of a domain give its covariance, ``ridge`` (lambda); ``centred``: the means too."""

    column: str = ""
    target: str = "warblrb10k"
    clips: int = 128
    ridge: float = 1.0
    centred: bool = True


@dataclass(frozen=True)
class Config:
    """A network over ``seconds`` of log-mel, which lies between ``low`` and ``high``."""

    front_end: LogMel = B
    low: float = -15.0966
    high: float = 2.25745
    seconds: float = 10.0
    enhanced: Enhanced | None = None
    coral: Alignment = Alignment()
    filters: int = 16
    dense: tuple[int, int] = (256, 32)
    dropout: float = 0.5
    slope: float = 0.001
    l2: float = 0.01  # of the last convolution's kernel
    class_weights: tuple[float, float] = (0.5, 0.5)  # without, with a bird
    rolls: Rolls = Rolls(frequency=0.0, time=0.0)
    training: Training = Training(
        epochs=40, labelled=16, unlabelled=0, patience=None,
        schedule=Schedule("plateau", factor=0.2, patience=5, floor=1e-5),
    )  # fmt: skip


@dataclass(frozen=True)
class FusionConfig:
    """Dense layers over the vectors of three networks, which stay as they are."""

    dense: tuple[int, int] = (32, 16)
    slope: float = 0.1
    class_weights: tuple[float, float] = (0.5, 0.5)
    training: Training = Training(
        epochs=15, labelled=16, unlabelled=0, patience=None,
        schedule=Schedule("plateau", factor=0.2, patience=5, floor=1e-5),
    )  # fmt: skip


class Bulbul(nn.Module):
    """Log-mel [B, 1, F, T] -> logits [B, K] (Figure 1); the embedding is the second dense layer's
    affine output [B, 32]."""

    def __init__(self, c: Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        pools = (3, 3), (3, 3), (1, 3), (1, 3)  # of bands, of frames
        table = [
            Conv(c.filters, padding="valid", activation="leaky", slope=c.slope, pool=pool)
            for pool in pools
        ]
        self.convs = ConvStack(table, shape)
        first, second = c.dense
        flat = int(torch.Size(self.convs.out).numel())
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Dropout(c.dropout), nn.Linear(flat, first), nn.BatchNorm1d(first),
            nn.LeakyReLU(c.slope), nn.Dropout(c.dropout), nn.Linear(first, second),
        )  # fmt: skip
        self.out = nn.Sequential(
            nn.BatchNorm1d(second), nn.LeakyReLU(c.slope), nn.Dropout(c.dropout),
            nn.Linear(second, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Outputs:
        embedding = self.hidden(self.convs(x))
        return Outputs(self.out(embedding), embedding=embedding)


LAST = "convs.blocks.3.convolutions.0.0.weight"  # the fourth convolution's kernel


class Joined(nn.Module):
    """Vectors of three networks [B, 1, E, 1] -> logits [B, K]."""

    def __init__(self, c: FusionConfig, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for units in c.dense:
            layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.LeakyReLU(c.slope)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.layers(x))


BIRDS: dict[str, Any] = {
    "task": "bird_audio_detection", "dataset": "dcase2018_task3", "labels": ("tags",),
    "gives": ("clip_scores",), "schedule": ("training.epochs",), "classes": 1,
    "protocol": Protocol(hold_out=0.05, grouped="clip", final="fold_mean"),
}  # fmt: skip
QUICK = {  # for two CPU cores
    "training.epochs": 6, "training.steps_per_epoch": 15, "filters": 4, "dense": (64, 32),
}  # fmt: skip
TINY = {"training.epochs": 4, "filters": 4, "dense": (16, 8), "dropout": 0.0}
EMBEDDED = {"synthetic": {"seconds": 3.0, "coral.column": ""}}  # which has no domains
SPLIT = "split of Acc not stated"


def figures(variant: str, validated: bool = True) -> tuple[Figure, ...]:
    """The rows of a network: on the leaderboard, and its accuracies."""
    more = (f"{variant}; validation accuracy",) if validated else ()
    return tuple(Figure(one) for one in (variant, f"{variant}; {SPLIT}", *more))


@register(
    f"{PAPER}/bulbul_bn", config=Config(), parameters=131_025, figures=figures("B"),
    quick=QUICK, tiny=TINY, published=EMBEDDED, **BIRDS,
)  # fmt: skip
def bulbul(c: Config) -> NetworkSystem:
    """The bulbul network with norms on 700 frames of 80 bands."""
    about = vars(c.coral)
    aligned = Coral(c.front_end, **about) if c.coral.column else c.front_end
    return NetworkSystem(
        front_end=Ranged(aligned, c.low, c.high),
        change=c.enhanced,
        excerpts=Excerpts(
            frames=c.front_end.frames(round(c.seconds * c.front_end.rate)), train="start",
            predict="start", made_of=c.seconds, at_least=c.seconds,
        ),
        scale="none",
        network=lambda shape, classes: Bulbul(c, shape, classes),
        activation="sigmoid",
        frames=False,
        augment=[c.rolls] if c.rolls.time or c.rolls.frequency else [],
        loss=[LogitBce(*c.class_weights), KernelPenalty(LAST, c.l2)],
        training=c.training,
    )  # fmt: skip


FINE_TIME = {"front_end": HT, "low": 0.0, "high": 17.0}
VARIANTS: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("bulbul_bn_ht", "bulbul_bn", FINE_TIME,
     {"parameters": 327_633, "figures": figures("HT"),
      "summary": "The same on 1669 frames: high time resolution."}),
    ("bulbul_bn_hf", "bulbul_bn_ht", {"front_end": HF},
     {"parameters": 311_249, "figures": figures("HF"),
      "summary": "The same on 624 frames of 160 bands: high frequency resolution."}),
    ("bulbul_bn_hte", "bulbul_bn_ht", {"enhanced": Enhanced()},
     {"parameters": 327_633, "figures": figures("HT enhanced", validated=False),
      "summary": "High time resolution of enhanced sound (IMCRA and LSA)."}),
    ("bulbul_bn_coral", "bulbul_bn", {"coral.column": "datasetid"},
     {"parameters": 131_025, "figures": figures("CN"),
      "summary": "The first, all sets aligned to one by their covariances (CORAL)."}),
    ("bulbul_bn_ht_se_coral", "bulbul_bn_hte", {"coral.column": "datasetid"},
     {"parameters": 327_633, "figures": (Figure("sequence HT-SE-CV"),),
      "summary": "High time resolution of enhanced sound, aligned: all three in sequence."}),
)  # fmt: skip
for name, of, overrides, about in VARIANTS:
    register.variant(f"{PAPER}/{name}", of=f"{PAPER}/{of}", overrides=overrides, **about)

FITTED: dict[str, Any] = {"what": "fitted", "rows": "same_fold"}
PARALLEL = {"b": "bulbul_bn", "ht": "bulbul_bn_ht", "hf": "bulbul_bn_hf"}


@register(
    f"{PAPER}/score_fusion_nn", config=FusionConfig(), parameters=3_745,
    requires={n: Requirement(f"{PAPER}/{one}", **FITTED) for n, one in PARALLEL.items()},
    figures=(Figure("parallel B/HT/HF then 3 FC layers"),),
    quick={"training.epochs": 8}, tiny={"training.epochs": 4}, **BIRDS,
)  # fmt: skip
def fusion_network(c: FusionConfig) -> NetworkSystem:
    """Three dense layers over the vectors of the first, fine time and fine frequency networks."""
    return NetworkSystem(
        front_end=FrameEmbeddings(44_100, tuple(PARALLEL), (32,) * 3, 10.0, whole=True),
        excerpts=Excerpts(frames=1, train="start", predict="start"),
        scale="none",
        network=lambda shape, classes: Joined(c, shape[1], classes),
        activation="sigmoid",
        frames=False,
        loss=[LogitBce(*c.class_weights)],
        training=c.training,
    )


def members(*names: str) -> tuple[str, ...]:
    return tuple(f"{PAPER}/{name}" for name in names)


for name, together, variant, summary in (
    ("avg5", members("bulbul_bn", "bulbul_bn_ht", "bulbul_bn_hte", "bulbul_bn_coral",
                     "bulbul_bn_hf"), "mean of B, HT, HTE, CN, HF", "The mean of five networks."),
    ("wavg4", members("score_fusion_nn", "bulbul_bn", "bulbul_bn_ht", "bulbul_bn_hf"),
     "weighted mean of score fusion, B, HT, HF",
     "The mean of the fusion network and its three, equally weighted."),
    ("submission", members("bulbul_bn", "bulbul_bn_hf", "bulbul_bn_ht", "bulbul_bn_coral",
                           "bulbul_bn_hte", "score_fusion_nn"),
     "submitted run; paper does not say which combination", "The mean of six, as submitted."),
):  # fmt: skip
    register.fusion(
        f"{PAPER}/{name}",
        members=together,
        learner="mean",
        figures=(Figure(variant),),
        summary=summary,
    )
