"""What the embedded data sets share: sound that is rendered from a clip's name, without files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from systems.data.synthetic_sounds import RATE, VERSION
from systems.errors import UserError

LAYOUT = "nothing: the set is embedded and takes no folder"


@dataclass(frozen=True)
class Rendering:
    """The sound of the clips: each rendered from its id alone, the same whenever it is read.

    ``render``: a function of a module, clip id -> samples [S] at 16 kHz.
    """

    clip_ids: tuple[str, ...]
    render: Callable[[str], np.ndarray]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Return samples [1, S] as float32 in -1..1 and the rate in Hz."""
        return self.render(clip_id)[None], RATE

    def identity(self) -> Iterable[str]:
        for clip_id in self.clip_ids:
            yield f"{clip_id}|version {VERSION}"

    def where(self, clip_id: str) -> str:
        return clip_id


def takes_no_folder(name: str, folder: str | None) -> None:
    """Raises UserError where a folder is given: nothing of an embedded set lies on disk."""
    if folder is not None:
        raise UserError(f"{name} is embedded and takes no folder: leave out --data {folder}.")
