"""Settings of the search, frozen in the plan: more trials later change none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplerSettings:
    """Arguments of the sampler, frozen in the plan: more trials later change none of them.

    ``kind``: Optuna's ``tpe``, or the ``evolution`` (:mod:`search_spaces.evolution`), of whose
    population ``limit`` is the limit.
    """

    seed: int
    n_startup_trials: int
    kind: Literal["tpe", "evolution"] = "tpe"
    limit: int = 0


@dataclass(frozen=True)
class HalvingSettings:
    """Asynchronous successive halving (Li et al. 2020).

    At the steps ``min_step * reduction_factor ** k`` a trial goes on if its best value so far is
    among the best ``1 / reduction_factor`` (rounded up) of all values reported at that step.
    """

    min_step: int
    reduction_factor: int = 3

    def is_rung(self, step: int) -> bool:
        rung = self.min_step
        while rung < step:
            rung *= self.reduction_factor
        return rung == step
