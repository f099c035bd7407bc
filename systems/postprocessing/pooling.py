"""Means of scores over an axis of models, and weights that a paper gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from systems.errors import CannotFit

Mean = Literal["arithmetic", "geometric"]
SMALLEST = 1e-7  # of a probability whose logarithm is taken


def mean_of(
    scores: np.ndarray, mean: Mean, exclusive: bool, weights: np.ndarray | None = None
) -> np.ndarray:
    """The mean over the first axis of scores [M, ..., K].

    Geometric: ``prod_m p_m^(w_m)``, over classes that exclude each other renormalised; of tags,
    each class against its absence: the sigmoid of the mean log odds, so that 0.5 decides.

    Args:
        scores: [M, ..., K] of M models.
        mean: which.
        exclusive: whether the classes exclude each other.
        weights: [M] that sum to 1; ``None`` for equal ones.
    """
    w = np.full(len(scores), 1 / len(scores)) if weights is None else weights
    if mean == "arithmetic":
        return np.einsum("m...,m->...", scores, w)
    p = np.clip(scores, SMALLEST, 1 - SMALLEST)
    if exclusive:
        return normalised(np.exp(np.einsum("m...,m->...", np.log(p), w)))
    from scipy.special import expit, logit  # here: plans name means in every process

    odds: np.ndarray = expit(np.einsum("m...,m->...", logit(p), w))
    return odds


def normalised(scores: np.ndarray) -> np.ndarray:
    """Scores [..., K] that sum to 1 over the classes."""
    return scores / np.maximum(scores.sum(axis=-1, keepdims=True), 1e-12)


def checked(weights: Sequence[float]) -> None:
    """Raise ValueError where given weights are none: negative ones, or nothing but zeros."""
    if any(not 0 <= w < np.inf for w in weights) or (weights and not any(weights)):
        raise ValueError("weights are 0 or more, and not all 0")


def given_weights(weights: Sequence[float], members: int) -> np.ndarray:
    """Given weights [M] as shares; equal ones where none are given.

    Raises:
        CannotFit: they are of another number of members.
    """
    if not weights:
        return np.full(members, 1 / members)
    if len(weights) != members:
        raise CannotFit(f"{len(weights)} weights are given, and there are {members} members.")
    shares: np.ndarray = np.array(weights, float) / sum(weights)
    return shares
