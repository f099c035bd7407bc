"""A paper for tests: tiny systems, one of them without frames, fusions, and one that learns.

Tests put this folder and an entry point for it on the path of the commands that they run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems import config as configs
from systems import registry
from systems.data.dataset import ClipSet
from systems.data.protocol import Protocol
from systems.excerpts import Excerpts, Voting
from systems.figures import Figure
from systems.frontend.log_mel import LogMel
from systems.nets.towers import PairHead, Tower, TwoTowers
from systems.network_system import FittedNetwork, NetworkSystem
from systems.outputs import Outputs
from systems.papers import gcrnn_vat
from systems.registry import Requirement, register
from systems.retrieval import Side
from systems.retrieval_system import RetrievalSystem
from systems.training.losses import ClipBce, LogitBce, OneMinusPcc, TripletBce
from systems.training.pairs import Pairs, Triplets
from systems.training.settings import Training

BIBTEX = "@misc{fakepaper}"
TINY = replace(
    gcrnn_vat.Config(),
    vat=None,
    network=replace(gcrnn_vat.GcrnnConfig(), width=4, recurrent_units=4),
    training=replace(
        gcrnn_vat.Config().training, epochs=4, labelled=8, unlabelled=0, steps_per_epoch=2
    ),
)
ABOUT: dict[str, Any] = {
    "task": "weak_sed", "dataset": "dcase2018_task4", "labels": ("tags",),
    "schedule": ("training.epochs",), "decision": "refinement",
    "tiny": {"training.steps_per_epoch": 6, "training.learning_rate": 0.01},
}  # fmt: skip


@dataclass(frozen=True)
class Voted(gcrnn_vat.Config):
    """The same with a decision that adapts nothing."""

    voting: Voting = Voting()


class Second(NetworkSystem):
    """Learns what the teacher says of its training clips instead of their labels."""

    def train(self, data: Any, sounds: Any, context: Any) -> Any:
        taught = context.required("teacher")
        place = {clip_id: row for row, clip_id in enumerate(taught.clip_ids)}
        ids = data.labelled.clip_ids
        scores = np.stack([taught.clip_scores[place[i]] for i in ids]).astype(np.float32)
        return super().train(replace(data, labelled=ClipSet(ids, scores)), sounds, context)


class Pupil(Second):
    """Learns so of a teacher that knows nothing of the clips that validate."""

    def train(self, data: Any, sounds: Any, context: Any) -> Any:
        taught = context.required("teacher")
        held_out = () if data.validation is None else data.validation.clip_ids
        if data.validation is not None and set(held_out) & set(taught.clip_ids):
            raise AssertionError("the teacher speaks of clips that validate")
        return super().train(data, sounds, context)


@dataclass(frozen=True)
class WithBase(FittedNetwork):
    """A network and the fitted system that it stands on; saved together."""

    base: Any = None
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        self.base.save(folder / "base")
        (folder / "base" / "about.json").write_text(json.dumps(self.about))
        super().save(folder)


class OnBase(NetworkSystem):
    """Requires a fitted system, and carries it."""

    def train(self, data: Any, sounds: Any, context: Any) -> Any:
        fitted = super().train(data, sounds, context)
        return WithBase(
            **vars(fitted), base=context.required("base"), about=context.required_about("base")
        )

    def load(self, folder: Path) -> Any:
        about = json.loads((folder / "base" / "about.json").read_text())
        entry = registry.get(about["system"])
        system = entry.build(configs.from_dict(type(entry.config), about["config"]))
        fitted = super().load(folder)
        return WithBase(**vars(fitted), base=system.load(folder / "base"), about=about)


class Tags(nn.Module):
    """Log-mel [B, 1, F, T] -> clip posterior [B, K] alone; it is deaf where a code change that
    makes it so is simulated (``FAKEPAPER_DEAF`` in the environment)."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        bands = shape[1]
        self.hears = 0.0 if os.environ.get("FAKEPAPER_DEAF") else 1.0
        self.hidden, self.out = nn.Linear(2 * bands, 16), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Outputs:
        over_time = self.hears * torch.cat([x.mean(dim=(1, 3)), x.amax(dim=(1, 3))], dim=1)
        return Outputs(torch.sigmoid(self.out(torch.relu(self.hidden(over_time)))))


def network(kind: Any, config: Any) -> Any:
    made = gcrnn_vat.gcrnn_vat(config)
    return kind(
        front_end=made.front_end, network=made._network, loss=made.recipe.terms,
        training=made.training, decision=made.decision, excerpts=made.excerpts,
    )  # fmt: skip


@register("fakepaper/small", config=TINY, **ABOUT)
def small(config: Any) -> Any:
    """A tiny network."""
    return network(NetworkSystem, config)


register.variant(
    "fakepaper/fast", of="fakepaper/small", overrides={"training.learning_rate": 0.01},
    summary="One that learns faster.",
)  # fmt: skip
register.fusion(
    "fakepaper/both", members=["fakepaper/small", "fakepaper/fast"], learner="power",
    settings={"r": 3.0}, final="fold_mean", figures=(Figure(),), summary="Their power mean.",
)  # fmt: skip


register.fusion(
    "fakepaper/seeds", members=["fakepaper/small", "fakepaper/small"], learner="snapshot_mean",
    settings={"count": 2, "of": "all"}, final="fold_geometric", by_fold=True,
    summary="Two epochs of each fold of two trainings.",
)  # fmt: skip
register.fusion(
    "fakepaper/late", members=["fakepaper/fast", "fakepaper/seeds", "fakepaper/small"],
    learner="vote", settings={"weights": (1.0, 2.0, 1.0)}, final="fold_geometric",
    events_of="fakepaper/small", summary="A vote over a fusion and two systems.",
)  # fmt: skip


@register("fakepaper/tagger", config=TINY, gives=("clip_scores",), **{**ABOUT, "decision": None})
def tagger(config: Any) -> Any:
    """Tags without frames."""
    return without_frames(config)


def without_frames(config: Any, **more: Any) -> NetworkSystem:
    return NetworkSystem(
        front_end=config.front_end, network=Tags, loss=[ClipBce()], training=config.training,
        excerpts=Excerpts(seconds=config.clip_seconds), frames=False, **more,
    )  # fmt: skip


@register(
    "fakepaper/classes",
    config=Voted(**vars(TINY)),
    gives=("clip_scores",),
    **{**ABOUT, "decision": "voting", "labels": ("class",), "dataset": "fakeset"},
)
def classes(config: Any) -> Any:
    """One class a clip, without frames."""
    return without_frames(config, decision=config.voting)


@register(
    "fakepaper/pupil",
    config=TINY,
    requires={"teacher": Requirement("fakepaper/both", rows="same_fold")},
    **ABOUT,
)
def pupil(config: Any) -> Any:
    """The second pass."""
    return network(Pupil, config)


@register(
    "fakepaper/onbase", config=TINY,
    requires={"base": Requirement("fakepaper/small", "fitted", "same_fold")}, **ABOUT,
)  # fmt: skip
def onbase(config: Any) -> Any:
    """What stands on a fitted system."""
    return network(OnBase, config)


@register(
    "fakepaper/distilled", config=TINY,
    requires={"teacher": Requirement(
        "fakepaper/small", rows="same_fold", clips=("labelled", "unlabelled"),
        kinds=("clip_scores", "frame_scores"),
    )}, **ABOUT,
)  # fmt: skip
def distilled(config: Any) -> Any:
    """What learns of clips without labels, and of frames."""
    return network(Pupil, config)


@dataclass(frozen=True)
class TwoPasses(gcrnn_vat.Config):
    """``pass_``: the second learns what the models of the first say."""

    pass_: int = 2


def first_pass(config: TwoPasses) -> dict[str, Requirement]:
    """The teacher of the second pass."""
    return {} if config.pass_ == 1 else {"teacher": Requirement("fakepaper/teacher")}


@register(
    "fakepaper/net", config=TwoPasses(**vars(TINY)), requires=first_pass,
    figures=(
        Figure("first pass, as trained", {"pass_": 1}, node="pass 1"),
        Figure("first pass; fast", {"pass_": 1, "training.learning_rate": 0.01}),
        Figure("second pass; fast", {"training.learning_rate": 0.01}, node="fast"),
    ), **ABOUT,
)  # fmt: skip
def net(config: Any) -> Any:
    """One of two passes."""
    return network(NetworkSystem if config.pass_ == 1 else Second, config)


register.fusion(
    "fakepaper/teacher", members=["fakepaper/net#pass 1", "fakepaper/net#first pass; fast"],
    learner="logreg", summary="What the second pass learns from.",
)  # fmt: skip
register.fusion(
    "fakepaper/stack2", members=["fakepaper/net", "fakepaper/net#fast"], learner="mean",
    summary="The second pass.", figures=(
        Figure("both"),
        Figure("first pass", {"members": ("fakepaper/net#pass 1", "fakepaper/net#fast")}),
        Figure("both; vote", {"pool": "frame_vote"}, node="vote"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class OverTime:
    """What follows a recording at 25 Hz."""

    units: int = 8
    embeddings: bool = False
    front_end: LogMel = LogMel(window=1280, hop=640, bands=24, whole_hops=True)
    training: Training = Training(
        epochs=3, labelled=10, unlabelled=0, learning_rate=0.02, steps_per_epoch=4
    )


class Follows(nn.Module):
    """Log-mel [B, 1, F, T] -> a value at each frame [B, T, D], and what lies before it."""

    def __init__(self, shape: tuple[int, int, int], outputs: int, units: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(shape[1], units, 5, padding=2)
        self.gru = nn.GRU(units, units, batch_first=True)
        self.out = nn.Linear(units, outputs)

    def forward(self, x: Tensor) -> Outputs:
        hidden = torch.relu(self.conv(x[:, 0])).transpose(1, 2)
        return Outputs(frames=self.out(self.gru(hidden)[0]), frame_embedding=hidden)


def over_time(kind: Any, config: OverTime) -> Any:
    return kind(
        front_end=config.front_end, loss=[OneMinusPcc()], training=config.training, step=0.04,
        network=lambda shape, outputs: Follows(shape, outputs, config.units),
        excerpts=Excerpts(seconds=8, train="windows", predict="windows", hop=0.4, mean="overlap"),
        embeddings=config.embeddings,
    )  # fmt: skip


RECORDINGS = Protocol(folds=4, of=("train", "devel"), shuffled=False)


@register(
    "fakepaper/series", config=OverTime(), task="series_regression",
    dataset="compare2020_breathing", labels=("series",), gives=("frame_values",),
    schedule=("training.epochs",), protocol=RECORDINGS, tiny={"training.epochs": 3},
)  # fmt: skip
def series(config: OverTime) -> Any:
    """A signal beside sound."""
    return over_time(NetworkSystem, config)


register.variant(
    "fakepaper/embedded", of="fakepaper/series", overrides={"embeddings": True},
    gives=("frame_values", "frame_embeddings"), summary="One whose embeddings are kept.",
)  # fmt: skip


class OnEmbeddings(NetworkSystem):
    """Learns a recording's values from what another says of it; its own sound is the truth's."""

    def train(self, data: Any, sounds: Any, context: Any) -> Any:
        taught = context.required("teacher")
        assert data.validation is None or not {*data.validation.clip_ids} & {*taught.clip_ids}
        place = {clip_id: row for row, clip_id in enumerate(taught.clip_ids)}
        rows = [place[i] for i in data.labelled.clip_ids]
        if data.validation is not None:  # a refit's teachers are of several folds
            for row, steps in zip(rows, data.labelled.lengths, strict=True):
                assert len(taught.frame_embeddings[row]) == steps
        values = np.concatenate([taught.frame_values[row] for row in rows]).astype(np.float32)
        labelled = replace(data.labelled, targets=values)
        return super().train(replace(data, labelled=labelled), sounds, context)


@register(
    "fakepaper/follower", config=OverTime(), task="series_regression",
    dataset="compare2020_breathing", labels=("series",), gives=("frame_values",),
    schedule=("training.epochs",), protocol=RECORDINGS, requires={"teacher": Requirement(
        "fakepaper/embedded", rows="same_fold", kinds=("frame_values", "frame_embeddings"),
    )},
)  # fmt: skip
def follower(config: OverTime) -> Any:
    """What learns what another says of recordings."""
    return over_time(OnEmbeddings, config)


register.variant(
    "fakepaper/wide", of="fakepaper/series", overrides={"units": 16}, summary="A wider one.",
)  # fmt: skip
register.fusion(
    "fakepaper/breath", members=["fakepaper/series", "fakepaper/wide"], learner="fold_weights",
    settings={"standardise": True}, final="fold_mean", summary="Weights of each fold.",
)  # fmt: skip


@dataclass(frozen=True)
class Search:
    """Small towers for queries at 8 kHz and recordings at 16 kHz."""

    units: int = 12
    pairs: bool = False
    training: Training = Training(
        epochs=3, labelled=16, unlabelled=0, learning_rate=0.005, patience=None, steps_per_epoch=9
    )


def tower(shape: tuple[int, ...], units: int) -> Tower:
    """A dense layer over all of an excerpt."""
    return Tower(nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], units), nn.ReLU()))


@register(
    "fakepaper/searcher", config=Search(), task="vocal_imitation_search",
    dataset="vocal_imitation", labels=("relevance",), gives=("ranking",),
    schedule=("training.epochs",), tiny={"training.epochs": 4},
)  # fmt: skip
def searcher(config: Search) -> RetrievalSystem:
    """Recordings that voices imitate."""

    def side(rate: int) -> Side:
        front_end = LogMel(rate=rate, window=rate // 50, hop=rate // 50, bands=20)
        return Side(front_end, Excerpts(frames=26, made_of=0.5, train="start", predict="start"))

    return RetrievalSystem(
        query=side(8000), gallery=side(16_000), training=config.training,
        network=lambda shapes: TwoTowers(
            tower(shapes["query"], config.units), tower(shapes["gallery"], config.units),
            PairHead(2 * config.units, 16),
        ),
        loss=[LogitBce() if config.pairs else TripletBce(10.0)],
        batches=Pairs() if config.pairs else Triplets(),
    )  # fmt: skip
