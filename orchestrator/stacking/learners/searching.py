"""Black-box searches over a box that several learners use: Optuna and differential evolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def best_by_optuna(
    worth: Callable[[dict[str, float]], float],
    bounds: Mapping[str, tuple[float, float]],
    first: Mapping[str, float],
    trials: int,
    seed: int,
) -> dict[str, float]:
    """The values with the largest worth that Optuna's TPE found; ``first`` is tried first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed % 2**32)
    )
    study.enqueue_trial(dict(first))

    def objective(trial: optuna.Trial) -> float:
        return worth({key: trial.suggest_float(key, *bound) for key, bound in bounds.items()})

    study.optimize(objective, n_trials=trials)
    return dict(study.best_params)


def best_by_differential_evolution(
    worth: Callable[[np.ndarray], float],
    bounds: list[tuple[float, float]],
    first: np.ndarray,
    generations: int,
    population: int,
    seed: int,
) -> np.ndarray:
    """The point [D] with the largest worth that SciPy's differential evolution found."""
    from scipy.optimize import differential_evolution

    found = differential_evolution(
        lambda x: -worth(x), bounds, x0=first, maxiter=generations, popsize=population, tol=0,
        polish=False, rng=np.random.default_rng(seed), init="sobol",
    )  # fmt: skip
    best: np.ndarray = found.x
    return best
