"""What a meta-learner is worth: its score, its gain over the best single trial, and how sure.

The paired bootstrap over clips decides. Where the metric is a share of clips that are right, the
one-tailed z-test of two proportions (mask_panns_mixup) stands beside it. Of several learners the
p-values are corrected for their number (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from systems.data.dataset import Event
from systems.metrics import METRICS, clip_interval, metric, of_counts, score_counts
from systems.metrics.events import event_counts, event_f1_of_counts
from systems.metrics.intervals import (
    Difference,
    Interval,
    OfCounts,
    bootstrap,
    paired_bootstrap,
)
from systems.metrics.segments import segment_counts

# Metrics of events: how clips are counted, and the value of the counts.
TIMED = {
    "event_f1": (event_counts, event_f1_of_counts),
    "segment_f1": (segment_counts, event_f1_of_counts),
}
LEVEL = 0.05  # of a claim
PROPORTIONS = ("accuracy",)  # metrics that are a share of clips that are right


@dataclass(frozen=True)
class Judgement:
    """A learner's metric and its difference to the best single trial on the same rows.

    ``z_p``: p of the one-tailed z-test; ``None`` where the metric is no proportion.
    """

    metric: str
    out_of_fold: Interval
    versus_best: Difference
    z_p: float | None

    def to_json(self) -> dict[str, Any]:
        """As the learner's scores.json has it."""
        return {
            "metric": self.metric,
            "out_of_fold": self.out_of_fold._asdict(),
            "versus_best": self.versus_best._asdict(),
            "z_p": self.z_p,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Judgement:
        """The inverse of :meth:`to_json`; further keys are left alone."""
        return cls(
            value["metric"], Interval(**value["out_of_fold"]), Difference(**value["versus_best"]),
            value.get("z_p"),
        )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A gain among all that were compared: p, p corrected, the second opinion, and the claim.

    ``among``: how many were compared, those that are not shown any more included.
    """

    p: float
    p_holm: float
    z_p: float | None
    claims: bool
    among: int = 1


def judge(name: str, targets: np.ndarray, scores: np.ndarray, reference: np.ndarray) -> Judgement:
    """Scores [N, K] against those of the best single trial, by a clip metric."""
    ours, theirs = (score_counts(name, targets, s) for s in (scores, reference))
    sums = METRICS[name].sums
    value = clip_interval(name, targets, scores)
    return _judgement(name, value, ours, theirs, of_counts(name), sums)


def judge_counts(
    name: str, value_of: OfCounts, counts: np.ndarray, reference: np.ndarray
) -> Judgement:
    """Event or segment counts [N, K, 3] against those of the best single trial."""
    return _judgement(name, bootstrap(counts, value_of), counts, reference, value_of, True)


Events = Sequence[Sequence[Event]]  # of each clip


def judge_events(
    name: str, truth: Events, events: Events | None, reference: Events, classes: Sequence[str]
) -> Judgement:
    """Events of each clip against those of the best single trial."""
    assert events is not None
    count, value_of = TIMED[name]
    ours, theirs = (count(*_by_clip(truth, e), classes) for e in (events, reference))
    return judge_counts(name, value_of, ours, theirs)


def worth_of_events(name: str, targets: Targets, members: Members, events: Events | None) -> float:
    """A metric of events: more is better."""
    assert targets.events is not None
    assert events is not None
    count, value_of = TIMED[name]
    return value_of(count(*_by_clip(targets.events, events), members.classes))


def _by_clip(truth: Events, events: Events) -> tuple[dict[str, Any], dict[str, Any]]:
    ids = list(map(str, range(len(truth))))
    return dict(zip(ids, truth, strict=True)), dict(zip(ids, events, strict=True))


def _judgement(
    name: str, value: Interval, ours: np.ndarray, theirs: np.ndarray, value_of: OfCounts, sums: bool
) -> Judgement:
    difference = paired_bootstrap(ours, theirs, value_of, sums=sums, mode=metric(name).mode)
    z_p = z_test(value.value, value_of(theirs), len(ours)) if name in PROPORTIONS else None
    return Judgement(name, value, difference, z_p)


def z_test(ours: float, theirs: float, clips: int) -> float:
    """One-tailed p of two proportions of as many clips each: that ours is not larger.

    ``z = (p1 - p2) / sqrt(2 p (1 - p) / n)`` with p their mean. The test knows nothing of the
    clips being the same.
    """
    pooled = (ours + theirs) / 2
    spread = math.sqrt(2 * pooled * (1 - pooled) / clips)
    if spread == 0:
        return 1.0 if ours <= theirs else 0.0
    return math.erfc((ours - theirs) / spread / math.sqrt(2)) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    left = len(order) - np.arange(len(order))
    stepped = np.minimum(1.0, np.maximum.accumulate(left * np.asarray(p_values, float)[order]))
    corrected = np.empty(len(order))
    corrected[order] = stepped
    return [float(p) for p in corrected]


def compared(
    judgements: Mapping[str, Judgement], earlier: Sequence[float] = ()
) -> dict[str, dict[str, Any]]:
    """Each learner's gain as it stands among all: it is claimed where p, corrected, is below 0.05.

    ``p`` is the share of bootstrap draws in which the learner is not better; ``earlier`` are those
    of learners that were judged on the same rows before and are not shown.
    """
    p_values = [judged.versus_best.p_not_better for judged in judgements.values()]
    corrected = holm([*p_values, *earlier])
    return {
        name: asdict(Compared(p, p_holm, judged.z_p, p_holm < LEVEL, len(corrected)))
        for (name, judged), p, p_holm in zip(judgements.items(), p_values, corrected, strict=False)
    }
