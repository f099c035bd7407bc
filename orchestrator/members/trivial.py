"""The trivial row: what one reaches who hears nothing and knows the training labels.

What it says of a clip was made from the labels of clips that trained without it, as a member's
prediction was. A figure that is no better says nothing of the sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.members.seen import Targets
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from systems.data.dataset import Dataset, Event, LabelKind
from systems.data.splits import Fold, Splits, clip_lengths, clip_targets, kind_of
from systems.kinds import Constant, Truth, kind
from systems.kinds.series import by_lengths
from systems.metrics import metric
from systems.predictions import Predictions


@dataclass(frozen=True)
class Trivial:
    """What it is, in words, and what it says."""

    words: str
    said: Predictions


@dataclass(frozen=True)
class TrivialRows:
    """Trivial rows of a data set under its splits."""

    dataset: Dataset
    splits: Splits

    def out_of_fold(self, name: str, folds: int | None = None) -> Trivial:
        """Of the validation clips of all folds, or the first ones: the best for a metric on the
        clips that trained each."""
        parts = [self._fold(name, fold) for fold in self.splits.folds[:folds]]
        words = " or ".join(dict.fromkeys(part.words for part in parts))
        return Trivial(words, Predictions.concatenate([part.said for part in parts]))

    def _fold(self, name: str, fold: Fold) -> Trivial:
        lengths = clip_lengths(self.dataset, fold.validation)
        return self._say(best_constant(self.dataset, fold.train, name), fold.validation, lengths)

    def of(
        self, name: str, clip_ids: Sequence[str], lengths: Sequence[int] | None = None
    ) -> Trivial:
        """Of clips that are none of the labelled ones; ``lengths``: T of each clip of a series."""
        chosen = best_constant(self.dataset, self.splits.labelled, name)
        return self._say(chosen, clip_ids, lengths)

    def _say(
        self, chosen: Constant, clip_ids: Sequence[str], lengths: Sequence[int] | None
    ) -> Trivial:
        about, classes = kind(self._kind), self.dataset.classes
        rows = chosen.says(clip_ids, len(classes), lengths)
        said: dict[str, Any] = {about.dense: rows}
        if lengths is not None:
            said = {about.dense: tuple(by_lengths(rows, lengths)), "frame_hop": 1.0}
        if about.says_tags and about.decide is not None:
            said["events"] = self._whole_clips(clip_ids, about.decide(rows))
        return Trivial(chosen.words, Predictions.of(clip_ids, classes, **said))

    @property
    def _kind(self) -> LabelKind:
        return kind_of(self.dataset, self.splits.labelled)

    def _whole_clips(
        self, clip_ids: Sequence[str], there: np.ndarray
    ) -> tuple[tuple[Event, ...], ...]:
        """Events from the first to the last moment of each clip, of what it is said to hold."""
        seconds = {clip.clip_id: clip.duration for clip in self.dataset.clips}
        names = self.dataset.classes
        return tuple(
            tuple(Event(0.0, seconds[clip_id], names[k]) for k in np.flatnonzero(row))
            for clip_id, row in zip(clip_ids, there, strict=True)
        )


def best_constant(dataset: Dataset, clip_ids: Sequence[str], name: str) -> Constant:
    """The constant answer that is the best by a metric on these clips; of equals the first.

    Of a metric of events: yes to all, or, where errors are counted, no to all.
    """
    labels, about = kind_of(dataset, clip_ids), metric(name)
    truth = Truth(
        labels, clip_targets(dataset, clip_ids), dataset.classes,
        lengths=clip_lengths(dataset, clip_ids),
    )  # fmt: skip
    constants = kind(labels).constants(truth)
    if about.reads(labels) != kind(labels).dense:
        return constants[0] if about.mode == "max" else constants[-1]
    if len(constants) == 1 or not about.sums:  # to a metric of ranks all constants are alike
        return constants[0]
    count = len(dataset.classes)
    worth = [about.worth(truth, one.says(clip_ids, count, truth.lengths)) for one in constants]
    return constants[int(np.argmax(worth))]


def note(run: RunDir, rows: TrivialRows, targets: Targets) -> None:
    """Write trivial.json: its value on the rows that the search scores, and on all of them."""
    name, classes = run.plan.metric, run.plan.classes
    found = rows.out_of_fold(name)
    counts = metric(name).counts(targets.truth(classes), found.said)
    assert counts is not None
    counted = targets.counted()
    searched = counted & (targets.folds < rows.splits.searched)
    write_json(
        run.trivial,
        {
            "words": found.words,
            "searched": _interval(name, counts, targets, searched),
            "out_of_fold": _interval(name, counts, targets, counted),
        },
    )


def _interval(
    name: str, counts: np.ndarray, targets: Targets, inside: np.ndarray
) -> Mapping[str, float]:
    groups = [targets.groups[row] for row in np.flatnonzero(inside)]
    return metric(name).interval(counts[inside], groups)._asdict()
