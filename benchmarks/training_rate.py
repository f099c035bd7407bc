"""Training examples per second through our own loop, over those of a plain PyTorch loop.

Both train the same network with the same size of batch, loss and optimiser, in one process, an
epoch of each in turn, under the allocator settings of a sweep's workers. The plain loop indexes
tensors that hold the scaled features of all examples; ours cuts each batch from its tracks
(`systems/tracks.py`), scales it, and watches the loss. A pair is an epoch of each; given is the
median over pairs of plain seconds over ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import parse, parser, processes, ratio, ready, row, run, scratch
from plain_adversary import PlainAdversary
from torch import Tensor, nn

from orchestrator.search.ray_session import prepare_environment
from orchestrator.training.job import Job
from systems.context import Context
from systems.data.splits import TrainingData
from systems.network_system import NetworkSystem
from systems.tracks import each
from systems.training.adversarial import Adversarial
from systems.training.losses import LogitBce
from systems.training.mixing import Mixing

SYSTEMS = (
    "nnf_cnn_ensemble/mi_db_4cnn",
    "gcnn_gcrnn_stacking/gcrnn",
    "mask_breathing_resnet/breath_cnn_lstm_medium",
    "adversarial_domain_adaptation/kaggle_cnn_uada",
    "mask_panns_mixup/panns_mixup",
)
# A quarter of CNN14: at the quick budget's eighth its front end, which ours computes anew at each
# step as it must for a large set, would count for more than in any training that is meant.
WIDER = {"mask_panns_mixup/panns_mixup": ("width=16", "training.labelled=16")}


class Plain:
    """A plain loop over tensors: features, targets and weights of all examples."""

    def __init__(
        self, system: NetworkSystem, data: TrainingData, sounds: Any, context: Context
    ) -> None:
        for change in system.labelling:
            data = change(data, context)
        clips = data.labelled
        model = system.untrained(data.classes, system.length, data.label_hop).model
        hearing = system.hearing(sounds, system.length, data.label_hop)
        examples = hearing.examples(model, clips.clip_ids, context)
        model.fit_scale(examples, context)
        cut, starts = examples.batch(range(len(examples)))
        self.features = each(torch.clone, model.features(cut, context.device))
        assert clips.targets is not None
        rows = examples.clip
        if clips.lengths is not None:  # the steps of each window
            first = np.concatenate([[0], np.cumsum(clips.lengths)])[examples.clip]
            steps = np.arange(system.length // hearing.grid)
            rows = first[:, None] + starts[:, None] // hearing.grid + steps
        self.targets = torch.as_tensor(clips.targets[rows])
        self.weights = torch.ones(len(examples))
        if clips.weights is not None:
            self.weights = torch.as_tensor(clips.weights[examples.clip], dtype=torch.float32)
        self.network = model.network
        self.training = system.training
        self.optimiser = self.training.optimiser_of(model.trained())
        self.loss = system.recipe.terms[0]
        self.alphas = [one.alpha for one in system.recipe.augment if isinstance(one, Mixing)]

    def epoch(self, steps: int) -> float:
        """So many steps; their mean loss."""
        self.network.train()
        size = self.training.labelled
        passes = 1 + steps * size // len(self.targets)
        order = torch.cat([torch.randperm(len(self.targets)) for _ in range(passes)])
        summed = 0.0
        for rows in order[: steps * size].split(size):
            x, y, w = self.batch(rows)
            loss = loss_of(self.network(x), y, w, isinstance(self.loss, LogitBce))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if self.training.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip_norm)
            self.optimiser.step()
            summed += loss.item()
        return summed / steps

    def batch(self, rows: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Features, targets and weights, under mixup where the system has it."""
        x, y, w = each(lambda one: one[rows], self.features), self.targets[rows], self.weights[rows]
        for alpha in self.alphas:
            share, other = float(np.random.beta(alpha, alpha)), torch.randperm(len(rows))

            def mixed(one: Tensor, share: float = share, other: Tensor = other) -> Tensor:
                return share * one + (1 - share) * one[other]

            x, y, w = each(mixed, x), mixed(y), mixed(w)
        return x, y, w


def loss_of(outputs: Any, y: Tensor, w: Tensor, each_class: bool = False) -> Tensor:
    """Cross-entropy of each class, or weighted of clips, or one minus the correlation of series."""
    if each_class:
        return nn.functional.binary_cross_entropy_with_logits(outputs.clip, y)
    if outputs.clip is not None:
        each_one = nn.functional.cross_entropy(outputs.clip, y, reduction="none")
        return (each_one * w).mean()
    p = outputs.frames - outputs.frames.mean(1, keepdim=True)
    return 1 - nn.functional.cosine_similarity(p, y - y.mean(1, keepdim=True), dim=1).mean()


def pairs(job: Job, epochs: int) -> list[tuple[float, float]]:
    """Seconds of our epochs and of the plain loop's, one pair after another; the first is left out,
    which warms both up."""
    config = job.plan.trial_config(job.plan.first_trial)
    system = job.plan.entry().build(config)
    assert isinstance(system, NetworkSystem)
    data = replace(job.folds[0], validation=None, halves=None)
    sounds, steps = job.sounds(config), config.training.steps_per_epoch
    required = {}  # the network that an adaptation begins as: any will do
    if system.begins_as is not None:
        torch.manual_seed(0)
        begun = system.untrained(data.classes, system.length, data.label_hop)
        required = {system.begins_as: lambda: begun}
    game = isinstance(system.recipe.procedure, Adversarial)
    plain_of = PlainAdversary if game else Plain
    plain = plain_of(system, data, sounds, Context(threads=1, required=required))
    found: list[tuple[float, float]] = []

    def on_report(epoch: int, metrics: Mapping[str, float]) -> None:
        found.append((metrics["seconds"], seconds(lambda: plain.epoch(steps))))

    system.train(
        data, sounds,
        Context(threads=1, on_report=on_report, last_step=epochs + 1, required=required),
    )  # fmt: skip
    return found[1:]


def seconds(function: Callable[[], Any]) -> float:
    """The seconds that a function takes."""
    began = time.monotonic()
    function()
    return time.monotonic() - began


def show(given: argparse.Namespace, root: Path) -> None:
    """The rates of one system, and their ratio."""
    torch.set_num_threads(1)
    fixed: tuple[str, ...] = (
        f"training.steps_per_epoch={given.steps}",
        f"training.epochs={given.epochs + 1}",
    )
    fixed += WIDER.get(given.system, ())
    _, job, _ = ready(given, root, budget="quick", set=fixed, name=given.system.replace("/", "-"))
    print(given.system, flush=True)
    found = pairs(job, given.epochs)
    labelled = job.plan.trial_config(job.plan.first_trial).training.labelled
    for name, place in (("our loop", 0), ("plain loop", 1)):
        median = statistics.median(pair[place] for pair in found)
        rate = labelled * given.steps / median
        row(name, f"{rate:.1f} examples/s", f"{1000 * median / given.steps:.1f} ms a step")
    ratio(
        f"examples a second over a plain loop's, {given.system}",
        statistics.median(plain / ours for ours, plain in found), ">= 0.95",
    )  # fmt: skip


def main() -> None:
    made = parser(__doc__, "all")
    made.add_argument("--steps", type=int, default=20, help="steps of an epoch (default: 20)")
    made.add_argument("--epochs", type=int, default=9, help="pairs of epochs (default: 9)")
    given = parse(made, {"epochs": 1, "steps": 2})
    prepare_environment()
    print(f"load average {os.getloadavg()[0]:.1f}, 1 thread", flush=True)
    with scratch() as root:
        for system in SYSTEMS if given.system == "all" else (given.system,):
            given.system = system
            with processes(1) as pool:
                pool.submit(show, given, Path(root)).result()


if __name__ == "__main__":
    run(main)
