"""What a meta-learner is worth: its score, its gain over the best single member, and how sure.

A gain is claimed where three things hold at once, by the paired bootstrap over groups of clips:
the learner is better than the best member; it is better than the same learner on that member alone,
where it betters one member too (thresholds, calibration: that is no fusing); and it is surely
better than the trivial row, which hears nothing. Of several learners the p-values are corrected for
their number (Holm 1979). Beside them stands the one-tailed z-test of two proportions of
mask_panns_mixup.
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
# The metrics that the z-test of its paper is of: a share of clips that are right, or its mean over
# classes. On an F1 it claims next to nothing, whatever there is.
PROPORTIONS = ("accuracy", "uar")


@dataclass(frozen=True)
class Judgement:
    """A learner's metric and its differences to others on the same rows.

    ``versus_best``: to the best single member; ``by_fusing``: to the same learner on that member
    alone; ``None`` where there is no such thing. ``betters_one``: what of it betters a single
    member too, in words, or nothing. ``versus_trivial``: to the trivial row, ``trivial`` in words.
    ``z_p``: p of the one-tailed z-test; ``None`` where the metric is no proportion.
    """

    metric: str
    out_of_fold: Interval
    versus_best: Difference
    z_p: float | None
    by_fusing: Difference | None = None
    betters_one: str = ""
    versus_trivial: Difference | None = None
    trivial: str = ""

    @property
    def p(self) -> float:
        """p of what is claimed: of the larger of its two, where two differences must hold; 1 where
        what fusing adds cannot be told from what betters one member."""
        if self.by_fusing is not None:
            return max(self.versus_best.p_not_better, self.by_fusing.p_not_better)
        return 1.0 if self.betters_one else self.versus_best.p_not_better

    @property
    def beats_trivial(self) -> bool:
        """Whether the whole interval of the difference to the trivial row lies on the better side;
        where there is no such row too."""
        return self.versus_trivial is None or is_clear(self.metric, self.versus_trivial)

    def to_json(self) -> dict[str, Any]:
        """As the learner's scores.json has it."""
        return {
            "metric": self.metric,
            "out_of_fold": self.out_of_fold._asdict(),
            "versus_best": self.versus_best._asdict(),
            "z_p": self.z_p,
            "by_fusing": self.by_fusing and self.by_fusing._asdict(),
            "betters_one": self.betters_one,
            "versus_trivial": self.versus_trivial and self.versus_trivial._asdict(),
            "trivial": self.trivial,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Judgement:
        """The inverse of :meth:`to_json`; further keys are left alone."""
        by_fusing, trivial = (value.get(key) for key in ("by_fusing", "versus_trivial"))
        return cls(
            value["metric"], Interval(**value["out_of_fold"]), Difference(**value["versus_best"]),
            value["z_p"], by_fusing and Difference(**by_fusing), value.get("betters_one", ""),
            trivial and Difference(**trivial), value.get("trivial", ""),
        )  # fmt: skip

    def verdict(self, claims: bool) -> str:
        """What the gain comes to, as a code (docs/results.md)."""
        if claims:
            return "beats"
        if not self.beats_trivial:
            return "trivial"
        if self.betters_one and is_clear(self.metric, self.versus_best):
            return "alone"
        return "worse" if is_clear(self.metric, self.versus_best, -1) else "not_better"


def is_clear(name: str, difference: Difference, side: int = 1) -> bool:
    """Whether the whole interval of a difference by a metric lies on its better side (or, with -1,
    on the worse one); of a single group there is none."""
    ends = (difference.low, difference.high)
    return all(end is not None and side * metric(name).sign * end > 0 for end in ends)


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
    name: str, truth: Truth, said: Any, reference: Any, groups: Sequence[str] | None = None, *,
    alone: Any = None, betters_one: str = "", trivial: Any = None, trivial_words: str = "",
) -> Judgement:  # fmt: skip
    """What a learner said against what the best single member did, by a metric.

    Args:
        name: of the metric.
        truth: of N clips.
        said, reference: the field of predictions that the metric reads: scores [N, K], or the
            events of each clip.
        groups: of each clip, which the bootstrap draws whole; ``None``: each is its own.
        alone: what the same learner says when it sees the best member alone; ``None`` where that is
            not told.
        betters_one: what of the learner betters a single member too.
        trivial: what the trivial row says, ``trivial_words`` in words; ``None`` without one.
    """
    about = metric(name)
    ours, theirs = about.count(truth, said), about.count(truth, reference)
    value = about.interval(ours, groups)
    z_p = z_test(value.value, about.value(theirs), len(ours)) if name in PROPORTIONS else None
    by_fusing, versus_trivial = (
        None if other is None else about.difference(ours, about.count(truth, other), groups)
        for other in (alone, trivial)
    )
    return Judgement(
        name, value, about.difference(ours, theirs, groups), z_p, by_fusing, betters_one,
        versus_trivial, trivial_words,
    )  # fmt: skip


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
    """Each learner's gain as it stands among all: it is claimed where p, corrected, is below 0.05
    and the learner beats the trivial row.

    ``p`` is that of the bootstrap draws in which the learner is not better; ``earlier`` are those
    of learners that were judged on the same rows before and are not shown.
    """
    p_values = [judged.p for judged in judgements.values()]
    corrected = holm([*p_values, *earlier])
    return {
        name: asdict(Compared(p, p_holm, judged.z_p, p_holm < LEVEL and judged.beats_trivial,
                              len(corrected)))
        for (name, judged), p, p_holm in zip(judgements.items(), p_values, corrected, strict=False)
    }  # fmt: skip
