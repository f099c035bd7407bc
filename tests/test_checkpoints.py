"""What a training keeps while it runs: it goes on as if it had not been killed, and stays small."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_workers import CLASSES, hearing, toy
from torch import Tensor

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData
from systems.listening import Model
from systems.metrics import clip_metric, metric
from systems.training.history import History
from systems.training.losses import ClipBce
from systems.training.settings import Keep, Training
from systems.training.supervised import Recipe, fit

CLIPS = 12
IDS = tuple(map(str, range(CLIPS)))
TARGETS = np.eye(CLASSES, dtype=np.float32)[np.arange(CLIPS) % CLASSES]


def train(
    context: Context,
    *,
    epochs: int = 6,
    measure: str = "clip_map",
    rate: float = 0.1,
    count: int = 1,
) -> tuple[Model, History, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    model = toy()
    data = TrainingData(
        ("a", "b"), ClipSet(IDS, TARGETS), ClipSet(IDS, TARGETS), {"unlabelled": ClipSet(())},
        metric=measure, halves=np.arange(CLIPS) // 2 % 2,
        kind="values" if measure == "rmse" else "tags",
    )  # fmt: skip
    training = Training(
        epochs,
        labelled=3,
        unlabelled=0,
        learning_rate=rate,
        patience=epochs,
        keep=Keep(count=count),
    )
    return model, *fit(model, Recipe([ClipBce()], training), hearing(IDS), data, context)


class Killed(BaseException):
    pass


class Mortal(Context):
    """Dies in its ``at``-th change of a file: of a record some bytes are there, of others none."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder)
        self.left = at

    def _live(self) -> bool:
        self.left -= 1
        return self.left != 0

    def save(self, *about: Any) -> None:
        if not self._live():
            raise Killed
        super().save(*about)

    def keep_record(self, step: int, record: bytes) -> None:
        if not self._live():
            with open(Path(str(self.folder)) / "checkpoint_steps.bin", "ab") as file:
                file.write(record[:9])
            raise Killed
        super().keep_record(step, record)

    def forget(self, pattern: str, *but: str) -> None:
        if not self._live():
            raise Killed
        super().forget(pattern, *but)


def told(history: History) -> Any:
    metrics = [{k: v for k, v in m.items() if k != "seconds"} for m in history.metrics]
    rows = (*history.validation_scores, *history.crossed_clips, *history.crossed_frames)
    kept = (history.kept, history.kept_worths, history.crossed_step)
    return metrics, kept, [r.numpy().tobytes() for r in rows]


@pytest.mark.parametrize("count", [1, 3])
def test_killed_between_any_two_files_a_training_goes_on_to_the_last_digit(
    count: int, tmp_path: Path
) -> None:
    whole, history, states = train(Context(), count=count)
    assert len({tuple(h.flatten().tolist()) for h in history.validation_scores}) == 6
    assert len(states) == count
    for at in itertools.count(2):  # before the first there is nothing to go on from
        folder = tmp_path / str(at)
        try:
            train(Mortal(folder, at), count=count)
            break
        except Killed:
            model, resumed, again = train(Context(folder), count=count)
        assert told(resumed) == told(history)
        for ours, theirs in zip([whole.state_dict(), *states], [model.state_dict(), *again],
                                strict=True):  # fmt: skip
            for name, value in ours.items():
                assert torch.equal(value, theirs[name]), name
        assert len(list(folder.glob("checkpoint_crossed*"))) <= 2
        assert len(list(folder.glob("checkpoint_kept*"))) <= count + 1
    assert at > 4 * 6  # record, checkpoint and two forgettings of each epoch were all met


@pytest.mark.parametrize("measure", ["rmse", "clip_map"])
def test_the_best_epochs_are_kept_and_of_equals_the_first(measure: str, tmp_path: Path) -> None:
    """Their weights are those that the training had after these epochs."""
    _, history, states = train(Context(), epochs=8, measure=measure, rate=1.0, count=3)
    sign = 1 if metric(measure).mode == "max" else -1
    values = np.array([sign * line[measure] for line in history.metrics])
    assert history.kept == (1 + np.argsort(-values, kind="stable")[:3]).tolist()
    for epoch, state in zip(history.kept, states, strict=True):
        there, _, _ = train(Context(last_step=epoch), epochs=8, measure=measure, rate=1.0, count=3)
        assert all(torch.equal(v, state[k]) for k, v in there.state_dict().items())


def test_a_longer_training_is_not_gone_on_with(tmp_path: Path) -> None:
    train(Context(tmp_path), rate=0.01)
    _, shorter, _ = train(Context(tmp_path, last_step=3))
    assert told(shorter) == told(train(Context(last_step=3))[1])


def test_the_checkpoint_does_not_grow_with_the_epochs(tmp_path: Path) -> None:
    sizes: list[int] = []

    def note(step: int, metrics: Any) -> None:
        sizes.append((tmp_path / "checkpoint.pt").stat().st_size)

    train(Context(tmp_path, on_report=note), epochs=30, measure="clip_macro_f1")
    assert len(sizes) == 30
    assert max(sizes[1:]) - min(sizes[1:]) < 64  # of numbers that are written in other lengths


@pytest.mark.parametrize("measure", ["rmse", "clip_map"])
def test_the_best_epoch_is_the_metrics_best_in_its_own_direction(
    measure: str, tmp_path: Path
) -> None:
    """At this rate the training overshoots, so that neither end of it is the best."""
    _, history, _ = train(Context(), epochs=8, measure=measure, rate=1.0)
    sign = 1 if metric(measure).mode == "max" else -1
    values = [sign * line[measure] for line in history.metrics]
    assert history.best_step == 1 + int(np.argmax(values))
    if measure == "rmse":
        assert history.best_step != 1 + int(np.argmin(values))
        assert len(set(values)) > 1

    half = np.arange(CLIPS) // 2 % 2  # each half's rows are those of the epoch that the other chose
    for chooses in (0, 1):
        worth = [
            sign * clip_metric(measure)(TARGETS[half == chooses], s.numpy()[half == chooses])
            for s in history.validation_scores
        ]
        chosen = history.validation_scores[int(np.argmax(worth))]
        for row in np.flatnonzero(half != chooses):
            assert torch.equal(history.crossed_clips[row], chosen[row])
