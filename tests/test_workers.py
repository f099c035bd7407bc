"""Data-parallel workers: together they take the steps that one process takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakegallery
import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.excerpts import Excerpts
from systems.frontend.scale import Scale
from systems.listening import Hearing, Model
from systems.outputs import Outputs
from systems.training.losses import ClipBce, TripletBce
from systems.training.pairs import Triplets
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit

BANDS, FRAMES, CLASSES = 4, 5, 2


class Rows(nn.Module):
    """Waveforms [B, S] as features [B, 1, F, T]."""

    def forward(self, waveforms: Tensor) -> Tensor:
        return waveforms.view(-1, 1, BANDS, FRAMES)


class Toy(nn.Module):
    """No batch norm and no dropout, so that a batch may be split without changing its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(BANDS, CLASSES)

    def forward(self, x: Tensor) -> Outputs:
        frames = torch.sigmoid(self.layer(x[:, 0].transpose(1, 2)))
        return Outputs(frames.mean(1), frames)


def waveform(clip: int) -> np.ndarray:
    return np.random.default_rng(clip).standard_normal(BANDS * FRAMES).astype(np.float32)


def hearing(ids: Sequence[str]) -> Hearing:
    """The sound of some clips, heard as a whole."""
    sound = Waveforms(100, {i: waveform(int(i)) for i in ids})
    return Hearing(sound, Excerpts(seconds=0.2), BANDS * FRAMES, 0.01)


def toy() -> Model:
    return Model(Rows(), Scale((1, BANDS, FRAMES)), Toy())


def trained(context: Context) -> tuple[dict[str, Tensor], list[Any]]:
    """Weights and metrics after two epochs over seven clips in batches of three."""
    torch.manual_seed(0)
    model = toy()
    ids = tuple(map(str, range(7)))
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(7) % CLASSES]
    data = TrainingData(
        ("a", "b"), ClipSet(ids, targets), ClipSet(ids, targets), {"unlabelled": ClipSet(())}
    )
    training = Training(epochs=2, labelled=3, unlabelled=0, learning_rate=0.1)
    history, _ = fit(model, Recipe([ClipBce()], training), hearing(ids), data, context)
    values = [metrics["clip_macro_f1"] for metrics in history.metrics]
    return model.network.state_dict(), values


def searched(context: Context) -> tuple[dict[str, Tensor], list[Any]]:
    """Weights and metrics after two epochs of triplets, drawn alike by all workers."""
    torch.manual_seed(0)
    model, hearing, data = fakegallery.prepared()
    training = Training(epochs=2, labelled=5, unlabelled=0, steps_per_epoch=3)
    recipe = Recipe([TripletBce(5.0)], training, batches=Triplets())
    history, _ = fit(model, recipe, hearing, data, context)
    return model.network.state_dict(), [metrics["mrr"] for metrics in history.metrics]


def work(rank: int, world: int, port: int, folder: str, train: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    context = Context(Path(folder) / "checkpoints", rank=rank, world=world)
    torch.save(train(context), Path(folder) / f"{rank}.pt")
    torch.distributed.barrier()
    # Gloo's threads may still hold tensors, and abort the process when the interpreter is taken
    # down around them (pytorch/pytorch#179291): leave without that.
    os._exit(0)


@pytest.mark.parametrize("train", [trained, searched])
def test_two_workers_train_what_one_trains(train: Any, tmp_path: Path) -> None:
    """Batches of three are shared two and one: each clip must count the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (2, port, str(tmp_path), train), nprocs=2)
    alone, values = train(Context())
    for rank in (0, 1):
        weights, seen = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert seen == values
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "checkpoints" / "checkpoint.pt").exists()


def test_the_cpu_trains_in_float32() -> None:
    layer = nn.Linear(2, 2)
    with Context().mixed_precision():
        assert layer(torch.ones(1, 2)).dtype == torch.float32
