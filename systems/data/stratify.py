"""Groups of clips dealt to folds so that classes spread evenly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from systems.errors import UserError

FOLDS = 5


def cross_fitting_folds(
    targets: np.ndarray, groups: Sequence[str], seed: int, most: int = FOLDS
) -> np.ndarray:
    """A fold [N] of each row for cross-fitting: ``most`` folds, or as many as there are groups.

    Rows of a single group are dealt out one by one: nothing else can be fitted on them.
    """
    found = len(set(groups))
    units = groups if found > 1 else [str(row) for row in range(len(groups))]
    return stratified_groups(targets, units, min(most, len(set(units))), seed)


def too_few(groups: int, folds: int) -> str:
    """Why so few groups make no folds."""
    return (
        f"{groups} groups of clips cannot make {folds} disjoint folds: clips of one speaker, place "
        "or recording are never split. Take data with more of these, or with a validation part or "
        "folds of its own (docs/data.md)."
    )


def stratified_groups(
    targets: np.ndarray, groups: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """Assign each clip a fold [N] so that groups stay whole and classes spread evenly.

    Iterative stratification (Sechidis et al. 2011) over groups: the group with the rarest class
    still to place goes to the fold that lacks that class most. Written here because scikit-learn's
    StratifiedGroupKFold takes one class a clip, not several.

    Raises:
        UserError: fewer groups than folds.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < folds:
        raise UserError(too_few(len(names), folds))
    row = {name: r for r, name in enumerate(names)}
    unit = np.array([row[group] for group in groups])
    counts = _by_group(targets, unit, len(names))
    wanted = np.tile(counts.sum(0) / folds, (folds, 1))
    generator = np.random.default_rng([seed, folds])
    order = generator.permutation(len(names))
    by_class = counts[order].tocsc()
    queues = [_most_first(by_class, k, order) for k in range(counts.shape[1])]
    left = counts.sum(0)[:-1]
    fold_of = np.full(len(names), -1)
    for _ in range(len(names)):
        there = left > 1e-9  # what rounding leaves of shares is nothing
        rarest = int(np.argmin(np.where(there, left, np.inf))) if there.any() else -1
        group = next(g for g in queues[rarest] if fold_of[g] < 0)
        need = wanted[:, rarest]
        best = np.flatnonzero(need >= need.max() - 1e-9)
        fold = best[int(np.argmax(wanted[best, -1]))]
        fold_of[group] = fold
        own = slice(counts.indptr[group], counts.indptr[group + 1])
        wanted[fold, counts.indices[own]] -= counts.data[own]
        left[counts.indices[own][:-1]] -= counts.data[own][:-1]
    return fold_of[unit]


def _by_group(targets: np.ndarray, unit: np.ndarray, groups: int) -> sparse.csr_array:
    """How much of each class a group has, and in the last column how many clips [G, K + 1].

    Sparse: of millions of clips each has a few of hundreds of classes.
    """
    clip, k = np.nonzero(targets)
    every = np.arange(len(targets))
    values = np.concatenate([targets[clip, k], np.ones(len(targets))]).astype(float)
    columns = np.concatenate([k, np.full(len(targets), targets.shape[1])])
    rows = unit[np.concatenate([clip, every])]
    counts = sparse.csr_array((values, (rows, columns)), (groups, targets.shape[1] + 1))
    counts.sort_indices()
    return counts


def _most_first(by_class: sparse.csc_array, k: int, order: np.ndarray) -> Iterator[int]:
    """The groups that have a class, by how much of it; of equals those that are drawn first."""
    own = slice(by_class.indptr[k], by_class.indptr[k + 1])
    drawn, much = by_class.indices[own], by_class.data[own]
    return iter(order[drawn[np.lexsort((drawn, -much))]].tolist())
