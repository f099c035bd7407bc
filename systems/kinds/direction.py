"""The direction of a source: degrees of an angle, answered by a score of each template's direction.

Classes are the templates, called by their angles in degrees. What is true of a clip is how far each
of them lies from its direction, and from the mirror image of that behind or before the listener.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from systems.data.dataset import Labels
from systems.kinds.kind import Constant, Kind, Truth, largest


def wrapped(degrees: np.ndarray) -> np.ndarray:
    """Differences of angles in degrees, each from -180 to below 180."""
    found: np.ndarray = (degrees + 180.0) % 360.0 - 180.0
    return found


def angles(classes: Sequence[str]) -> np.ndarray:
    """The angles [K] that classes are called by, in degrees."""
    return np.array([float(name) for name in classes])


def deviations(labels: Labels, clip_ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Each template's angle less that of the clip, and less that of its mirror image, in degrees
    from -180 to below 180: [N, K, 2]."""
    true = np.array([float(labels.values[clip_id]) for clip_id in clip_ids])
    both = np.stack([true, 180.0 - true], axis=-1)[:, None]  # straight ahead is 0, behind is 180
    return wrapped(angles(classes)[None, :, None] - both)


def answered(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """The deviations [N, 2] of the template with the largest score."""
    found: np.ndarray = truth.values[np.arange(len(scores)), np.argmax(scores, axis=1)]
    return found


def nearness(truth: Truth, scores: np.ndarray) -> np.ndarray:
    """The angular error of each clip [N], negative."""
    near: np.ndarray = -np.abs(answered(truth, scores)[:, 0])
    return near


def nearest(values: np.ndarray) -> np.ndarray:
    """1 of the template that lies nearest to a clip's direction [N, K], of deviations [N, K, 2]."""
    return largest(-np.abs(values[..., 0])).astype(float)


def unheard(truth: Truth) -> tuple[Constant, ...]:
    """A direction at random, or that which lies nearest to all of the training clips."""
    middle = np.abs(truth.values).mean(axis=0, keepdims=True)
    same = Constant("always the same direction", nearest(middle)[0])
    return Constant("a random direction", None), same


KIND = Kind(
    "direction",
    answers=("ranking",),
    matrix=deviations,
    metrics=("angular_error", "front_back"),
    closeness=nearness,
    words="direction",
    constants=unheard,
    decide=largest,
    ranks=True,
    ideal=nearest,
    told=("degrees_off", lambda near: -near),
)
