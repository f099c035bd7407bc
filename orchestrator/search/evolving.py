"""The evolution in an Optuna study: its trials as individuals, and what it gives as a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search_spaces.evolution import CROSSOVER, MUTATION, Individual

LINEAGE = "lineage"  # the user attribute of a trial that says where its genome comes from
UNDER_WAY = (TrialState.RUNNING, TrialState.WAITING)


def individual(trial: FrozenTrial) -> Individual:
    """A trial as an individual. One that failed, diverged or was stopped has score 0."""
    told = trial.user_attrs.get(LINEAGE, {})
    chances = {p.key: told[name] for p in (CROSSOVER, MUTATION)
               if (name := p.key.rpartition(".")[2]) in told}  # fmt: skip
    score = None if trial.state in UNDER_WAY else 0.0
    if trial.state == TrialState.COMPLETE:
        score = trial.value
    return Individual(trial.number, {**trial.params, **chances}, score)


class Given(BaseSampler):
    """Draws what is given."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return self.values[name]
