"""Weights on the simplex: ``sum_m w_m p_m`` with w >= 0 that sum to 1, found in four ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from systems.data.dataset import LabelKind
from systems.errors import CannotFit
from systems.kinds import kind
from systems.postprocessing.pooling import SMALLEST


class Weighted(Learner):
    """A weighted mean of the members' scores (or values)."""

    pointwise = True
    labels = ("tags", "class", "events", "values", "series")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.w = np.zeros(0)
        if getattr(self.settings, "standardise", False):
            self.betters_one = "one scale"

    def predict(self, members: Members) -> np.ndarray:
        fused: np.ndarray = np.einsum("nmk,m->nk", self._seen(members).scores, self.w)
        return fused

    def _seen(self, members: Members) -> Members:
        """The members, as their settings say on one scale or as they are."""
        return standardised(members) if getattr(self.settings, "standardise", False) else members

    def weights(self) -> dict[str, Any]:
        """The weight of each member."""
        return {"members": self.w.tolist()}

    def state(self) -> dict[str, Any]:
        return {"w": self.w.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.w = np.array(state["w"])


@dataclass(frozen=True)
class Draws:
    """``draws``: how many weights are drawn from the flat Dirichlet distribution.

    ``standardise``: of series, which members may say on scales of their own: each member's values
    of a clip are brought to mean 0 and variance 1 before they are weighted, and so is what comes
    out. Each member alone is then tried too.
    """

    draws: int = 1000
    standardise: bool = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError("draws is at least 1")


def standardised(members: Members) -> Members:
    """Members whose values of each clip [T, D] have mean 0 and variance 1 (0 of a constant).

    Raises:
        CannotFit: clips are single rows, which have no variance.
    """
    if members.lengths is None:
        raise CannotFit("standardise: only values over time can be brought to one scale in a clip.")
    clips = []
    for rows in members.by_clip(members.scores):
        spread = rows.std(axis=0)
        clips.append((rows - rows.mean(axis=0)) / np.where(spread > 1e-8, spread, 1.0))
    return replace(members, scores=np.concatenate(clips))


def best_draw(members: Members, targets: Targets, settings: Draws, seed: int) -> np.ndarray:
    """The weights [M] with the best metric: of equal ones, of standardised members each alone, then
    of flat Dirichlet draws."""
    m = members.scores.shape[1]
    drawn = np.random.default_rng(seed).dirichlet(np.ones(m), settings.draws)
    alone = np.eye(m if settings.standardise else 0, m)
    return best_of(np.vstack([np.full((1, m), 1 / m), alone, drawn]), members, targets)


def best_of(candidates: np.ndarray, members: Members, targets: Targets) -> np.ndarray:
    """The first of the weights [C, M] with the best metric."""
    worth = [targets.worth(np.einsum("nmk,m->nk", members.scores, w)) for w in candidates]
    best: np.ndarray = candidates[int(np.argmax(worth))]
    return best


class Dirichlet(Weighted):
    """The best of many random weights by the metric itself."""

    name = "dirichlet"
    title = "weights drawn from a Dirichlet distribution"
    source = "mask_breathing_resnet, breath_sys5 (1000 draws, there for each fold: fold_weights)"
    Settings = Draws

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.w = best_draw(self._seen(members), targets, self.settings, seed)


class Simplex(Weighted):
    """The weights with the least cross-entropy (of values: squared error), by SLSQP.

    The problem is convex, so its one minimum is found from equal weights.
    """

    name = "simplex"
    title = "weights with the least loss"
    standard = True
    source = "nnf_cnn_ensemble (weighted average)"

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.w = least_loss(members.scores, targets.values, targets.row_weights(), targets.kind)


def least_loss(
    scores: np.ndarray, targets: np.ndarray, row_weights: np.ndarray, labels: LabelKind
) -> np.ndarray:
    """Weights [M] of scores [N, M, K] with the least mean loss against targets [N, K].

    The loss is the cross-entropy of a class, or of each tag, or of numbers the squared error.

    Raises:
        CannotFit: the optimiser finds no finite weights.
    """
    from scipy.optimize import minimize

    m, about = scores.shape[1], kind(labels)
    loss = _squared_error
    if about.says_tags:
        loss = _categorical if about.exclusive else _binary
    found = minimize(
        loss, np.full(m, 1 / m), (scores, targets, row_weights / row_weights.sum()), jac=True,
        method="SLSQP", bounds=[(0, 1)] * m, options={"maxiter": 500, "ftol": 1e-12},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(m)},
    )  # fmt: skip
    if not np.isfinite(found.x).all():
        raise CannotFit(f"the weights cannot be optimised: {found.message}.")
    w = np.clip(found.x, 0, None)
    weights: np.ndarray = w / w.sum()
    return weights


Loss = tuple[float, np.ndarray]


def _squared_error(w: np.ndarray, scores: np.ndarray, t: np.ndarray, row: np.ndarray) -> Loss:
    off = np.einsum("nmk,m->nk", scores, w) - t
    return _averaged(off**2, 2 * off, scores, row)


def _categorical(w: np.ndarray, scores: np.ndarray, t: np.ndarray, row: np.ndarray) -> Loss:
    p = np.clip(np.einsum("nmk,m->nk", scores, w), SMALLEST, None)
    return _averaged(-t * np.log(p), -t / p, scores, row)


def _binary(w: np.ndarray, scores: np.ndarray, t: np.ndarray, row: np.ndarray) -> Loss:
    p = np.clip(np.einsum("nmk,m->nk", scores, w), SMALLEST, 1 - SMALLEST)
    loss = -t * np.log(p) - (1 - t) * np.log(1 - p)
    return _averaged(loss, (p - t) / (p * (1 - p)), scores, row)


def _averaged(loss: np.ndarray, slope: np.ndarray, scores: np.ndarray, row: np.ndarray) -> Loss:
    """The mean loss over rows by weight [N], and its gradient [M]."""
    return float(row @ loss.sum(axis=1)), np.einsum("nk,nmk->m", row[:, None] * slope, scores)


@dataclass(frozen=True)
class OptunaTrials:
    """``trials`` of Optuna's sampler."""

    trials: int = 100

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError("trials is at least 1")


class SimplexOptuna(Weighted):
    """Weights searched by Optuna (TPE) for the metric itself; equal weights are tried first.

    Each member's share is ``-log u`` with u uniform, normalised: flat over the simplex.
    """

    name = "simplex_optuna"
    title = "weights searched by Optuna"
    source = "the product's own; the search that bird_domain_tuning's weights would need"
    Settings = OptunaTrials

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from orchestrator.stacking.learners.searching import best_by_optuna

        names = [f"u{m}" for m in range(members.scores.shape[1])]

        def worth(values: dict[str, float]) -> float:
            w = _from_uniform(values, names)
            return targets.worth(np.einsum("nmk,m->nk", members.scores, w))

        bounds = dict.fromkeys(names, (1e-6, 1 - 1e-6))
        first = dict.fromkeys(names, float(np.exp(-1)))
        self.w = _from_uniform(best_by_optuna(worth, bounds, first, self.settings.trials, seed),
                               names)  # fmt: skip


def _from_uniform(values: dict[str, float], names: list[str]) -> np.ndarray:
    share = -np.log([values[name] for name in names])
    w: np.ndarray = share / share.sum()
    return w


@dataclass(frozen=True)
class FoldDraws(Draws):
    """``given``: or else the place of each fold's one member, as a paper chose it by hand.

    ``whole``: each fold takes the one member that is best on its held-out rows.
    """

    given: tuple[int, ...] = ()
    whole: bool = False


class FoldWeights(Weighted):
    """Weights for each fold, fitted on its own held-out rows; then the mean over folds.

    A row that a fold held out, and what the fold's models predict, are weighted by its weights;
    what refits predict by the mean weights; folds are averaged arithmetically. Two members: a grid
    of 41 values (the paper's code); more: Dirichlet draws. Of equals the first is kept.
    """

    name = "fold_weights"
    title = "weights of each fold"
    source = "mask_breathing_resnet (mask_sys5, breath_sys5; mask_sys2, 4, whole; 3, given)"
    uses_folds = True
    Settings = FoldDraws

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.by_fold = np.zeros((0, 0))
        self.folds: tuple[int, ...] = ()

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        if self.settings.given:
            self._take(members.scores.shape[1])
            return
        members = self._seen(members)
        found, self.folds = [], tuple(np.unique(targets.folds).tolist())
        for fold in self.folds:
            inside = targets.folds == fold
            found.append(self._fold(members.rows(inside), targets.rows(inside), seed))
        self.by_fold = np.stack(found)
        self.w = self.by_fold.mean(axis=0)

    def _take(self, count: int) -> None:
        given = self.settings.given
        if not all(0 <= place < count for place in given):
            raise CannotFit(f"given names a member's place, 0 .. {count - 1}, for each fold.")
        self.folds, self.by_fold = tuple(range(len(given))), np.eye(count)[list(given)]
        self.w = self.by_fold.mean(axis=0)

    def _fold(self, members: Members, targets: Targets, seed: int) -> np.ndarray:
        if self.settings.whole:
            return best_of(np.eye(members.scores.shape[1]), members, targets)
        if members.scores.shape[1] == 2:
            first = np.linspace(0, 1, 41)
            return best_of(np.stack([first, 1 - first], axis=1), members, targets)
        return best_draw(members, targets, self.settings, seed)

    def predict(self, members: Members) -> np.ndarray:
        of_folds = members.of_folds
        if of_folds is not None:
            fused = [np.einsum("nmk,m->nk", self._seen(one).scores, self._of(fold))
                     for fold, one in enumerate(of_folds)]  # fmt: skip
            mean: np.ndarray = np.mean(fused, axis=0)
            return mean
        if members.fold is None:
            return super().predict(members)
        by_clip = np.stack([self._of(int(fold)) for fold in members.fold])
        scores, by_row = self._seen(members).scores, members.of_rows(by_clip)
        rows: np.ndarray = np.einsum("nmk,nm->nk", scores, by_row)
        return rows

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        if not members.all_have_frames():
            return None
        if members.of_folds is not None:
            each = [self._clips(one, [self._of(f)] * len(one.scores))
                    for f, one in enumerate(members.of_folds)]  # fmt: skip
            return tuple(np.mean(clip, axis=0) for clip in zip(*each, strict=True))
        if members.fold is None:
            return super().fused_frames(members)
        return tuple(self._clips(members, [self._of(int(fold)) for fold in members.fold]))

    @staticmethod
    def _clips(members: Members, weights: list[np.ndarray]) -> list[np.ndarray]:
        """Each clip's frames [T, K] under its weights [M]."""
        aligned, _ = members.aligned_frames()
        return [np.einsum("tmk,m->tk", clip, w) for clip, w in zip(aligned, weights, strict=True)]

    def _of(self, fold: int) -> np.ndarray:
        """A fold's weights [M]; of one that had no row to fit on the mean."""
        return self.by_fold[self.folds.index(fold)] if fold in self.folds else self.w

    def state(self) -> dict[str, Any]:
        return {"by_fold": self.by_fold.tolist(), "folds": list(self.folds)}

    def restore(self, state: dict[str, Any]) -> None:
        self.by_fold, self.folds = np.array(state["by_fold"]), tuple(state["folds"])
        self.w = self.by_fold.mean(axis=0)


LEARNERS: tuple[type[Learner], ...] = (Dirichlet, Simplex, SimplexOptuna, FoldWeights)
