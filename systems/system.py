"""What a system is: something that trains on data, predicts, saves and loads.

A paper module composes one, usually a :class:`systems.network_system.NetworkSystem`; nothing here
knows a paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from systems.data.changed import Change
from systems.data.dataset import AUDIO
from systems.data.prepare import Prepare, Sound
from systems.data.store import Channels

if TYPE_CHECKING:
    from torch import nn

    from systems.context import Context
    from systems.data.dataset import Event
    from systems.data.splits import TrainingData
    from systems.predictions import Predictions
    from systems.training.history import History
    from systems.training.probe import Probe

LAST = "last"  # what ``selects`` says where no epoch is chosen: the last one predicts
Sounds = Mapping[str, Sound]  # by the names of a system's inputs


class Column(NamedTuple):
    """A free column of the clips, and values of it that some clip must have."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """Sound that a system takes: the roles it needs, at what rate in Hz, mono or stereo, and what
    is left of each clip. ``features``: settings of the front end (or of several by name) whose
    features are stored beside the sound. ``track``: which of a clip's tracks, as its source calls
    them; ``audio`` is the clip itself. ``change``: what takes the place of the sound before its
    preparation; ``beside``: changes of which a derived clip each lies beside it. ``column``: of the
    clips, whose values a front end asks for.

    Raises:
        ValueError: features of derived clips or by a column, which are not stored.
    """

    roles: tuple[str, ...]
    rate: int
    prepare: Prepare | None = None
    channels: Channels = "mono"
    features: Any = None
    track: str = AUDIO
    change: Change | None = None
    beside: tuple[Change, ...] = ()
    column: str = ""

    def __post_init__(self) -> None:
        if self.features is not None and (self.beside or self.column):
            raise ValueError("features of derived clips, or by a column, are not stored")

    @property
    def stored(self) -> int:
        """How often the sound of a clip is stored: as it is, and under each change."""
        return 1 + (self.change is not None) + len(self.beside)

    @property
    def key(self) -> str:
        """What tells inputs apart: systems that agree in it share one."""
        parts: tuple[Any, ...] = (
            self.change, self.prepare, self.features, *self.beside, self.column
        )  # fmt: skip
        stereo = " stereo" if self.channels == "stereo" else ""
        of = "" if self.track == AUDIO else f" of {self.track}"
        return ", ".join([f"{self.rate} Hz{stereo}{of}", *(str(one) for one in parts if one)])


def by_key(inputs: Iterable[Input]) -> dict[str, Input]:
    """The distinct inputs; those that agree in all but their roles are one, of the roles of all."""
    found: dict[str, Input] = {}
    for one in inputs:
        before = found[one.key].roles if one.key in found else ()
        found[one.key] = replace(one, roles=tuple(dict.fromkeys((*before, *one.roles))))
    return found


class Fitted(Protocol):
    """A trained system.

    ``rate`` in Hz; ``channels``: mono or stereo; ``frame_hop`` in seconds, ``None`` of a system
    that says nothing about time; ``frame_start``: s at which the first frame begins to stand for
    the sound. ``tracks``: the tracks that it hears in place of a clip's own sound, by name.
    """

    history: History

    @property
    def tracks(self) -> Mapping[str, Input]: ...

    @property
    def rate(self) -> int: ...

    @property
    def channels(self) -> Channels: ...

    @property
    def frame_hop(self) -> float | None: ...

    @property
    def frame_start(self) -> float: ...

    def score(
        self, waveforms: Sequence[Any], context: Context
    ) -> tuple[np.ndarray | None, Sequence[np.ndarray] | None]:
        """Clip scores [B, K] of waveforms [S] (stereo: [2, S]) of any length, and their frames
        [T, K], if it gives any. Of one that hears tracks they are given by name."""
        ...

    def timed(
        self, frame_scores: np.ndarray, duration: float
    ) -> tuple[np.ndarray, tuple[Event, ...] | None]:
        """Frame scores [T, K] of a clip up to its end, and the events that they hold.

        Only where there is a ``frame_hop``. ``None``: frames are windows' scores and hold no event.
        """
        ...

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions: ...

    def adapt(
        self, settings: Any, clip_ids: Sequence[str], sounds: Sounds, context: Context
    ) -> Fitted:
        """The same system with its decision adapted, as settings of its own say, on the sound of
        some clips, without labels."""
        ...

    def decision(self) -> dict[str, Any] | None:
        """Thresholds and filters by class, and what a reader should know of how they came about."""
        ...

    def with_decision(self, decision: dict[str, Any] | None) -> Fitted:
        """The same system with a decision that :meth:`decision` gave; ``None``: nothing adapted."""
        ...

    def save(self, folder: Path) -> None: ...


class Undecided:
    """What a fitted system answers that says nothing about time and adapts no decision."""

    @property
    def tracks(self) -> Mapping[str, Input]:
        return {}

    def timed(
        self, frame_scores: np.ndarray, duration: float
    ) -> tuple[np.ndarray, tuple[Event, ...] | None]:
        return frame_scores, None

    def adapt(
        self, settings: Any, clip_ids: Sequence[str], sounds: Sounds, context: Context
    ) -> Self:
        return self

    def decision(self) -> None:
        """Nothing is adapted."""

    def with_decision(self, decision: dict[str, Any] | None) -> Self:
        return self


class System(Protocol):
    """A configured system, not yet trained.

    ``selects``: what its epochs are chosen by, as its metrics call it; ``None``: by the data's
    metric; :data:`LAST`: none is, the last ones are kept. ``keeps``: how many of them predict.
    """

    @property
    def selects(self) -> str | None: ...

    @property
    def keeps(self) -> int: ...

    @property
    def least_seconds(self) -> float:
        """s of sound that a frame takes at least; 0 where any will do."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """Free columns of the clips that training takes them by."""
        ...

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Why clips cannot be heard of which the longest to train on, and the shortest of all, have
        such lengths in s; or an empty text."""
        ...

    def inputs(self) -> dict[str, Input]: ...

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> Fitted: ...

    def load(self, folder: Path) -> Fitted: ...

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> Probe | None:
        """What one training step costs on this device; ``None`` without steps."""
        ...

    def network(self, classes: int) -> nn.Module | None:
        """The bare network for shapes and parameter counts; ``None`` without gradients."""
        ...
