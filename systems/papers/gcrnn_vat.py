"""Weakly supervised event detection: gated CRNN, virtual adversarial training, label refinement.

Source: arXiv 1810.06897. Section, equation and table numbers below are the paper's; what it leaves
open is marked "not stated".
"""

from __future__ import annotations

from dataclasses import dataclass

from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.attention import AttentionOver, AttentionPooling
from systems.nets.convs import Conv, ConvStack
from systems.nets.crnn import Crnn
from systems.nets.recurrent import Recurrent
from systems.network_system import NetworkSystem
from systems.postprocessing.refinement import Refinement
from systems.registry import register
from systems.training.losses import ClipBce, LossTerm, VatTerm
from systems.training.settings import Training
from systems.training.vat import Vat

BIBTEX = """
@inproceedings{harb2018gcrnn,
  author    = {Harb, Robert and Pernkopf, Franz},
  title     = {Sound Event Detection Using Weakly-Labelled Semi-Supervised Data with {GCRNNs},
               {VAT} and Self-Adaptive Label Refinement},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
  eprint    = {1810.06897},
  archivePrefix = {arXiv},
}
"""


@dataclass(frozen=True)
class GcrnnConfig:
    """The network of Section 2.1: ``blocks`` gated blocks of ``width`` filters, one bi-GRU.

    Filters, pools, convolutions a block and the cell type stand in a figure that the text lacks.
    """

    width: int = 64
    blocks: int = 3
    convolutions: int = 1
    pool: int = 4
    recurrent_units: int = 64
    dropout: float = 0.3
    attention_over: AttentionOver = "classes"

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.convolutions, self.pool, self.recurrent_units) < 1:
            raise ValueError("width, blocks, convolutions, pool and recurrent_units: at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout lies in [0, 1)")


@dataclass(frozen=True)
class Config:
    """The whole system; the defaults are the paper's, or the card's where the paper is silent."""

    clip_seconds: float = 10.0
    front_end: LogMel = LogMel(
        rate=16_000, window=1024, hop=664, bands=64, window_shape="hamming", center=False
    )
    network: GcrnnConfig = GcrnnConfig()
    vat: Vat | None = Vat(epsilon=2.0, xi=0.1, power_iterations=1, weight=1.0)  # not stated
    training: Training = Training(
        epochs=100, labelled=15, unlabelled=15, learning_rate=1e-3, patience=15
    )
    refinement: Refinement = Refinement(on="none")


def gcrnn(config: GcrnnConfig, shape: tuple[int, int, int], classes: int) -> Crnn:
    """Log-mel [B, 1, F, T] -> clip and frame posteriors: gated blocks, one bi-GRU, attention."""
    block = Conv(
        config.width, repeat=config.convolutions, activation="glu", pool=(config.pool, 1),
        ceil=True, dropout=config.dropout,
    )  # fmt: skip
    convs = ConvStack([block] * config.blocks, shape)
    channels, rows, _ = convs.out
    recurrent = Recurrent("gru", channels * rows, config.recurrent_units, bidirectional=True)
    pooling = AttentionPooling(recurrent.out, classes, config.attention_over)
    return Crnn(convs, recurrent, pooling)


FIGURES = (  # Table 1
    Figure("no refinement", {"refinement.on": "none"}),
    Figure("SALR_train", {"refinement.on": "labelled"}),  # the weak clips: card, gap 17
    Figure("SALR_dev", {"refinement.on": "target"}),  # adapts on the clips it is scored on
)
QUICK = {  # for two CPU cores; a searched key that is set here leaves the space
    "front_end.window": 2048,
    "front_end.hop": 1280,  # the GRU's time grows with the frames, whatever the batch
    "front_end.bands": 40,
    "network.convolutions": 1,
    "vat.power_iterations": 1,
    "network.width": 16,
    "network.recurrent_units": 32,
    "training.epochs": 10,
    "training.steps_per_epoch": 28,
    "training.labelled": 8,
    "training.unlabelled": 4,
    "refinement.thresholds": (0.1, 0.3, 0.5, 0.7, 0.9),
    "refinement.medians": (1, 5, 13, 25, 35),
    "refinement.clips_per_class": 12,
}


TINY = {
    "front_end.window": 2048,
    "front_end.hop": 1280,
    "front_end.bands": 40,
    "training.labelled": 6,
    "training.unlabelled": 4,
    "network.width": 8,
    "network.recurrent_units": 8,
    "training.epochs": 4,
    "training.steps_per_epoch": 6,
    "training.learning_rate": 0.01,
}


@register(
    "gcrnn_vat",
    config=Config(),
    task="weak_sed",
    dataset="dcase2018_task4",
    labels=("tags",),
    schedule=("training.epochs",),
    quick=QUICK,
    figures=FIGURES,
    decision="refinement",
    parameters=202_260,
    tiny=TINY,
)
def gcrnn_vat(config: Config) -> NetworkSystem:
    """Gated CRNN with attention, binary cross-entropy and VAT (Eq. 6)."""
    loss: list[LossTerm] = [ClipBce()]
    if config.vat is not None:
        loss.append(VatTerm(config.vat))
    return NetworkSystem(
        front_end=config.front_end,
        network=lambda shape, classes: gcrnn(config.network, shape, classes),
        loss=loss,
        training=config.training,
        decision=config.refinement,  # Section 2.4
        excerpts=Excerpts(seconds=config.clip_seconds),
    )


register.variant(
    "gcrnn_vat/gcrnn",
    of="gcrnn_vat",
    quick={
        key: value
        for key, value in QUICK.items()
        if key not in ("vat.power_iterations", "training.unlabelled")
    },
    # Eq. 6 with lambda = 0: the same labelled clips in as many steps. Table 1 sets both side by
    # side; batches of 30 labelled clips would take half the steps (53 an epoch, not 106).
    overrides={"vat": None, "training.unlabelled": 0},
    parameters=202_260,
    summary="The same network on the same labelled batches, without VAT.",
)
