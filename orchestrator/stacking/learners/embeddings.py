"""Embeddings side by side, of the members that give any."""

from __future__ import annotations

import numpy as np

from orchestrator.members.seen import Members
from systems.errors import CannotFit


def side_by_side(members: Members) -> np.ndarray:
    """All members' clip embeddings [N, ΣE]. Raises CannotFit where there are none."""
    if members.embeddings is None:
        raise CannotFit("this meta-learner needs the members' clip embeddings: there are none.")
    return np.hstack([one for one in members.embeddings if one is not None])


def frames_side_by_side(members: Members) -> list[np.ndarray]:
    """All members' frame embeddings, N arrays [T, ΣE], at the coarsest of their rates.

    Raises:
        CannotFit: there are none.
    """
    if members.frame_embeddings is None:
        raise CannotFit("this meta-learner needs the members' frame embeddings: there are none.")
    clips = zip(*(one for one in members.frame_embeddings if one is not None), strict=True)
    return [np.hstack([at_length(one, min(map(len, clip))) for one in clip]) for clip in clips]


def at_length(frames: np.ndarray, length: int) -> np.ndarray:
    """Frames [T, ...] as ``length`` of them: each is the one that begins at its place or before."""
    return frames[(np.arange(length) * len(frames)) // length]
