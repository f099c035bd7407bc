"""Front ends: waveforms [B, S] -> features [B, C, F, T], on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from systems.data.store import Channels


class FrontEnd(Protocol):
    """Settings of a front end. ``rate`` in Hz; ``hop_seconds`` from frame to frame in s.

    ``frame_start``: s at which the first frame begins to stand for the sound. A frame stands for
    what lies nearest to the middle of what it saw: half a hop on either side.
    One may say more: ``channels = "stereo"`` where its waveforms are [B, 2, S], and
    ``stored = True`` where features are slow to make and are kept beside the sound; ``column``, of
    the clips, whose value its module takes beside a waveform; ``taught(data, sounds, context)``, by
    which it is fitted before a training, and ``restored(about)``, as its module's ``about`` says.
    """

    @property
    def rate(self) -> int: ...

    @property
    def hop_seconds(self) -> float: ...

    @property
    def frame_start(self) -> float: ...

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape (C, F, T) of the features of so many samples."""
        ...

    def build(self) -> nn.Module:
        """Waveforms [B, S] -> features [B, C, F, T]."""
        ...


def several(front_end: FrontEnd | Mapping[str, FrontEnd]) -> list[FrontEnd]:
    """One front end, or several by name, as a list."""
    return list(front_end.values()) if isinstance(front_end, Mapping) else [front_end]


def least_seconds(front_end: FrontEnd | Mapping[str, FrontEnd]) -> float:
    """s of sound that a frame takes at least, of each of several."""
    return max(_least_samples(one) / one.rate for one in several(front_end))


def _least_samples(front_end: FrontEnd) -> int:
    low, high = 0, 1
    while front_end.shape(high)[-1] < 1:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if front_end.shape(middle)[-1] < 1 else (low, middle)
    return high


def channels_of(front_end: Any) -> Channels:
    """What sound a front end takes, or several of the same sound."""
    found: set[Channels] = {getattr(one, "channels", "mono") for one in several(front_end)}
    if len(found) > 1:
        raise ValueError("front ends of the same sound take mono or stereo, not both")
    return found.pop()


def is_stored(front_end: Any) -> bool:
    """Whether features are kept beside the sound."""
    return any(getattr(one, "stored", False) for one in several(front_end))


def built(front_end: Any) -> nn.Module:
    """The module of one front end, or of several by name."""
    if isinstance(front_end, Mapping):
        return ByName({name: one.build() for name, one in front_end.items()})
    module: nn.Module = front_end.build()
    return module


class ByName(nn.Module):
    """Several front ends of the same sound: features by name."""

    def __init__(self, front_ends: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.of = nn.ModuleDict(front_ends)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        return {name: front_end(waveforms) for name, front_end in self.of.items()}
