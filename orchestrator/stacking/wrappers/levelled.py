"""Members' scores brought to one level over the folds that held the rows out.

A fold's models were trained on the other folds' labels. Where a fold has more of a class, its
models have seen less of it, and say less: over all folds a member's scores fall where the labels
rise, most of all where labels hang on few groups. Who may turn a member around reads that as skill.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.data.dataset import Event, LabelKind
from systems.kinds import kind

SMALLEST = 1e-6  # of a probability whose logarithm is taken


class Levelled(Around):
    """A learner that sees no difference of level between folds.

    The level of a fold is what a member's log odds (of a class log-probabilities, of numbers the
    values) are there on average, less what its labels explain: so a fold that has more of a class,
    and whose models say so, stays higher. It is estimated on the fitted rows. Scores of no fold
    (refits, new clips) are seen as they are: they lie at the mean level.
    """

    kind = "levelled"

    def __init__(self, inner: Learner) -> None:
        super().__init__(inner)
        self.of_kind: LabelKind = "tags"
        self.shifts: dict[int, np.ndarray] = {}  # of a fold's raw scores [M, K]

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.of_kind, self.shifts = targets.kind, {}
        if members.fold is not None and members.lengths is None:
            rows = targets.fitting()
            self.shifts = _shifts(
                self._raw(members.scores[rows]), targets.values[rows], members.fold[rows]
            )
        super().fit(self._level(members), targets, seed)

    def predict(self, members: Members) -> np.ndarray:
        return super().predict(self._level(members))

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        return super().events(self._level(members))

    def _level(self, members: Members) -> Members:
        if members.fold is None or not self.shifts:
            return members
        none = np.zeros(members.scores.shape[1:])
        shift = np.stack([self.shifts.get(int(fold), none) for fold in members.fold])
        scores = self._scores(self._raw(members.scores) + shift)
        if kind(self.of_kind).exclusive:  # a row keeps its sum
            whole = members.scores.sum(axis=2, keepdims=True)
            scores = scores * whole / np.maximum(scores.sum(axis=2, keepdims=True), SMALLEST)
        moved = np.abs(shift).sum(axis=(1, 2), keepdims=True) > 0
        return replace(members, scores=np.where(moved, scores, members.scores))

    def _raw(self, scores: np.ndarray) -> np.ndarray:
        about = kind(self.of_kind)
        if not about.says_tags:
            return scores
        if about.exclusive:
            return np.log(np.clip(scores, SMALLEST, None))
        odds: np.ndarray = logit(np.clip(scores, SMALLEST, 1 - SMALLEST))
        return odds

    def _scores(self, raw: np.ndarray) -> np.ndarray:
        about = kind(self.of_kind)
        if not about.says_tags:
            return raw
        return np.exp(raw) if about.exclusive else expit(raw)

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> Levelled:
        return cls(inner(state["inner"]))


def _shifts(raw: np.ndarray, truth: np.ndarray, fold: np.ndarray) -> dict[int, np.ndarray]:
    """What brings each fold's raw scores [N, M, K] to the mean level, given the truth [N, K]."""
    folds = np.unique(fold)
    if len(folds) < 2:
        return {}
    inside = [fold == one for one in folds]
    means = np.stack([raw[rows].mean(axis=0) for rows in inside])  # [F, M, K]
    shares = np.stack([truth[rows].mean(axis=0) for rows in inside])  # [F, K]
    place = np.searchsorted(folds, fold)
    off, due = raw - means[place], truth - shares[place]
    spread = (due**2).sum(axis=0)
    slope = np.divide(
        np.einsum("nmk,nk->mk", off, due), spread, out=np.zeros(means.shape[1:]),
        where=spread > 0,
    )  # fmt: skip
    levels = means - slope * shares[:, None]
    weights = np.array([rows.mean() for rows in inside])
    mean = np.einsum("f,fmk->mk", weights, levels)
    return {int(one): mean - level for one, level in zip(folds, levels, strict=True)}
