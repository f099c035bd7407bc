"""Cases that every registered system passes; a package that adds papers calls them in its tests.

What they need stands in the system's entry: its ``example`` data set, ``tiny`` values at which it
trains in seconds, and how many ``parameters`` its network has. A case that fails raises
``AssertionError``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from systems import config as configs
from systems import data, registry
from systems.budget import make_budget
from systems.context import Context
from systems.data.answered import answered
from systems.data.dataset import SEARCHED, ClipSet, rows_of_clips
from systems.data.protocol import hidden_by
from systems.data.splits import TrainingData, make_splits, training_data
from systems.data.subsets import subset_key
from systems.kinds import kind
from systems.network_system import NetworkSystem
from systems.predictions import Predictions
from systems.registry import Entry
from systems.retrieval_system import RetrievalSystem
from systems.sounds import open_sounds
from systems.system import Fitted, Sounds, System
from systems.tracks import each

TRAIN, VALIDATE = 24, 12  # clips of the example data set


def check_entry(entry: Entry) -> None:
    """It is found by its address, says what it is, and all its budgets and figures apply."""
    assert registry.get(entry.address) is entry
    assert registry.get(entry.paper).paper == entry.paper
    assert entry.summary
    if entry.dataset in data.readers():
        assert data.reader(entry.dataset).TASK in (entry.task, "any")
    assert all(kind(label) for label in entry.labels)
    for text in ("quick", "paper", "0.5"):
        entry.build(make_budget(entry, text, None, set()).apply(entry.config))
    for dataset in entry.published:
        entry.build(entry.published_config(dataset))
    for figure in entry.figures:
        entry.build(configs.replace(entry.published_config(figure.dataset or ""), figure.overrides))
        scored = map(subset_key, data.card(figure.dataset or entry.dataset).subsets.values())
        assert not figure.where or subset_key(figure.where) in scored, figure.where
    names = [figure.name for figure in entry.figures]
    assert len(names) == len(set(names))


def check_network(entry: Entry) -> None:
    """Its network's outputs and number of parameters at the paper's values, without memory."""
    system = entry.build(entry.config)
    with torch.device("meta"):
        network = system.network(entry.classes)
        if network is None:
            return
        if entry.parameters is not None:  # some papers count the running statistics of norms too
            trained = sum(p.numel() for p in network.parameters())
            running = sum(b.numel() for b in network.buffers() if b.is_floating_point())
            assert entry.parameters in (trained, trained + running), (trained, running)
        if isinstance(system, RetrievalSystem):
            of_query, of_item = (torch.zeros(2, *s) for s in system.shapes().values())
            said = network({"query": of_query, "gallery": torch.stack([of_item] * 3, dim=1)})
            assert said.clip.shape == (2, 3)
        if not isinstance(system, NetworkSystem):
            return
        x = each(lambda shape: torch.zeros(2, *shape), system.shape(system.length))
        said = network(x)
    assert said.clip is not None or said.frames is not None
    if said.clip is not None:
        assert said.clip.shape == (2, entry.classes)
    if system.frames:
        assert said.frames is not None
        assert system.frame_hop is not None
        assert said.frames.shape[::2] == (2, entry.classes)
        expected = system.length * system.unit / system.frame_hop
        assert abs(said.frames.shape[1] - expected) <= 2


@dataclass(frozen=True)
class Case:
    """A tiny training of a system on some clips of its example data set.

    ``teachers``: what it requires fitted, with what ``context.required_about`` says.
    """

    entry: Entry
    config: Any
    data: TrainingData
    sounds: Sounds
    teachers: Mapping[str, tuple[Fitted, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry, folder: Path) -> Case:
        """The case; sound, and what its teachers keep, is stored below ``folder``."""
        dataset = answered(data.load(entry.embedded(), None), entry.outputs)
        config = configs.replace(entry.published_config(dataset.name), entry.tiny)
        hides, _ = hidden_by(dataset, entry.protocol, strict=False)
        splits = make_splits(dataset, 0, hides=hides)
        fold = training_data(dataset, splits, 0)
        fold = replace(fold, metric=kind(fold.kind).metrics[0])
        assert fold.validation is not None
        labelled, _ = some(fold.labelled, TRAIN)
        validation, rows = some(fold.validation, VALIDATE)
        halves = None if fold.halves is None else fold.halves[rows]
        unlabelled = {
            role: clips if role in SEARCHED else some(clips, VALIDATE)[0]
            for role, clips in fold.unlabelled.items()
        }
        made = replace(
            fold, labelled=labelled, validation=validation, halves=halves, unlabelled=unlabelled
        )
        sets = (labelled, validation, *unlabelled.values())
        ids = tuple(dict.fromkeys(i for clips in sets for i in clips.clip_ids))
        sounds = open_sounds(dataset, ids, entry.build(config).inputs(), folder, map)
        teachers = {
            name: cls.of(registry.get(one.address), folder / name).taught(folder / name)
            for name, one in entry.required(config).items()
            if one.what == "fitted"
        }
        return cls(entry, config, made, sounds, teachers)

    def system(self) -> System:
        """Its system, not trained."""
        system: System = self.entry.build(self.config)
        return system

    def train(self, folder: Path, stop_after: int = 0) -> tuple[Fitted, list[dict[str, float]]]:
        """Train it with checkpoints in a folder; what it reported, step by step.

        Raises:
            Stopped: after the report of step ``stop_after``.
        """
        reports: dict[int, dict[str, float]] = {}

        def on_report(step: int, metrics: Mapping[str, float]) -> None:
            reports[step] = {k: v for k, v in metrics.items() if k != "seconds"}
            if step == stop_after:
                raise Stopped

        required: dict[str, Any] = dict.fromkeys(self.entry.required(self.config), self._teacher)
        required |= {name: partial(lambda one: one, fitted)
                     for name, (fitted, _) in self.teachers.items()}  # fmt: skip
        about = {name: about for name, (_, about) in self.teachers.items()}
        context = Context(folder, seed=3, threads=1, on_report=on_report, required=required,
                          required_about=about)  # fmt: skip
        fitted = self.system().train(self.data, self.sounds, context)
        return fitted, [reports[step] for step in sorted(reports)]

    def taught(self, folder: Path) -> tuple[Fitted, dict[str, Any]]:
        """It as a teacher: trained, saved and loaded, and what it is."""
        self.train(folder / "training")[0].save(folder / "model")
        about = {"system": self.entry.address, "config": json.loads(configs.to_json(self.config))}
        return self.system().load(folder / "model"), about

    def _teacher(self) -> Predictions:
        """Predictions of the labelled clips that agree with their labels, but not quite."""
        clips = self.data.labelled
        assert clips.targets is not None
        scores = 0.1 + 0.8 * clips.targets
        return Predictions.of(clips.clip_ids, self.data.classes, clip_scores=scores)

    def predict(self, fitted: Fitted) -> Predictions:
        """What is said of the validation clips."""
        assert self.data.validation is not None
        return fitted.predict(self.data.validation.clip_ids, self.sounds, Context(threads=1))


class Stopped(Exception):
    """A training was stopped from outside."""


def some(clips: ClipSet, count: int) -> tuple[ClipSet, np.ndarray]:
    """At most ``count`` of some clips, spread evenly, and their places (of a series their rows)."""
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(count, len(clips))).astype(int))
    return clips.some(chosen), rows_of_clips(chosen, clips.lengths)


def check_training(case: Case, folder: Path) -> None:
    """It learns, answers its kind of labels, and says the same after it was saved and loaded."""
    fitted, reports = case.train(folder / "whole")
    if case.system().network(len(case.data.classes)) is not None:
        assert reports[-1]["loss"] < reports[0]["loss"]
    check_predictions(case, fitted)
    for settings in _decisions(case.entry):
        assert case.data.validation is not None
        ids = case.data.validation.clip_ids
        fitted = fitted.adapt(settings, ids, case.sounds, Context(threads=1))
        check_predictions(case, fitted)
    fitted.save(folder / "model")
    loaded = case.system().load(folder / "model")
    same(case.predict(fitted), case.predict(loaded))
    told = loaded.with_decision(fitted.decision())
    same(case.predict(fitted), case.predict(told))


def _decisions(entry: Entry) -> Iterator[Any]:
    """The settings of the decision that its figures differ in."""
    if entry.decision is None:
        return
    found = [
        configs.get(configs.replace(entry.config, figure.overrides), entry.decision)
        for figure in entry.figures
        if all(key.startswith(f"{entry.decision}.") for key in figure.overrides)
    ]
    yield from (one for place, one in enumerate(found) if one not in found[:place])


def check_predictions(case: Case, fitted: Fitted) -> None:
    """What it says of the validation clips is of the shapes and ranges that its labels ask for."""
    said, clips = case.predict(fitted), case.data.validation
    assert clips is not None
    classes, about = len(case.data.classes), kind(case.data.kind)
    assert said.clip_ids == clips.clip_ids
    assert said.classes == case.data.classes
    for name in case.entry.gives:
        assert getattr(said, name) is not None, f"it gives no {name}"
    answer = getattr(said, about.dense)
    shapes: list[tuple[int, ...]] = [(classes,)] * len(clips)
    if about.ragged:
        assert clips.lengths is not None
        shapes = [(steps, classes) for steps in clips.lengths]
    assert [row.shape for row in answer] == shapes
    assert all(np.isfinite(row).all() for row in answer)
    if about.decide is not None and not about.exclusive:  # a class's may be any: the largest counts
        assert all(((row >= 0) & (row <= 1)).all() for row in answer)
    for frames in said.frame_scores or ():
        assert frames.ndim == 2
        assert frames.shape[1] == classes
        assert ((frames >= 0) & (frames <= 1)).all()
    if said.events is None:
        return
    assert said.frame_scores is not None
    for clip_id, frames, events in zip(said.clip_ids, said.frame_scores, said.events, strict=True):
        seconds = next(iter(case.sounds.values())).duration(clip_id)
        assert abs(len(frames) * said.frame_hop - seconds) < 2 * said.frame_hop
        assert all(0 <= event.onset < event.offset <= seconds for event in events)


def same(one: Predictions, other: Predictions) -> None:
    """Two predictions are equal to the last digit."""
    assert one.clip_ids == other.clip_ids
    assert one.events == other.events
    for name in ("clip_scores", "clip_values", "ranking", "frame_scores", "frame_values"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True)), name


def check_resumed(case: Case, folder: Path, stop_after: int = 2) -> None:
    """A training that was killed goes on to the last digit, and saves the same files. Without
    steps there is none to go on from."""
    whole, reports = case.train(folder / "whole")
    if case.system().network(len(case.data.classes)) is None:
        assert not reports
        return
    try:
        case.train(folder / "cut", stop_after)
    except Stopped:
        pass
    else:
        raise AssertionError(f"the training reported no step {stop_after}")
    resumed, later = case.train(folder / "cut")
    assert later == reports[stop_after - 1 :]  # the checkpoint's own step is told again
    assert resumed.history.kept == whole.history.kept
    whole.save(folder / "a")
    resumed.save(folder / "b")
    names = sorted(path.relative_to(folder / "a") for path in (folder / "a").rglob("*.*"))
    assert names == sorted(path.relative_to(folder / "b") for path in (folder / "b").rglob("*.*"))
    for name in names:
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
