"""A paper for tests: two tiny systems, a fusion of them, and a system that learns from it.

Tests put this folder and an entry point for it on the path of the commands that they run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from systems.data.dataset import ClipSet
from systems.figures import Figure
from systems.papers import gcrnn_vat
from systems.registry import Requirement, register
from systems.system import NetworkSystem

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
}  # fmt: skip


class Pupil(NetworkSystem):
    """Learns what the fusion says of its training clips instead of their labels."""

    def train(self, data: Any, waveforms: Any, context: Any) -> Any:
        taught = context.required("teacher")
        place = {clip_id: row for row, clip_id in enumerate(taught.clip_ids)}
        ids = data.labelled.clip_ids
        scores = np.stack([taught.clip_scores[place[i]] for i in ids]).astype(np.float32)
        held_out = () if data.validation is None else data.validation.clip_ids
        if data.validation is not None and set(held_out) & set(taught.clip_ids):
            raise AssertionError("the teacher speaks of clips that validate")
        return super().train(replace(data, labelled=ClipSet(ids, scores)), waveforms, context)


def network(kind: Any, config: Any) -> Any:
    made = gcrnn_vat.gcrnn_vat(config)
    return kind(
        front_end=made.front_end, network=made._network, loss=made.loss, training=made.training,
        decision=made.decision, clip_seconds=made.clip_seconds,
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


@register(
    "fakepaper/pupil",
    config=TINY,
    requires={"teacher": Requirement("fakepaper/both", rows="same_fold")},
    **ABOUT,
)
def pupil(config: Any) -> Any:
    """The second pass."""
    return network(Pupil, config)
