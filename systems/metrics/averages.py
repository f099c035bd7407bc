"""The one convention for classes that no scored clip has, of every metric and of the bootstrap.

Such a class has no value (NaN) and is in no mean over classes, however often it is predicted, as
``sed_eval`` and scikit-learn's ``balanced_accuracy_score`` have it; what is said of it counts where
classes are counted together (micro F1). Where no class has a value the mean is 0.
"""

from __future__ import annotations

import numpy as np


def quotients(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values by how much is there, both [..., K]; NaN of a class that nothing has."""
    return np.divide(values, there, out=np.full(np.shape(there), np.nan), where=there > 0)


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """The mean [...] of values [..., K] that are numbers; 0 where none is."""
    there = np.isfinite(values)
    mean: np.ndarray = np.where(there, values, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    return mean
