"""Groups of clips dealt to folds so that classes spread evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    counts = np.zeros((len(names), targets.shape[1] + 1))
    for target, group in zip(targets, groups, strict=True):
        counts[row[group], :-1] += target
        counts[row[group], -1] += 1  # the last column balances the number of clips
    wanted = np.tile(counts.sum(0) / folds, (folds, 1))
    generator = np.random.default_rng([seed, folds])
    order = generator.permutation(len(names))
    # For each column the groups by how much they have of it, of equals those that are drawn first.
    queues = [iter(order[np.argsort(-column[order], kind="stable")]) for column in counts.T]
    left = counts[:, :-1].sum(0)
    fold_of = np.full(len(names), -1)
    for _ in range(len(names)):
        rarest = int(np.argmin(np.where(left > 0, left, np.inf))) if left.any() else -1
        group = next(g for g in queues[rarest] if fold_of[g] < 0)
        need = wanted[:, rarest]
        best = np.flatnonzero(need >= need.max() - 1e-9)
        fold = best[int(np.argmax(wanted[best, -1]))]
        fold_of[group] = fold
        wanted[fold] -= counts[group]
        left -= counts[group, :-1]
    return np.array([fold_of[row[group]] for group in groups])
