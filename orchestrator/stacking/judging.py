"""What a meta-learner is worth: its score, its gain over the best single trial, and how sure.

Two opinions on a gain: the paired bootstrap over groups of clips decides; the one-tailed z-test of
two proportions (mask_panns_mixup) stands beside it. Of several learners the p-values are corrected
for their number (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from systems.kinds import Truth
from systems.metrics import metric
from systems.metrics.intervals import Difference, Interval

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
            value["z_p"],
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


def judge(
    name: str, truth: Truth, said: Any, reference: Any, groups: Sequence[str] | None = None
) -> Judgement:
    """What a learner said against what the best single trial did, by a metric.

    Args:
        name: of the metric.
        truth: of N clips.
        said, reference: the field of predictions that the metric reads: scores [N, K], or the
            events of each clip.
        groups: of each clip, which the bootstrap draws whole; ``None``: each is its own.
    """
    about = metric(name)
    ours, theirs = about.count(truth, said), about.count(truth, reference)
    value = about.interval(ours, groups)
    z_p = z_test(value.value, about.value(theirs), len(ours)) if name in PROPORTIONS else None
    return Judgement(name, value, about.difference(ours, theirs, groups), z_p)


def z_test(ours: float, theirs: float, clips: int) -> float:
    """One-tailed p of two proportions of as many clips each: that ours is not larger.

    ``z = (p1 - p2) / sqrt(2 p (1 - p) / n)`` with p their mean. The metric is read as a share of
    clips that are right, as the paper does with the unweighted average recall; the test knows
    nothing of the rows being the same.
    """
    pooled = (ours + theirs) / 2
    spread = np.sqrt(2 * pooled * (1 - pooled) / clips)
    if spread == 0:
        return 1.0 if ours <= theirs else 0.0
    return float(norm.sf((ours - theirs) / spread))


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

    ``p`` is that of the bootstrap draws in which the learner is not better; ``earlier`` are those
    of learners that were judged on the same rows before and are not shown.
    """
    p_values = [judged.versus_best.p_not_better for judged in judgements.values()]
    corrected = holm([*p_values, *earlier])
    return {
        name: asdict(Compared(p, p_holm, judged.z_p, p_holm < LEVEL, len(corrected)))
        for (name, judged), p, p_holm in zip(judgements.items(), p_values, corrected, strict=False)
    }
