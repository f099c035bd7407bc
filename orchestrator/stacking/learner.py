"""What a meta-learner is and what it sees: the contract of every module of this folder.

A learner sees members' predictions (:class:`Members`) and, when it is fitted, the truth of the same
rows (:class:`Targets`); never a network, a run directory or a sound.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orchestrator.members.seen import Kind, Members, Snapshots, Targets
from orchestrator.runs.files import write_json
from orchestrator.runs.learner_dir import LearnerDir
from systems import config as configs
from systems.data.dataset import Event, LabelKind
from systems.postprocessing.decoding import Decoding, decode


@dataclass(frozen=True)
class NoSettings:
    """A learner without settings."""


class Learner(ABC):
    """A meta-learner over members. A subclass states, as class variables:

    ``name``: what ``--stack`` calls it; ``title``: in words; ``source``: the paper (section) it
    comes from; ``takes``: the kinds of predictions it needs, ``uses``: those it uses where they are
    there; ``labels``: the kinds of labels that it can be fitted on; ``standard``: whether it is in
    ``--stack standard``; ``general``: whether it is in ``all``, for it needs no paper's settings;
    ``pointwise``: whether a row's result depends on that row's scores alone, so that it fuses
    frames too; ``one_model``: whether what it takes means something within one trained model alone
    (embeddings), so that each fold's rows need a learner of their own; ``uses_folds``: whether it
    asks which fold held a row out; ``betters_one``: what of it can better a single member too, in
    words (thresholds, calibration), so that its gain is not of fusing alone; nothing of one that
    leaves a member, and copies of one, as it is; ``turns``: whether it may turn a member around, to
    say more where that says less; ``judged_by``: the metric of a learner that decides events, else
    the run's; ``Settings``: a frozen dataclass whose defaults are the paper's.

    Nothing heavy is imported before ``fit`` or ``predict``: plans name learners in every process.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str] = "the product's own"
    takes: ClassVar[tuple[Kind, ...]] = ("clip_scores",)
    uses: ClassVar[tuple[Kind, ...]] = ()
    labels: ClassVar[tuple[LabelKind, ...]] = ("tags", "class", "events")
    standard: ClassVar[bool] = False
    general: ClassVar[bool] = True
    pointwise: ClassVar[bool] = False
    one_model: ClassVar[bool] = False
    uses_folds: ClassVar[bool] = False
    betters_one: str = ""
    turns: ClassVar[bool] = False
    judged_by: ClassVar[str | None] = None
    Settings: ClassVar[type[Any]] = NoSettings

    def __init__(self, settings: Any = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    @abstractmethod
    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        """Fit on rows that no member saw in its training. The same seed gives the same learner."""

    @abstractmethod
    def predict(self, members: Members) -> np.ndarray:
        """Fused clip scores [N, K] in [0, 1]: tags are decided above 0.5, a class by the largest.

        (Of a regression its values.) No row may depend on which other rows are predicted.
        """

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        """Timed events of each clip; ``None`` where the learner says nothing about time.

        Of a pointwise learner: its fused frames, decided at 0.5. Where some members give frames and
        others none, no frames can be fused: then they are those of the first member that tells of
        any, of the classes that the fused tags hold for present.
        """
        told = members.with_events()
        if self.pointwise and told and not members.all_have_frames():
            return members.gated_events(told[0], self.predict(members))
        fused = self.fused_frames(members)
        if fused is None or not members.durations:
            return None
        hop, plain = min(members.frame_hops), Decoding.plain(len(members.classes))
        return tuple(
            decode(scores, plain, members.classes, hop, seconds, members.frame_start)
            for scores, seconds in zip(fused, members.durations, strict=True)
        )

    def sees(self, members: Members) -> Members:
        """The members that it combines: all, but for a choice of them."""
        return members

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...] | None:
        """Fused frame scores, N arrays [T, K] at the finest hop; ``None`` where it fuses none."""
        if not self.pointwise or not members.all_have_frames():
            return None
        aligned, _ = members.aligned_frames()
        lengths = np.cumsum([len(clip) for clip in aligned])[:-1]
        rows = np.concatenate(aligned)
        ids = tuple(map(str, range(len(rows))))
        fused = self.predict(Members(members.names, ids, members.classes, rows))
        return tuple(np.split(fused, lengths))

    def snapshots(self) -> Snapshots:
        """The epochs that a fitted snapshot ensemble predicts with."""
        return {}

    def weights(self) -> dict[str, Any] | None:
        """What the learner thinks of each member, where that has a meaning: ``members`` [M]."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was fitted, as JSON; larger parts go through :meth:`save_parts`."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""

    def save_parts(self, folder: Path) -> None:
        """Write what is no JSON: safetensors, XGBoost's own format, skops. Never a pickle."""

    def load_parts(self, folder: Path) -> None:
        """Read what :meth:`save_parts` wrote; nothing foreign is unpickled."""

    def parameters(self) -> dict[str, Any]:
        """The settings, flat; those that only a paper gives are left out where none are given."""
        return {key: v for key, v in configs.flatten(self.settings).items() if v != ()}

    def described(self) -> dict[str, Any]:
        """Name, settings and what was fitted, as JSON: all but its parts."""
        settings = json.loads(configs.to_json(self.settings))
        return {"name": self.name, "settings": settings, "state": self.state()}

    def save(self, folder: Path) -> None:
        """Write the learner to a folder; ``learner.json`` comes last: where it is, all is."""
        folder.mkdir(parents=True, exist_ok=True)
        self.save_parts(folder)
        write_json(LearnerDir(folder).learner, self.described())
