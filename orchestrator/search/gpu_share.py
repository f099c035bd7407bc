"""The share of a GPU that a trial needs, from what trials have taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

CONTEXT = 600 * 2**20  # bytes of a process beside PyTorch's tensors: CUDA's context and kernels
MARGIN = 1.15  # other values of a search take more than those that were measured
MOST = 16  # trials that share a GPU: more wait for its cores


def share_in_words(memory: Sequence[Sequence[int]], gpus: float) -> str | None:
    """What to ask for so that more trials share a GPU; ``None`` where as many do already.

    Args:
        memory: of trials, bytes that PyTorch held at most, and their GPU's.
        gpus: what a trial has been given of a GPU.
    """
    if not memory or not 0 < gpus <= 1:
        return None
    peak, total = max(most for most, _ in memory), min(of for _, of in memory)
    fit = min(MOST, int(total // (MARGIN * peak + CONTEXT)))
    if fit <= int(1 / gpus + 1e-9):
        return None
    share = math.floor(100 / fit) / 100
    return (
        f"a trial took {peak / 2**30:.1f} GiB of a GPU's {total / 2**30:.0f} GiB at most: "
        f"--gpus-per-trial {share:g} would let {fit} trials share one"
    )
