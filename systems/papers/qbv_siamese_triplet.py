"""Search by vocal imitation: TL-IMINET's two towers, trained on triplets or on pairs.

Source: Margolis, Ghei and Pardo, DCASE 2018 workshop. What the paper leaves open is from its public
code (interactiveaudiolab/Siamese-Vocal-Imitations): docs/papers/qbv_siamese_triplet.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from systems.data.protocol import Protocol
from systems.excerpts import Excerpts
from systems.frontend.log_mel import LogMel
from systems.nets.convs import Conv, ConvStack
from systems.nets.towers import PairHead, Tower, TwoTowers
from systems.registry import register
from systems.retrieval import Side
from systems.retrieval_system import RetrievalSystem
from systems.training.losses import LogitBce, TripletBce
from systems.training.pairs import Pairs, Triplets
from systems.training.settings import Training

BIBTEX = """
@inproceedings{margolis2018triplet,
  author    = {Margolis, Brian and Ghei, Madhav and Pardo, Bryan},
  title     = {Applying Triplet Loss to Siamese-Style Networks for Audio Similarity Ranking},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""


@dataclass(frozen=True)
class Towers:
    """Filters of the imitation tower and of the recording tower (its first layer has half of them),
    units of the head; ``norm``: batch norms before each activation, ``momentum`` of their
    statistics."""

    query: int = 48
    gallery: int = 48
    hidden: int = 108
    dropout: float = 0.0  # before each layer of the head
    norm: bool = True
    momentum: float = 0.01

    def __post_init__(self) -> None:
        if min(self.query, self.gallery - 1, self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("query and hidden: at least 1, gallery 2; dropout lies in [0, 1)")


@dataclass(frozen=True)
class Config:
    """TL-IMINET; ``objective``: what it is trained on.

    ``seconds``: that imitations and recordings are cut or filled to; ``frames``: of a recording's
    features that count. ``gain``: of the triplets' sigmoid. ``coarse``: triplets with a recording
    of another class for each one within the class; ``negatives``: of pairs.
    """

    seconds: float = 4.0
    frames: int = 128
    query: LogMel = LogMel(
        rate=16_000, window=133, hop=133, bands=39, fmax=5000.0, log="db_max", range_db=80.0
    )
    gallery: LogMel = LogMel(
        rate=44_100, window=1024, hop=1024, bands=128, log="db_max", range_db=80.0
    )
    network: Towers = Towers()
    objective: Literal["triplet", "pairwise"] = "triplet"
    gain: float = 50.0
    coarse: float = 1.0
    negatives: Literal["uniform", "fine_coarse"] = "uniform"
    training: Training = Training(epochs=300, labelled=128, unlabelled=0, patience=None)

    def __post_init__(self) -> None:
        if min(self.seconds, self.gain, self.coarse) <= 0 or self.frames < 1:
            raise ValueError("seconds, gain and coarse lie above 0, frames is at least 1")


def towers(c: Towers, shapes: Mapping[str, tuple[int, ...]]) -> TwoTowers:
    """Valid convolutions of 6 x 6 over an imitation and of 5 x 5 over a recording (Fig. 1)."""
    n, m, order = c.query, c.gallery, "conv norm act" if c.norm else "conv act"
    query = ConvStack([
        Conv(n, 6, order=order, padding="valid", pool=2),
        Conv(n, 6, order=order, padding="valid", pool=2),
        Conv(n, 6, order=order, padding="valid", pool=(1, 2)),
    ], shapes["query"])  # fmt: skip
    gallery = ConvStack([
        Conv(m // 2, 5, order=order, padding="valid", pool=(2, 4)),
        Conv(m, 5, order=order, padding="valid", pool=(2, 4)),
        Conv(m, 5, order=order, padding="valid"),
    ], shapes["gallery"])  # fmt: skip
    size = sum(a * b * t for a, b, t in (query.out, gallery.out))
    network = TwoTowers(Tower(query), Tower(gallery), PairHead(size, c.hidden, c.dropout))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, c.momentum
    return network


QUICK = {  # for two CPU cores
    "query.window": 532,
    "query.hop": 532,
    "network.query": 12,
    "network.gallery": 12,
    "network.hidden": 32,
    "network.momentum": 0.1,
    "training.labelled": 32,
    "training.epochs": 10,
    "training.steps_per_epoch": 20,
}


@register(
    "qbv_siamese_triplet/tliminet_triplet",
    config=Config(),
    task="vocal_imitation_search",
    dataset="vocal_imitation",
    labels=("relevance",),
    gives=("ranking",),
    schedule=("training.epochs",),
    quick=QUICK,
    protocol=Protocol(hold_out=0.3, grouped="clip", within=("class",), draw=("class", 10)),
    unmapped={
        "compared with tliminet_pairwise; Pearson correlation of loss and target rank, 28 trials":
            "a test over 28 pairs of trainings: examples/loss_and_rank.py makes it of their runs"
    },
    parameters=799_945,
    tiny={**QUICK, "training.epochs": 4, "training.steps_per_epoch": 4, "training.labelled": 8},
)  # fmt: skip
def tliminet_triplet(config: Config) -> RetrievalSystem:
    """Two towers and a head, trained to score a target above a distractor."""
    c = config

    def side(front_end: LogMel, frames: int) -> Side:
        return Side(
            front_end,
            Excerpts(frames=frames, made_of=c.seconds, train="start", predict="start"),
            scale="clip",
        )

    triplets = c.objective == "triplet"
    return RetrievalSystem(
        query=side(c.query, c.query.frames(round(c.seconds * c.query.rate))),
        gallery=side(c.gallery, c.frames),
        network=lambda shapes: towers(c.network, shapes),
        loss=[TripletBce(c.gain) if triplets else LogitBce()],
        batches=Triplets(c.coarse) if triplets else Pairs(c.negatives),
        training=c.training,
    )


register.variant(
    "qbv_siamese_triplet/tliminet_pairwise",
    of="qbv_siamese_triplet/tliminet_triplet",
    overrides={"objective": "pairwise"},
    parameters=799_945,
    unmapped={},
    summary="the same towers and head, trained to tell whether a recording is the target",
)
