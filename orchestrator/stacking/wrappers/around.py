"""A meta-learner around another: what it does not do itself, the inner one does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orchestrator.members.seen import Members, Snapshots, Targets
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Event

ABOUT = (
    "name", "title", "source", "takes", "uses", "labels", "pointwise", "one_model", "uses_folds",
    "betters_one", "judged_by",
)  # fmt: skip


Restore = Callable[[dict[str, Any]], Learner]  # a state, or a description -> a fresh learner


class Around(Learner):
    """The base of wrappers: name, title, settings and kinds are the inner learner's.

    ``kind``: what its state calls it, by which it is made again.
    """

    kind: ClassVar[str]

    def __init__(self, inner: Learner) -> None:
        super().__init__(inner.settings)
        self.inner = inner
        self.says(**{about: getattr(inner, about) for about in ABOUT})

    def says(self, **about: Any) -> None:
        """Set what a plain learner's class says of itself."""
        for name, value in about.items():
            setattr(self, name, value)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        self.inner.fit(members, targets, seed)

    def predict(self, members: Members) -> np.ndarray:
        return self.inner.predict(members)

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        return self.inner.events(members)

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        return self.inner.fused_frames(members)

    def sees(self, members: Members) -> Members:
        return self.inner.sees(members)

    def snapshots(self) -> Snapshots:
        return self.inner.snapshots()

    def weights(self) -> dict[str, Any] | None:
        return self.inner.weights()

    def parameters(self) -> dict[str, Any]:
        return self.inner.parameters()

    @classmethod
    @abstractmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> Around:
        """A fresh wrapper from its state, for :meth:`restore`.

        ``inner`` makes the learner within from its state, ``described`` another learner, a part
        say, from what :meth:`Learner.described` says of it.
        """

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "inner": self.inner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.inner.restore(state["inner"])

    def save_parts(self, folder: Path) -> None:
        self.inner.save_parts(folder)

    def load_parts(self, folder: Path) -> None:
        self.inner.load_parts(folder)
