"""A meta-learner for each fold, fitted on the rows that the fold held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Snapshots, Targets, joined
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.data.dataset import Event
from systems.errors import CannotFit
from systems.postprocessing.pooling import Mean, mean_of


class _NoFrames(Exception):
    """The inner learner fuses no frames of these members."""


def _frames(one: Learner, seen: Members) -> tuple[np.ndarray, ...]:
    frames = one.fused_frames(seen)
    if frames is None:
        raise _NoFrames
    return frames


class PerFold(Around):
    """A learner of each fold over that fold's own models; of unseen clips the mean over folds.

    A row that a fold held out is fused by that fold's learner. Where the folds' models predict
    (``--final fold_mean``, ``fold_geometric``), each learner fuses its own fold's; a refit is fused
    by all folds' learners. Sources: multi_feature_cnn_ensemble (a fusion net a fold, geometric
    mean), mask_breathing_resnet (mask_sys2, 3, 5; breath_sys5), bird_crnn (cv3x5).

    Args:
        made: a fresh inner learner.
        mean: how folds' results are combined.
        folds_predict: whether the final models are the folds' (else a refit).
    """

    kind = "per_fold"

    def __init__(self, made: Callable[[], Learner], mean: Mean, folds_predict: bool) -> None:
        super().__init__(made())
        self.made, self.mean, self.folds_predict = made, mean, folds_predict
        self.by_fold: dict[int, Learner] = {}
        self.exclusive = False

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Fit one learner a fold.

        Raises:
            CannotFit: the learner decides events, which have no mean over folds.
        """
        if self.judged_by is not None:
            raise CannotFit("it decides events, which have no mean over folds.")
        self.exclusive, self.by_fold = targets.exclusive, {}
        for fold in np.unique(targets.folds):
            inside = targets.folds == fold
            self.by_fold[int(fold)] = self.made()
            self.by_fold[int(fold)].fit(members.rows(inside), targets.rows(inside), seed)

    def predict(self, members: Members) -> np.ndarray:
        by_clip = self._each(members, lambda one, seen: seen.by_clip(one.predict(seen)))
        return np.stack(by_clip) if members.lengths is None else np.concatenate(by_clip)

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        return Learner.events(self, members)  # of the fused frames

    def sees(self, members: Members) -> Members:
        return members

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        try:
            return tuple(self._each(members, _frames))
        except _NoFrames:
            return None

    def _each(
        self, members: Members, say: Callable[[Learner, Members], Iterable[np.ndarray]]
    ) -> list[np.ndarray]:
        """For each clip what its fold's learner says, or the mean over folds."""
        if members.of_folds is not None:
            known = [(self.by_fold[f], one) for f, one in enumerate(members.of_folds)
                     if f in self.by_fold]  # fmt: skip
            return self._mean([say(*one) for one in known])
        if members.fold is None:
            return self._mean([say(one, members) for one in self.by_fold.values()])
        out: list[np.ndarray] = [np.zeros(0)] * len(members.clip_ids)
        for fold in np.unique(members.fold):
            where = np.flatnonzero(members.fold == fold)
            seen = members.rows(where)
            # Rows of a fold that gave none to the fit are fused as new clips are.
            ours = [self.by_fold[fold]] if fold in self.by_fold else list(self.by_fold.values())
            for row, value in zip(where, self._mean([say(o, seen) for o in ours]), strict=True):
                out[row] = value
        return out

    def _mean(self, said: Iterable[Iterable[np.ndarray]]) -> list[np.ndarray]:
        return [mean_of(np.stack(one), self.mean, self.exclusive)
                for one in zip(*said, strict=True)]  # fmt: skip

    def snapshots(self) -> Snapshots:
        """Of each fold's training its own epochs; of a refit those of all folds."""
        return joined(
            {(place, fold if self.folds_predict else None): epochs
             for (place, _), epochs in one.snapshots().items()}
            for fold, one in self.by_fold.items()
        )  # fmt: skip

    def weights(self) -> dict[str, Any] | None:
        """The mean over folds."""
        each = [one.weights() for one in self.by_fold.values()]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            return None
        shared = set.intersection(*(set(one) for one in known))
        return {name: np.mean([one[name] for one in known], axis=0).tolist()
                for name in sorted(shared)}  # fmt: skip

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> PerFold:
        first = next(iter(state["per_fold"].values()))
        return cls(lambda: inner(first), state["mean"], state["folds_predict"])

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "per_fold": {str(fold): one.state() for fold, one in self.by_fold.items()},
            "mean": self.mean, "folds_predict": self.folds_predict, "exclusive": self.exclusive,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.exclusive, self.by_fold = state["exclusive"], {}
        for fold, inner in state["per_fold"].items():
            self.by_fold[int(fold)] = self.made()
            self.by_fold[int(fold)].restore(inner)

    def save_parts(self, folder: Path) -> None:
        for fold, one in self.by_fold.items():
            (folder / f"fold{fold}").mkdir(exist_ok=True)
            one.save_parts(folder / f"fold{fold}")

    def load_parts(self, folder: Path) -> None:
        for fold, one in self.by_fold.items():
            one.load_parts(folder / f"fold{fold}")
