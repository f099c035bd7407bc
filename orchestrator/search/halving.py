"""The pruner."""

from __future__ import annotations

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from orchestrator.plan.search import HalvingSettings


class Halving(BasePruner):
    """A pure function of all trials' intermediate values.

    Optuna's own SuccessiveHalvingPruner writes its rung before it decides, and so answers
    otherwise when asked again after a kill.
    """

    def __init__(self, settings: HalvingSettings) -> None:
        self.settings = settings

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or not self.settings.is_rung(step):
            return False
        sign = 1 if study.direction.name == "MAXIMIZE" else -1
        values = [
            sign * other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if step in other.intermediate_values
        ]
        kept = -(-len(values) // self.settings.reduction_factor)
        better = sum(value > sign * trial.intermediate_values[step] for value in values)
        return better >= kept
