"""A fusion of fusions: a meta-learner over members some of which are meta-learners themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Snapshots, Targets, answer, joined, per_member
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around, Restore
from systems.data.dataset import Event
from systems.errors import CannotFit


@dataclass(frozen=True)
class Part:
    """A member of a fusion of fusions: one member as it is, or a learner over some, by place."""

    name: str
    places: tuple[int, ...]
    learner: Learner | None = None


class Nested(Around):
    """A learner over parts. It is fitted on what each part says of rows that did not fit it.

    A part that is a learner is cross-fitted inside the rows at hand, then fitted on all of them: so
    a cross-fitting of the whole is a nested one. Sources: mask_panns_mixup (late_fusion_vote),
    bird_domain_tuning (submission).
    """

    kind = "nested"

    def __init__(self, outer: Learner, parts: Sequence[Part]) -> None:
        super().__init__(outer)
        self.parts = tuple(parts)
        learners = [part.learner for part in parts if part.learner is not None]
        self.says(
            takes=tuple(sorted({kind for one in (outer, *learners) for kind in one.takes})),
            uses=tuple(sorted({kind for one in (outer, *learners) for kind in one.uses})),
            pointwise=all(one.pointwise for one in (outer, *learners)),
            one_model=any(one.one_model for one in (outer, *learners)),
            betters_one=next(filter(None, (one.betters_one for one in (outer, *learners))), ""),
        )

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Fit the parts, then the outer learner on what they say of clips.

        Raises:
            CannotFit: the outer one is fitted on more than clip scores, or a part cannot be fitted.
        """
        if {"frame_scores", "events"} & set(self.inner.takes):
            raise CannotFit(f"over fusions, which speak of clips, {self.name} cannot be fitted: it "
                            "takes the members' frames.")  # fmt: skip
        columns = []
        for part in self.parts:
            if part.learner is None:
                columns.append(members.scores[:, part.places[0]])
            else:
                columns.append(self._unseen(part, members, targets, seed))
        seen = self._of(members, np.stack(columns, axis=1), fitting=True)
        self.inner.fit(seen, targets, seed)

    def _unseen(self, part: Part, members: Members, targets: Targets, seed: int) -> np.ndarray:
        """A part's scores of rows that did not fit it [N, K]; then it is fitted on all."""
        learner = part.learner
        assert learner is not None

        def fitted(some: Members, truth: Targets) -> Learner:
            learner.fit(some, truth, seed)
            return learner

        ours = members.only(part.places)
        lacking = set(learner.takes) - ours.kinds()
        if lacking:
            raise CannotFit(
                f"{part.name} takes {', '.join(sorted(lacking))}, which its members do not give."
            )
        crossed = cross_fitted(fitted, ours, targets, seed)
        fitted(ours, targets)
        return answer(crossed, targets.kind)

    def _of(self, members: Members, scores: np.ndarray, *, fitting: bool = False) -> Members:
        """What the outer learner sees: the parts as members, with their scores [N, P, K]."""
        frames = None
        if self.pointwise and members.frames is not None and not fitting:
            frames = per_member(_frames(part, members) for part in self.parts)
        of_folds = members.of_folds
        return replace(
            members,
            names=tuple(part.name for part in self.parts),
            scores=scores,
            frames=frames,
            frame_hops=members.frame_hops[:1] * len(self.parts) if frames is not None else (),
            frame_starts=members.frame_starts[:1] * len(self.parts) if frames is not None else (),
            events=None, embeddings=None, frame_embeddings=None, epochs=None,
            of_folds=None if of_folds is None else tuple(self._seen(one) for one in of_folds),
        )  # fmt: skip

    def _seen(self, members: Members) -> Members:
        level = members.at_one_hop()
        said = [
            level.scores[:, part.places[0]] if part.learner is None
            else part.learner.predict(level.only(part.places))
            for part in self.parts
        ]  # fmt: skip
        return self._of(level, np.stack(said, axis=1))

    def predict(self, members: Members) -> np.ndarray:
        return self.inner.predict(self._seen(members))

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        return self.inner.events(self._seen(members))

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        return self.inner.fused_frames(self._seen(members))

    def sees(self, members: Members) -> Members:
        return members

    def snapshots(self) -> Snapshots:
        return joined(
            {(part.places[place], fold): epochs
             for (place, fold), epochs in part.learner.snapshots().items()}
            for part in self.parts if part.learner is not None
        )  # fmt: skip

    def weights(self) -> dict[str, Any] | None:
        """None: the outer learner's weights are of parts, not of members."""
        return None

    @classmethod
    def rebuilt(cls, state: dict[str, Any], inner: Restore, described: Restore) -> Nested:
        parts = [
            Part(p["name"], tuple(p["places"]), described(p["learner"]) if p["learner"] else None)
            for p in state["parts"]
        ]
        return cls(inner(state["inner"]), parts)

    def state(self) -> dict[str, Any]:
        parts = [
            {"name": part.name, "places": list(part.places), "learner": None
             if part.learner is None else part.learner.described()}
            for part in self.parts
        ]  # fmt: skip
        return {**super().state(), "parts": parts}

    def save_parts(self, folder: Path) -> None:
        super().save_parts(folder)
        for number, part in enumerate(self.parts):
            if part.learner is not None:
                (folder / f"part{number}").mkdir(exist_ok=True)
                part.learner.save_parts(folder / f"part{number}")

    def load_parts(self, folder: Path) -> None:
        super().load_parts(folder)
        for number, part in enumerate(self.parts):
            if part.learner is not None:
                part.learner.load_parts(folder / f"part{number}")


def _frames(part: Part, members: Members) -> tuple[np.ndarray, ...] | None:
    """A part's frame scores, if it gives any, of members whose frames are at one hop."""
    assert members.frames is not None
    if part.learner is None:
        return members.frames[part.places[0]]
    return part.learner.fused_frames(members.only(part.places))
