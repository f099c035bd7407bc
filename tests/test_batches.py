"""Batches of whole clips: all excerpts of each, at random or as many of each class."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.excerpts import Excerpts
from systems.listening import Hearing, Model
from systems.training.batches import WholeClips, balanced_batches

CLASSES = [0, 0, 0, 1, 1, 2, 0, 2, 1, 0]
SOUND = {f"{n}": np.full(10 * (1 + n % 3), n, np.float32) for n in range(len(CLASSES))}
DATA = TrainingData(
    ("a", "b", "c"), ClipSet(tuple(SOUND), np.eye(3, dtype=np.float32)[CLASSES]), None
)


def source(balanced: bool) -> Any:
    model = Model(nn.Unflatten(1, (1, 1, -1)), nn.Identity(), nn.Identity())
    excerpts = Excerpts(seconds=1.0, train="windows", predict="windows")
    hearing = Hearing(Waveforms(10, SOUND), excerpts, 10, 0.1)
    return WholeClips(balanced).source(model, hearing, DATA, Context())


def test_a_batch_holds_all_excerpts_of_its_clips() -> None:
    clips = source(balanced=False)
    assert len(clips) == len(CLASSES)
    r = np.random.default_rng(0)
    seen: list[int] = []
    for rows in clips.rows(5, 2, r):
        batch = clips.batch(rows, r)
        heard = batch.features[:, 0, 0, 0].int().tolist()  # the clip's number at every sample
        assert Counter(heard) == {n: 1 + n % 3 for n in rows}
        assert torch.equal(batch.targets, torch.eye(3)[[CLASSES[n] for n in heard]])
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(CLASSES)))  # a pass


def test_balanced_batches_have_one_clip_of_each_class() -> None:
    clips = source(balanced=True)
    passes: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for rows in clips.rows(3, 10, np.random.default_rng(0)):
        assert sorted(CLASSES[n] for n in rows) == [0, 1, 2]
        for n in rows:
            passes[CLASSES[n]].append(int(n))
    for name, mine in passes.items():
        size = CLASSES.count(name)
        whole = [sorted(mine[i : i + size]) for i in range(0, len(mine) - size + 1, size)]
        assert all(one == [n for n, c in enumerate(CLASSES) if c == name] for one in whole)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_classes_are_balanced_whatever_the_size(size: int) -> None:
    of_class = np.array(CLASSES)
    one = list(balanced_batches(of_class, size, 9, np.random.default_rng(1)))
    again = list(balanced_batches(of_class, size, 9, np.random.default_rng(1)))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    for rows in one:
        counts = [int((of_class[rows] == name).sum()) for name in range(3)]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == size
    total = Counter(of_class[np.concatenate(one)].tolist())
    assert max(total.values()) - min(total.values()) <= 1
