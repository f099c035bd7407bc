"""Scenes: an ensemble of CNNs over log-mel chunks, half of them with nearest-neighbour filters.

Source: Nguyen and Pernkopf, DCASE 2018 workshop. Tables and sections are the paper's; what it
leaves open is settled in docs/papers/nnf_cnn_ensemble.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.data.protocol import LABEL, Protocol
from systems.excerpts import Excerpts, Voting
from systems.figures import Figure
from systems.frontend import FrontEnd
from systems.frontend.log_mel import LogMel, NearestFrames
from systems.nets.convs import Conv, ConvStack, glorot
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import register
from systems.training.losses import CrossEntropy
from systems.training.settings import Training

BIBTEX = """
@inproceedings{nguyen2018nnf,
  author    = {Nguyen, Truc and Pernkopf, Franz},
  title     = {Acoustic Scene Classification Using a Convolutional Neural Network Ensemble and
               Nearest Neighbor Filters},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
FILTERS = {2: (32, 256), 3: (32, 64, 256), 4: (32, 64, 128, 256)}  # by the number of blocks


@dataclass(frozen=True)
class CnnConfig:
    """Blocks of ``convolutions`` each, with dropout after each pool (0: the paper's NoD), and one
    branch for each input: the log-mel, and with ``both`` its nearest-neighbour filtering."""

    inputs: Literal["log_mel", "both"] = "both"
    blocks: int = 4
    convolutions: int = 2
    dropout: float = 0.3  # not stated; the challenge baseline's
    time_pool: int = 3
    dense: int = 512
    width: float = 1.0  # of all filters, times


@dataclass(frozen=True)
class Config:
    """The main network; the defaults are the paper's, or the card's where the paper is silent."""

    front_end: LogMel = LogMel(
        rate=48_000, window=1920, hop=960, fft=2048, bands=128, window_shape="hamming", power=1,
        log="ln_add", floor=2.220446049250313e-16, whole_hops=True,
    )  # fmt: skip
    neighbours: int = 5
    chunk_frames: int = 50  # 1 s
    network: CnnConfig = CnnConfig()
    training: Training = Training(epochs=500, labelled=16, unlabelled=0, patience=None)
    decision: Voting = Voting()


class Branches(nn.Module):
    """A stack of convolutions for each input, means over the map, dense layers: logits [B, K]."""

    def __init__(self, c: CnnConfig, shapes: dict[str, tuple[int, int, int]], classes: int) -> None:
        super().__init__()
        *pooled, last = (round(n * c.width) for n in FILTERS[c.blocks])
        unit: dict[str, Any] = {
            "repeat": c.convolutions, "order": "pad norm conv act", "norm": "frequency"
        }  # fmt: skip
        table = [Conv(n, pool=(3, c.time_pool), dropout=c.dropout, **unit) for n in pooled]
        table.append(Conv(last, **unit))
        self.branches = nn.ModuleDict({n: ConvStack(table, shape) for n, shape in shapes.items()})
        self.dense = nn.Linear(last * len(shapes), c.dense)
        self.out = nn.Linear(c.dense, classes)
        glorot(self)

    def forward(self, x: dict[str, Tensor]) -> Outputs:
        means = [branch(x[name]).mean((2, 3)) for name, branch in self.branches.items()]
        return Outputs(self.out(torch.relu(self.dense(torch.cat(means, dim=1)))))


MOBILE = {"front_end.rate": 44_100, "front_end.window": 1764, "front_end.hop": 882}
TASKS = {"task 1A": ("tut2018", {}), "task 1B; devices B+C (inferred)": (
    "tut2018_mobile", {"device": ("b", "c")}
)}  # fmt: skip
DROPOUT = {"dropout": 0.3, "no dropout": 0.0}
VOTES = {"average vote": "arithmetic", "majority vote": "vote"}
FIGURES = tuple(
    Figure(
        f"{task}; {dropout}; {vote}",
        {"network.dropout": DROPOUT[dropout], "decision.mean": VOTES[vote]},
        dataset=dataset, where=where, node=dropout if vote == "average vote" else "",
    )
    for (task, (dataset, where)), dropout, vote in product(TASKS.items(), DROPOUT, VOTES)
)  # fmt: skip
SELECTED = {
    f"{task}; dropout; times selected by ES out of 201": "a weight of es, no figure of a network"
    for task in ("task 1A", "task 1B")
}
PARAMETERS = {  # Table 1
    "si_s_2cnn": 211_718, "si_s_3cnn": 304_010, "si_s_4cnn": 525_350,
    "si_db_2cnn": 811_770, "si_db_3cnn": 941_074, "si_db_4cnn": 1_310_042,
    "mi_s_2cnn": 417_794, "mi_s_3cnn": 602_378, "mi_s_4cnn": 1_045_058,
    "mi_db_2cnn": 1_617_898, "mi_db_3cnn": 1_876_506, "mi_db_4cnn": 2_614_442,
}  # fmt: skip
QUICK = {  # for two CPU cores
    "front_end.rate": 16_000,
    "front_end.window": 640,
    "front_end.hop": 320,
    "front_end.fft": 1024,
    "front_end.bands": 40,
    "network.width": 0.25,
    "network.dense": 128,
    "training.epochs": 6,
    "training.steps_per_epoch": 40,
}

TINY = {
    **QUICK,
    "front_end.rate": 8000,
    "front_end.window": 320,
    "front_end.hop": 160,
    "front_end.fft": 512,
    "chunk_frames": 25,
    "network.blocks": 2,
    "network.convolutions": 1,
    "network.dropout": 0.0,
    "network.dense": 16,
    "training.steps_per_epoch": 4,
}


@register(
    "nnf_cnn_ensemble/mi_db_4cnn",
    config=Config(),
    task="scene_classification",
    dataset="tut2018",
    example="synthetic_scenes",
    labels=("class",),
    schedule=("training.epochs",),
    quick=QUICK,
    published={"tut2018_mobile": MOBILE},
    protocol=Protocol(hold_out=0.3, within=(LABEL, "city"), final="fold_mean"),  # of the places
    figures=FIGURES,
    unmapped=SELECTED,
    decision="decision",
    parameters=PARAMETERS["mi_db_4cnn"],
    tiny=TINY,
)
def cnn(config: Config) -> NetworkSystem:
    """Two branches of four blocks of two convolutions: the main single network."""
    c = config
    front_ends: dict[str, FrontEnd] = {"log_mel": c.front_end}
    if c.network.inputs == "both":
        front_ends["nnf"] = NearestFrames(c.front_end, c.neighbours)
    return NetworkSystem(
        front_end=front_ends,
        excerpts=Excerpts(frames=c.chunk_frames, train="windows", predict="windows"),
        network=lambda shapes, classes: Branches(c.network, shapes, classes),
        activation="softmax",
        frames=False,
        loss=[CrossEntropy()],
        training=c.training,
        decision=c.decision,
    )


NAMES = {
    f"{inputs[:2]}_{convs}_{blocks}cnn": {
        "network.inputs": {"si": "log_mel", "mi": "both"}[inputs],
        "network.convolutions": {"s": 1, "db": 2}[convs],
        "network.blocks": blocks,
    }
    for inputs, convs, blocks in product(("si", "mi"), ("s", "db"), (2, 3, 4))
}
for name, overrides in NAMES.items():
    if name != "mi_db_4cnn":
        register.variant(
            f"nnf_cnn_ensemble/{name}", of="nnf_cnn_ensemble/mi_db_4cnn", overrides=overrides,
            parameters=PARAMETERS[name],
            summary=f"{'Two branches' if name[0] == 'm' else 'One branch'}, {name[-4]} blocks of "
            f"{overrides['network.convolutions']} convolution(s).",
        )  # fmt: skip


def members(dropout: str) -> tuple[str, ...]:
    """All twelve networks, with or without dropout."""
    return tuple(f"nnf_cnn_ensemble/{name}#{dropout}" for name in NAMES)


POOLS = {"average vote": "clips", "majority vote": "frame_vote"}
ENSEMBLES = tuple(
    Figure(
        f"{task}; {dropout}; {vote}", {"members": members(dropout), "pool": POOLS[vote]},
        dataset=dataset, where=where,
    )
    for (task, (dataset, where)), dropout, vote in product(TASKS.items(), DROPOUT, VOTES)
)  # fmt: skip
NOT_READ = "of the challenge's evaluation set, whose labels are not published"
for name, learner, settings, summary in (
    ("es", "selection", {"rounds": 200}, "Ensemble selection over the twelve: the submission."),
    ("we", "simplex", {}, "Weights of least cross-entropy over the twelve."),
    ("ae", "mean", {}, "The mean of the twelve."),
):
    register.fusion(
        f"nnf_cnn_ensemble/{name}", members=members("dropout"), learner=learner,
        settings=settings, final="fold_mean", fitted_on="test", figures=ENSEMBLES, summary=summary,
        unmapped={
            "task 1A; as stated in the conclusion (same number as on dev; doubtful)": NOT_READ,
            "task 1B; rank 1 of the challenge": NOT_READ,
        } if name == "es" else {},
    )  # fmt: skip
