"""Metrics of a direction on a circle, such as the polar angle on the median plane."""

from __future__ import annotations

import numpy as np

from systems.kinds import Truth
from systems.kinds.direction import answered, wrapped

UP_AND_DOWN = 15.0  # degrees about straight up or down, where front and back are not told apart


def angular_errors(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """Per clip (degrees between the answer and the direction, 1): [N, 2]."""
    errors = np.abs(answered(truth, scores)[:, 0])
    return np.stack([errors, np.ones(len(errors))], axis=1)


def reversals(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """Per clip (1 where the answer lies nearer to the direction's mirror image behind or before the
    listener than to itself, 1): [N, 2]; zeros where the direction is nearly up or down."""
    off, mirrored = answered(truth, scores).T
    apart = np.abs(wrapped(off - mirrored))  # twice the way to straight up or down
    counts = apart >= 2 * UP_AND_DOWN
    return np.stack([counts & (np.abs(mirrored) < np.abs(off)), counts], axis=1).astype(float)
