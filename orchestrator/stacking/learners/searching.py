"""A black-box search over a box, by Optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping


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
