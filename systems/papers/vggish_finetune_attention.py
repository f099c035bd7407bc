"""Tags of Freesound: VGGish fine-tuned four times, and attention over its vectors of six segments.

Source: Xu, Smit and Kurimo, DCASE 2018 workshop. Tables and sections are the paper's; what it
leaves open is settled in docs/papers/vggish_finetune_attention.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal

import torch
from torch import Tensor, nn

from systems.data.changed import PitchShift
from systems.data.prepare import Trimmed
from systems.excerpts import Excerpts
from systems.figures import Figure
from systems.frontend.embeddings import FrameEmbeddings
from systems.frontend.log_mel import LogMel
from systems.nets import vggish
from systems.nets.attention import AttentionPooling
from systems.nets.recurrent import Recurrent, last_of, present
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.registry import Requirement, register
from systems.training.batches import WholeClips
from systems.training.copies import ChangedCopy
from systems.training.labelling import Share
from systems.training.losses import CrossEntropy
from systems.training.mixing import Mixing
from systems.training.settings import Keep, Schedule, Training
from systems.weights import StartFrom

PAPER = "vggish_finetune_attention"
BIBTEX = """
@inproceedings{xu2018aalto,
  author    = {Xu, Zhicun and Smit, Peter and Kurimo, Mikko},
  title     = {The {Aalto} System Based on Fine-Tuned {AudioSet} Features for {DCASE2018} Task 2 --
               General Purpose Audio Tagging},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
Tuning = Literal["balanced", "unbalanced", "none"]


@dataclass(frozen=True)
class ExtractorConfig:
    """VGGish under a head, trained on single segments of the ``first`` or ``last`` 8000 of 9473
    clips in batches of whole clips; ``tuned`` ``none``: the head alone is trained.

    ``weights``: ``youtube100m``, ``none`` or a file; ``width``: the share of all layers' units.
    """

    front_end: LogMel = vggish.FRONT_END
    trim: Trimmed = Trimmed()
    weights: str = "youtube100m"
    width: float = 1.0
    head: int = 100
    tuned: Tuning = "balanced"
    part: Literal["first", "last"] = "first"
    share: float = 8000 / 9473
    training: Training = Training(
        epochs=30, labelled=41, unlabelled=0, learning_rate=1e-4, patience=3, keep=Keep(on="loss")
    )


CLASSIFIER = Training(
    epochs=100, labelled=128, unlabelled=0, patience=15,
    schedule=Schedule("plateau", factor=0.5, patience=5),
)  # fmt: skip


@dataclass(frozen=True)
class DnnConfig:
    """Three dense layers over a segment's vector by one ``extractor``, and a classifier a level."""

    extractor: str = "released"
    units: int = 600
    dropout: float = 0.4
    training: Training = CLASSIFIER


@dataclass(frozen=True)
class MlaConfig(DnnConfig):
    """The same over so many ``segments`` with an attention a level; ``shift``: semitones of the
    copies' pitch at most (0: no copies); ``mixup``: alpha (0: none)."""

    extractor: str = "bal-first"
    segments: int = 6
    shift: int = 12
    mixup: float = 0.2


@dataclass(frozen=True)
class LstmConfig:
    """An LSTM over the vectors of a whole clip of at most ``segments``."""

    extractor: str = "bal-first"
    segments: int = 32  # 30.7 s
    units: int = 600
    dropout: float = 0.4
    training: Training = CLASSIFIER


class MultiLevel(nn.Module):
    """Vectors [B, 1, E, T] of T segments -> logits [B, K] (Figure 1).

    Three layers that all segments share; of each level's output class probabilities, under an
    attention over the segments where ``attends``; a dense layer over all levels' probabilities.
    """

    def __init__(self, c: DnnConfig, width: int, classes: int, attends: bool) -> None:
        super().__init__()
        widths = (width, c.units, c.units, c.units)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(c.dropout)
            ) for a, b in pairwise(widths)
        )  # fmt: skip
        self.levels = nn.ModuleList(
            AttentionPooling(c.units, classes, "classes", exclusive=True) if attends
            else nn.Linear(c.units, classes) for _ in self.layers
        )  # fmt: skip
        self.attends = attends
        self.out = nn.Linear(len(self.levels) * classes, classes)

    def forward(self, x: Tensor) -> Outputs:
        h = x[:, 0].transpose(1, 2)  # [B, T, E]
        said = []
        for layer, level in zip(self.layers, self.levels, strict=True):
            h = layer(h.flatten(0, 1)).unflatten(0, h.shape[:2])  # norms over batch and segments
            said.append(level(h)[0] if self.attends else level(h).softmax(-1).mean(1))
        return Outputs(self.out(torch.cat(said, dim=1)))


class OverClip(nn.Module):
    """Vectors [B, 1, E, T] of whole clips, absent after their end -> logits [B, K]."""

    def __init__(self, c: LstmConfig, width: int, classes: int) -> None:
        super().__init__()
        self.lstm = Recurrent("lstm", width, c.units)
        self.dropout = nn.Dropout(c.dropout)
        self.out = nn.Linear(c.units, classes)

    def forward(self, x: Tensor) -> Outputs:
        sequence, lengths = present(x[:, 0].transpose(1, 2))
        state = last_of(self.lstm(sequence), lengths)  # what follows it is not looked at
        return Outputs(self.out(self.dropout(state)))


EXTRACTORS: dict[str, dict[str, Any]] = {  # what requirements and nodes call them
    f"{'bal' if tuned == 'balanced' else 'unbal'}-{part}": {"tuned": tuned, "part": part}
    for tuned, part in product(("balanced", "unbalanced"), ("first", "last"))
}
RELEASED = {"tuned": "none", "share": 1.0, "training.epochs": 1}
FOUR = tuple(EXTRACTORS)
FSD: dict[str, Any] = {
    "task": "single_label_tagging", "dataset": "fsdkaggle2018", "labels": ("class",),
    "gives": ("clip_scores",), "schedule": ("training.epochs",), "classes": 41,
}  # fmt: skip
FEW = {"training.epochs": 20, "training.labelled": 32, "units": 64}  # for two CPU cores
TINY = {
    "training.epochs": 4,
    "training.labelled": 8,
    "training.learning_rate": 3e-3,
    "dropout": 0.0,
}
SETTINGS: dict[str, dict[str, Any]] = {  # of the attention, Table 3 and 4; F is the default
    "C": {"shift": 0, "mixup": 0.0},
    "D": {"mixup": 0.0},
    "E": {"mixup": 0.1},
    "F": {},
    "G": {"mixup": 0.4},
    "H": {"mixup": 1.0},
    **{f"{n} segments": {"segments": n} for n in (1, 2, 4, 8, 10)},
}


def extracted(config: DnnConfig | LstmConfig) -> dict[str, Requirement]:
    """The extractor whose vectors it takes, of the same fold."""
    address = f"{PAPER}/extractor#{config.extractor}"
    return {"extractor": Requirement(address, "fitted", rows="same_fold")}


def of_vectors(
    c: DnnConfig | LstmConfig, excerpts: Excerpts, network: Any, **about: Any
) -> NetworkSystem:
    """What all classifiers share: a fitted extractor's vectors, and cross-entropy."""
    return NetworkSystem(
        front_end=FrameEmbeddings(16_000, ("extractor",), (128,), vggish.STEP),
        excerpts=excerpts,
        scale="none",
        network=network,
        activation="softmax",
        frames=False,
        loss=[CrossEntropy()],
        training=c.training,
        **about,
    )


@register(
    f"{PAPER}/mla", config=MlaConfig(), requires=extracted, parameters=955_130,
    figures=tuple(
        Figure(f"{setting}, {extractor}", {**overrides, "extractor": extractor})
        for (setting, overrides), extractor in product(SETTINGS.items(), FOUR)
    ),
    quick=FEW, tiny={**TINY, "units": 16, "shift": 0, "mixup": 0.0}, **FSD,
)  # fmt: skip
def attention(c: MlaConfig) -> NetworkSystem:
    """The multi-level attention network over six segments by one extractor."""
    return of_vectors(
        c,
        Excerpts(
            frames=c.segments, train="windows", predict="windows", rest="pad", short="repeat"
        ),
        lambda shape, classes: MultiLevel(c, shape[1], classes, attends=True),
        copies=[ChangedCopy(PitchShift(c.shift))] if c.shift else [],
        augment=[Mixing(c.mixup, per="sample")] if c.mixup else [],
    )  # fmt: skip


@register(
    f"{PAPER}/lstm", config=LstmConfig(), requires=extracted, parameters=1_776_641,
    figures=tuple(Figure(extractor, {"extractor": extractor}) for extractor in FOUR),
    quick={**FEW, "segments": 8}, tiny={**TINY, "units": 16, "segments": 4}, **FSD,
)  # fmt: skip
def lstm(c: LstmConfig) -> NetworkSystem:
    """An LSTM over a whole clip's vectors by one extractor."""
    return of_vectors(
        c,
        Excerpts(frames=c.segments, train="start", predict="whole", short="absent"),
        lambda shape, classes: OverClip(c, shape[1], classes),
    )


@register(
    f"{PAPER}/vggish_frozen_dnn", config=DnnConfig(), requires=extracted, parameters=881_207,
    figures=(Figure("original VGGish"),),
    quick=FEW, tiny={**TINY, "units": 16}, **FSD,
)  # fmt: skip
def dnn(c: DnnConfig) -> NetworkSystem:
    """The multi-level network over single segments by VGGish as released."""
    return of_vectors(
        c,
        Excerpts(frames=1, train="windows", predict="windows", short="repeat"),
        lambda shape, classes: MultiLevel(c, shape[1], classes, attends=False),
    )


for name, short in (("balanced", "bal"), ("unbalanced", "unbal")):
    register.variant(
        f"{PAPER}/vggish_{short}_dnn", of=f"{PAPER}/vggish_frozen_dnn",
        overrides={"extractor": f"{short}-first"}, parameters=881_207,
        figures=(Figure("first part"), Figure("last part", {"extractor": f"{short}-last"})),
        summary=f"The same by VGGish that was fine-tuned on {name} batches.",
    )  # fmt: skip


@register(
    f"{PAPER}/extractor", config=ExtractorConfig(), parameters=72_158_225,
    figures=(
        *(Figure(name, overrides) for name, overrides in EXTRACTORS.items()),
        Figure("released", RELEASED),
    ),
    quick={
        "weights": "none", "width": 0.125, "training.epochs": 6, "training.labelled": 16,
        "training.steps_per_epoch": 25, "training.learning_rate": 1e-3,
    },
    tiny={
        "weights": "none", "width": 0.125, "training.epochs": 4, "training.labelled": 4,
        "training.learning_rate": 1e-3,
    },
    **FSD,
)  # fmt: skip
def extractor(c: ExtractorConfig) -> NetworkSystem:
    """VGGish and its head on single segments: what all others take their vectors from."""
    return NetworkSystem(
        front_end=c.front_end,
        prepare=c.trim,
        excerpts=Excerpts(
            frames=vggish.FRAMES, train="windows", predict="windows", rest="drop",
            short="repeat", at_least=vggish.LEAST,
        ),
        scale="none",
        network=lambda shape, classes: vggish.Vggish(shape, classes, c.head, c.width),
        activation="softmax",
        frames=False,
        embeddings=True,
        start=StartFrom(c.weights, "vggish", "trunk"),
        frozen=["trunk"] if c.tuned == "none" else [],
        labelling=[Share(c.share, c.part)],
        batches=WholeClips(balanced=c.tuned == "balanced"),
        loss=[CrossEntropy()],
        training=c.training,
    )  # fmt: skip


def on_all(system: str, setting: str = "") -> tuple[str, ...]:
    """A system on all four extractors."""
    return tuple(f"{PAPER}/{system}#{setting}{extractor}" for extractor in FOUR)


DNN = {short: tuple(f"{PAPER}/vggish_{short}_dnn#{part} part" for part in ("first", "last"))
       for short in ("bal", "unbal")}  # fmt: skip
TABLE_3 = {
    "C: 6 segments": "C", "D: C + pitch shift": "D", "E: D + mixup alpha=0.1": "E",
    "F: D + mixup alpha=0.2": "F", "G: D + mixup alpha=0.4": "G", "H: D + mixup alpha=1.0": "H",
}  # fmt: skip
COUNTS = (1, 2, 4, 6, 8, 10)
TABLE_4 = {
    f"{n} segments, pitch shift, mixup alpha=0.2": "F" if n == 6 else f"{n} segments"
    for n in COUNTS
}
register.fusion(
    f"{PAPER}/vggish_mla", members=on_all("mla", "F, "), learner="geometric",
    figures=tuple(
        Figure(variant, {} if setting == "F" else {"members": on_all("mla", f"{setting}, ")})
        for variant, setting in {**TABLE_3, **TABLE_4}.items()
    ),
    summary="The attention network on all four extractors: the paper's main system.",
)  # fmt: skip
register.fusion(
    f"{PAPER}/vggish_lstm", members=on_all("lstm"), learner="geometric", figures=(Figure("B"),),
    summary="The LSTM on all four extractors.",
)  # fmt: skip
for name, members, variants in (
    ("bal_all", DNN["bal"], ("geometric mean of first and last",)),
    ("unbal_all", DNN["unbal"], ("geometric mean of first and last",)),
    ("all4_dnn", (*DNN["bal"], *DNN["unbal"]),
     ("geometric mean of 4 extractors", "A: 1-segment multi-level")),
    ("mla_segments", tuple(f"{PAPER}/vggish_mla#{variant}" for variant in TABLE_4),
     ("geometric mean over 1/2/4/6/8/10 segments",)),
):  # fmt: skip
    register.fusion(
        f"{PAPER}/{name}", members=members, learner="geometric",
        figures=tuple(Figure(variant) for variant in variants),
        summary=f"The geometric mean: {variants[0]}.",
    )  # fmt: skip
