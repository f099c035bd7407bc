"""Clip statistics beside the members' scores, computed once a run and kept in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from systems.data.prepare import Sound
from systems.data.store import to_mono
from systems.frontend.statistics import mfcc_statistics
from systems.predictions import save_arrays


def clip_statistics(path: Path, store: Sound, clip_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The statistics [F] of each clip's MFCC, read from ``path`` where they are there."""
    if not path.exists():
        rows = np.stack(
            [mfcc_statistics(np.asarray(to_mono(store[i])), store.rate) for i in clip_ids]
        )
        save_arrays(path, {"statistics": rows}, list(clip_ids))
    with np.load(path, allow_pickle=False) as stored:
        rows = stored["statistics"]
    return dict(zip(clip_ids, rows, strict=True))
