"""What a metric is: what it counts on each clip, the value of counts, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from systems.data.dataset import Event, LabelKind
from systems.kinds import Truth, contained, kind
from systems.metrics.intervals import Difference, Interval, OfCounts, bootstrap, paired_bootstrap
from systems.metrics.tagging import tag_counts
from systems.predictions import Predictions

Count = Callable[[Truth, Any], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric, from counts of each clip: so a bootstrap over their groups gives its interval.

    Args:
        name: of the metric.
        labels: the kinds of labels that it needs; labels that contain one of them do too.
        mode: which way is better. It is stated nowhere else.
        words: its name for people.
        text: what it is, in one line.
        count: (truth, what was said: the field of the predictions) -> counts [N, ...].
        of_counts: counts of some clips [..., N, ...] -> values [...].
        sums: whether the value follows from the counts' sum over clips; else counts are rows
            [N, ...], and ``of_counts`` takes how often each counts, [..., N], beside them.
        by_class: counts of some clips -> value of each class [K], NaN of one that none has.
        class_name: what a class's value is called: not every metric is a mean of classes.
        class_words: that name for people.
        predictions: the field of :class:`systems.predictions.Predictions` that it reads; without
            one the dense answer to the labels.
        aliases: names that papers have it under (``results.csv``). One name may mean several
            metrics: the ``accuracy`` of scene classification is the mean over classes.
    """

    name: str
    labels: tuple[LabelKind, ...]
    mode: Literal["max", "min"]
    words: str
    text: str
    count: Count
    of_counts: OfCounts
    by_class: Callable[[np.ndarray], np.ndarray] | None = None
    class_name: str = ""
    class_words: str = ""
    sums: bool = True
    predictions: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """What makes more of it better: 1, or -1 of a metric to minimise."""
        return 1 if self.mode == "max" else -1

    def fits(self, labels: LabelKind) -> bool:
        """Whether labels of a kind can be scored by it."""
        return bool({*contained(labels)} & {*self.labels})

    def follows_epochs(self, labels: LabelKind) -> bool:
        """Whether it can be told after each epoch: those give the answers to the labels."""
        return self.fits(labels) and self.reads(labels) in kind(labels).answers

    def reads(self, labels: LabelKind) -> str:
        """The field of predictions that it reads where the labels are of a kind."""
        return self.predictions or kind(labels).dense

    def counts(self, truth: Truth, predictions: Predictions) -> np.ndarray | None:
        """Counts [N, ...] of predictions; ``None`` where they lack what it reads."""
        said = getattr(predictions, self.reads(truth.kind))
        return None if said is None else self.count(truth, said)

    def value(self, counts: np.ndarray) -> float:
        """The value of counts [N, ...]."""
        return float(self.of_counts(counts))

    def interval(self, counts: np.ndarray, groups: Sequence[str] | None) -> Interval:
        """The value of counts with its 95 % interval over groups [N] (``None``: over clips)."""
        return bootstrap(counts, self.of_counts, groups, sums=self.sums)

    def difference(
        self, counts: np.ndarray, reference: np.ndarray, groups: Sequence[str] | None
    ) -> Difference:
        """The value less that of a reference over the same clips, with its 95 % interval."""
        return paired_bootstrap(
            counts, reference, self.of_counts, groups, sums=self.sums, mode=self.mode
        )

    def worth(self, truth: Truth, said: Any) -> float:
        """The value of what was said, signed so that more is better."""
        return self.sign * self.value(self.count(truth, said))


def dense(count: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Count:
    """Counts of targets [N, K] and scores [N, K]."""
    return lambda truth, scores: count(truth.values, scores)


def decided(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """Right and wrong decisions [N, K, 3], as the kind of the labels decides."""
    decide = kind(truth.kind).decide
    assert decide is not None, f"labels of kind {truth.kind} decide nothing"
    return tag_counts(truth.values, decide(scores))


Timed = Mapping[str, Sequence[Event]]


def timed(count: Callable[[Timed, Timed, Sequence[str]], np.ndarray]) -> Count:
    """Counts of reference events and estimated events of each clip."""

    def of_events(truth: Truth, events: Sequence[Sequence[Event]]) -> np.ndarray:
        assert truth.events is not None, "these labels tell nothing about time"
        ids = list(map(str, range(len(truth.events))))
        reference = dict(zip(ids, truth.events, strict=True))
        return count(reference, dict(zip(ids, events, strict=True)), truth.classes)

    return of_events
