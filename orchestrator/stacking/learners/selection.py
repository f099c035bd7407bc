"""Ensemble selection with replacement (Caruana et al. 2004): add the member that helps most.

A plain round scores every candidate on every row. Here most decisions stand whatever is added next:
after t members of scores in [0, 1] a class's sum S decides alone unless |S - t/2| < 1. Only rows
that a candidate can still turn are looked at, and they become rare as the ensemble grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learners.simplex import Weighted
from systems.metrics.tagging import f1_of_counts


@dataclass(frozen=True)
class Rounds:
    """``rounds``: members added after the first; ``start``: the best n single ones begin.

    ``bags``: selections over random subsets of ``bag_share`` of the members, whose counts are
    summed; 1 uses all members. ``best_prefix`` stops after the round with the best metric.
    """

    rounds: int = 200
    start: int = 1
    bags: int = 1
    bag_share: float = 0.5
    best_prefix: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.start < 1 or self.bags < 1 or not 0 < self.bag_share <= 1:
            raise ValueError("rounds >= 0, start >= 1, bags >= 1, bag_share in (0, 1]")


class Selection(Weighted):
    """Each member's weight is how often it was added."""

    name = "selection"
    title = "ensemble selection with replacement"
    source = "nnf_cnn_ensemble (200 rounds from the best network)"
    labels = ("tags", "class", "events", "values", "series")
    Settings = Rounds

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        settings, count = self.settings, members.scores.shape[1]
        totals = np.zeros(count)
        generator = np.random.default_rng(seed)
        for _ in range(settings.bags):
            size = count if settings.bags == 1 else max(1, round(settings.bag_share * count))
            bag = np.sort(generator.permutation(count)[:size])
            picked = select(members.scores, targets, bag, settings)
            totals += np.bincount(picked, minlength=count)
        self.w = totals / totals.sum()


class Ensemble(Protocol):
    """A growing ensemble: what each candidate would be worth, and adding one."""

    def worth(self) -> np.ndarray: ...

    def add(self, member: int) -> None: ...


def select(scores: np.ndarray, targets: Targets, bag: np.ndarray, settings: Rounds) -> list[int]:
    """The members in the order in which they are added; of equal ones the first."""
    ensemble = _ensemble(scores, targets, bag)
    first = np.argsort(-ensemble.worth(), kind="stable")[: settings.start]
    for place in first:
        ensemble.add(int(place))
    picked = [int(place) for place in first]
    reached = [targets.worth(scores[:, bag[first]].mean(axis=1))]
    for _ in range(settings.rounds):
        worth = ensemble.worth()
        best = int(np.argmax(worth))
        ensemble.add(best)
        picked.append(best)
        reached.append(float(worth[best]))
    if settings.best_prefix:
        picked = picked[: len(first) + int(np.argmax(reached))]
    return [int(bag[place]) for place in picked]


def _ensemble(scores: np.ndarray, targets: Targets, bag: np.ndarray) -> Ensemble:
    if targets.metric == "clip_macro_f1" and targets.says_tags and not targets.exclusive:
        return MacroF1(scores, targets.values, bag)
    if targets.metric in ("accuracy", "uar"):
        return Hits(scores, targets.values, bag, targets.metric == "uar")
    return Plain(scores[:, bag], targets)


class Plain:
    """Any metric: every candidate is scored on every row."""

    def __init__(self, scores: np.ndarray, targets: Targets) -> None:
        self.scores, self.targets = scores, targets
        self.total = np.zeros((len(scores), scores.shape[2]))
        self.size = 0

    def worth(self) -> np.ndarray:
        return np.array([
            self.targets.worth((self.total + self.scores[:, m]) / (self.size + 1))
            for m in range(self.scores.shape[1])
        ])  # fmt: skip

    def add(self, member: int) -> None:
        self.total += self.scores[:, member]
        self.size += 1


class MacroF1:
    """Macro F1 of tags: class by class, on the rows that a candidate can still turn."""

    def __init__(self, scores: np.ndarray, targets: np.ndarray, bag: np.ndarray) -> None:
        rows, _, classes = scores.shape
        # [K, N, M] in single precision: a class's rows are turned one after another.
        self.scores = np.empty((classes, rows, len(bag)), np.float32)
        for k in range(classes):
            self.scores[k] = scores[:, bag, k]
        # What the members can add to a row: the open ones lie between.
        self.least, self.most = self.scores.min(axis=2), self.scores.max(axis=2)
        self.positive = (targets > 0.5).T
        self.total = np.zeros((classes, rows))
        self.size = 0

    def worth(self) -> np.ndarray:
        f1 = np.stack([self._class(k) for k in range(len(self.scores))])
        worth: np.ndarray = f1.mean(axis=0)
        return worth

    def _class(self, k: int) -> np.ndarray:
        """The F1 of a class with each candidate: [M]."""
        needed = (self.size + 1) / 2 - self.total[k]  # what a candidate must exceed
        positive, sure = self.positive[k], needed < self.least[k]
        open_ = np.flatnonzero(~sure & (needed < self.most[k]))
        turned = self.scores[k][open_] > needed[open_, None].astype(np.float32)
        hits = positive[open_]
        tp = np.count_nonzero(positive & sure) + np.count_nonzero(turned[hits], axis=0)
        fp = np.count_nonzero(~positive & sure) + np.count_nonzero(turned[~hits], axis=0)
        return f1_of_counts(np.stack([tp, fp, positive.sum() - tp], axis=-1))

    def add(self, member: int) -> None:
        self.total += self.scores[:, :, member]
        self.size += 1


class Hits:
    """Accuracy or recall of one class a clip, on the clips that a candidate can still turn."""

    def __init__(
        self, scores: np.ndarray, targets: np.ndarray, bag: np.ndarray, unweighted: bool
    ) -> None:
        self.scores = np.ascontiguousarray(scores[:, bag], np.float32)
        self.truth = targets.argmax(axis=1)
        share = np.bincount(self.truth, minlength=targets.shape[1])
        self.value = np.ones(len(targets)) / len(targets)  # of a clip that is right
        if unweighted:
            self.value = 1 / (share[self.truth] * np.count_nonzero(share))
        self.total = np.zeros((len(targets), targets.shape[1]))
        # A member moves the lead of a class by no more than its own spread over the classes.
        self.spread = (self.scores.max(axis=2) - self.scores.min(axis=2)).max(axis=1)

    def worth(self) -> np.ndarray:
        ranked = np.sort(self.total, axis=1)
        lead = (
            ranked[:, -1] - ranked[:, -2] if ranked.shape[1] > 1 else np.full(len(ranked), np.inf)
        )
        open_ = np.flatnonzero(lead <= self.spread)
        sure = (self.total.argmax(axis=1) == self.truth) & (lead > self.spread)
        decided = (self.scores[open_] + self.total[open_, None]).argmax(axis=2)
        right = decided == self.truth[open_, None]
        worth: np.ndarray = self.value[sure].sum() + self.value[open_] @ right
        return worth

    def add(self, member: int) -> None:
        self.total += self.scores[:, member]


LEARNERS: tuple[type[Any], ...] = (Selection,)
