"""The search as an Optuna study, rebuilt from results.json, and what each parameter is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.report.tables import Row, completed, is_completed, worth
from search_spaces import parse_parameter
from systems.errors import UserError

LEAST_TRIALS = 4  # completed, for importances
SEED = 0


@dataclass(frozen=True)
class Searched:
    """A study of which only the completed trials have values: a stopped one's is another quantity.

    ``keys``: the parameters in it, those that every completed trial has. ``left_out``: the others
    of the space: conditional ones, and those whose range cannot be read.
    """

    study: optuna.Study
    keys: tuple[str, ...]
    left_out: tuple[str, ...]

    def done(self) -> list[optuna.trial.FrozenTrial]:
        """The completed trials, by number."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.values]


def searched(results: Mapping[str, Any]) -> Searched:
    """The completed trials of results.json as a study in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    done, space = completed(results), results["run"]["space"]
    ranges = {}
    for key, text in space.items():
        values = [trial["params"][key] for trial in done if key in trial["params"]]
        distribution = _distribution(key, text, values)
        if done and len(values) == len(done) and distribution is not None:
            ranges[key] = distribution
    upwards = results["run"]["mode"] == "max"
    study = optuna.create_study(direction="maximize" if upwards else "minimize")
    study.add_trials([_trial(trial, ranges) for trial in results["trials"]])
    return Searched(study, tuple(ranges), tuple(key for key in space if key not in ranges))


def importances(results: Mapping[str, Any]) -> tuple[list[Row] | None, str | None]:
    """Each parameter's share of the variance of the value (fANOVA; Hutter et al. 2014).

    Returns:
        ``[{"key", "importance"}, ...]``, largest first, shares that sum to 1; or ``None`` and why
        there are none.
    """
    found = searched(results)
    why = _why_none(results, found)
    if why:
        return None, why
    shares = optuna.importance.get_param_importances(
        found.study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=SEED),
        params=list(found.keys),
    )
    return [{"key": key, "importance": float(share)} for key, share in shares.items()], None


def _why_none(results: Mapping[str, Any], found: Searched) -> str | None:
    values = [worth(trial) for trial in completed(results)]
    if not results["run"]["space"]:
        return "nothing was searched"
    if len(values) < LEAST_TRIALS:
        return f"it takes {LEAST_TRIALS} completed trials; there are {len(values)}"
    if len(set(values)) == 1:
        return "all completed trials have the same value"
    if not found.keys:
        return "no parameter has a value in every completed trial"
    return None


def _distribution(key: str, text: str, values: Sequence[Any]) -> BaseDistribution | None:
    """The range of ``--space KEY=TEXT``; ``None`` if it cannot be read.

    The text has six digits: the range is widened to hold every value. Choices are texts unless
    all are numbers: one may be a list.
    """
    try:
        parameter = parse_parameter(f"{key}={text}")
    except (UserError, yaml.YAMLError):
        return None
    if parameter.kind == "one_of":
        choices = [*parameter.choices, *values]
        numbers = all(isinstance(choice, int | float) for choice in choices)
        return CategoricalDistribution(
            tuple(dict.fromkeys(choices if numbers else map(str, choices)))
        )
    low, high = min([parameter.low, *values]), max([parameter.high, *values])
    if parameter.kind == "int":
        return IntDistribution(int(low), int(high), log=parameter.log, step=parameter.step)
    return FloatDistribution(low, high, log=parameter.log)


def _trial(trial: Row, ranges: Mapping[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    if not is_completed(trial):  # keeps the numbers of those that follow
        return optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
    params = {key: trial["params"][key] for key in ranges}
    for key, distribution in ranges.items():
        if isinstance(distribution, CategoricalDistribution):
            params[key] = _choice(params[key], distribution)
    return optuna.trial.create_trial(value=worth(trial), params=params, distributions=dict(ranges))


def _choice(value: Any, distribution: CategoricalDistribution) -> Any:
    return value if value in distribution.choices else str(value)
