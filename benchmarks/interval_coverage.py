"""How often 95 % intervals hold the true value, and how often a paired p claims what is not so.

Sets of 120 clips are drawn from a law whose true value is known from 200,000 clips: one by one, or
as 10 groups of 12, each with its own difficulty. The baseline, "before", resamples clips, takes
plain percentiles and lets a class that no drawn clip has count 0 in a macro F1. "Percentiles" and
"bias-corrected" are of groups, without the widening for few of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from measuring import run
from scipy.special import expit, logit
from scipy.stats import norm

from systems.kinds import Truth
from systems.metrics import metric
from systems.metrics.intervals import TAIL, resampled
from systems.metrics.metric import Metric
from systems.metrics.tagging import f1_of_counts

CLIPS, GROUPS, TRUE_CLIPS = 120, 10, 200_000
LEVEL = 0.05  # of a claim


@dataclass(frozen=True)
class Law:
    """What sets are drawn from: ``prevalence`` of each tag, or ``None`` of one class of five."""

    name: str
    metric: str
    prevalence: tuple[float, ...] | None
    gain: float = 1.2

    def truth(self, r: np.random.Generator, clips: int) -> Truth:
        if self.prevalence is None:
            return Truth("class", np.eye(5)[r.integers(5, size=clips)])
        shape = (clips, len(self.prevalence))
        return Truth("tags", (r.random(shape) < self.prevalence).astype(float))

    def scores(
        self, truth: Truth, groups: int, spread: float, r: np.random.Generator
    ) -> np.ndarray:
        """What a model says of the clips [N, K]; ``spread``: of how hard groups are to it."""
        clips, size = truth.values.shape
        group = np.arange(clips) * groups // clips
        gain = self.gain + spread * r.normal(size=(groups, 1))  # how well they are told apart
        lean = spread * r.normal(size=(groups, size))  # and towards which classes
        logits = gain[group] * (2 * truth.values - 1) + lean[group] + r.normal(size=(clips, size))
        if self.prevalence is not None:  # the model knows how rare a tag is
            logits += logit(np.array(self.prevalence)) / (2 * self.gain)
        return np.asarray(expit(logits))

    def true_value(self, spread: float) -> float:
        r, about = np.random.default_rng(1), metric(self.metric)
        truth = self.truth(r, TRUE_CLIPS)
        return about.value(about.count(truth, self.scores(truth, TRUE_CLIPS, spread, r)))


LAWS = (
    Law("accuracy", "accuracy", None),
    Law("MAP@3", "map_at_3", None),
    Law("macro F1", "clip_macro_f1", (0.3,) * 5),
    Law("macro F1, classes at 2 %", "clip_macro_f1", (0.02,) * 10, 1.7),
    Law("macro F1, half of them at 2 %", "clip_macro_f1", (0.3,) * 5 + (0.02,) * 5, 1.7),
    Law("AUC", "clip_auc", (0.3,) * 5),
)


def before(about: Metric, counts: np.ndarray) -> tuple[float, float]:
    """Percentiles over clips; a class that no drawn clip has counts 0 in a macro F1."""

    def with_zeros(summed: np.ndarray) -> np.ndarray:
        mean: np.ndarray = f1_of_counts(summed.sum(axis=-3)).mean(axis=-1)
        return mean

    value = with_zeros if about.name == "clip_macro_f1" else about.of_counts
    draws = resampled([counts], value, None, sums=about.sums)[0]
    low, high = np.quantile(draws, [TAIL, 1 - TAIL])
    return float(low), float(high)


def percentiles(
    about: Metric, counts: np.ndarray, groups: tuple[str, ...], corrected: bool
) -> tuple[float, float]:
    """Percentiles over groups, their levels moved by the bias of the draws where ``corrected``."""
    draws = resampled([counts], about.of_counts, groups, sums=about.sums)[0]
    value, bias = about.value(counts), 0.0
    if corrected:
        below = np.mean(draws < value - 1e-12) + np.mean(np.abs(draws - value) <= 1e-12) / 2
        bias = norm.ppf(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    levels = norm.cdf(2 * bias + norm.ppf([TAIL, 1 - TAIL]))
    low, high = np.quantile(draws, levels)
    return float(low), float(high)


def ours(about: Metric, counts: np.ndarray, groups: tuple[str, ...]) -> tuple[float, float]:
    """As a run has it."""
    _, low, high = about.interval(counts, groups)
    assert low is not None
    assert high is not None
    return low, high


Bounds = Callable[[Metric, np.ndarray, tuple[str, ...]], tuple[float, float]]
METHODS: dict[str, Bounds] = {
    "before": lambda about, counts, groups: before(about, counts),
    "percentiles": lambda about, counts, groups: percentiles(about, counts, groups, False),
    "bias-corrected": lambda about, counts, groups: percentiles(about, counts, groups, True),
    "ours": ours,
}


def coverage(
    law: Law, groups: int, spread: float, sets: int, methods: Sequence[str] = tuple(METHODS)
) -> dict[str, float]:
    """The share of sets whose interval holds the true value, by method."""
    about, true, of = metric(law.metric), law.true_value(spread), _names(groups)
    held = dict.fromkeys(methods, 0)
    for seed in range(sets):
        r = np.random.default_rng([2, seed])
        truth = law.truth(r, CLIPS)
        counts = about.count(truth, law.scores(truth, groups, spread, r))
        for name in methods:
            low, high = METHODS[name](about, counts, of)
            held[name] += low - 1e-9 <= true <= high + 1e-9
    return {name: count / sets for name, count in held.items()}


def null_claims(law: Law, groups: int, spread: float, sets: int) -> tuple[float, float]:
    """How often p of two equally good models is below the level: over clips, and ours."""
    about, of, claims = metric(law.metric), _names(groups), [0, 0]
    for seed in range(sets):
        r = np.random.default_rng([3, seed])
        truth = law.truth(r, CLIPS)
        one, two = (about.count(truth, law.scores(truth, groups, spread, r)) for _ in range(2))
        drawn = resampled([one, two], about.of_counts, None, sums=about.sums)
        claims[0] += (1 + (drawn[0] <= drawn[1]).sum()) / (1 + len(drawn[0])) < LEVEL
        claims[1] += about.difference(one, two, of).p_not_better < LEVEL
    return claims[0] / sets, claims[1] / sets


def _names(groups: int) -> tuple[str, ...]:
    return tuple(str(clip * groups // CLIPS) for clip in range(CLIPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="five sets each")
    parser.add_argument("--data", help="not used: the data is made")
    parser.add_argument("--sets", type=int, default=1000)
    given = parser.parse_args()
    sets = 5 if given.smoke else given.sets
    for groups, spread, where in ((CLIPS, 0.0, "no groups"), (GROUPS, 0.7, "10 groups of 12")):
        for law in LAWS:
            held = coverage(law, groups, spread, sets)
            rest = ", ".join(f"{name} {share:.3f}" for name, share in held.items())
            print(f"FIGURE {law.name}, {where}, covered: {held['ours']:.3f} ({rest})", flush=True)
        for law in LAWS:
            clips, ours = null_claims(law, groups, spread, sets)
            print(f"FIGURE {law.name}, {where}, null claims at 5 %: {ours:.3f} "
                  f"(over clips {clips:.3f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    run(main)
