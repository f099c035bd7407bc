"""Every registered system as a trainable of Ray Tune, and as the loop of a Ray Train worker.

After ``import orchestrator`` a system trains by its name::

    tune.Tuner("gcrnn_vat", param_space={"training.learning_rate": tune.loguniform(1e-4, 1e-2)})
    TorchTrainer(orchestrator.train_loop("gcrnn_vat"), train_loop_config={"vat.epsilon": 5.0}, ...)

The keys are those of the system's configuration, and with them (:data:`DEFAULTS`) the data set, its
path and the budget. Each epoch reports ``step``, ``loss``, its terms and the data's metric on the
validation clips of one fold, with a checkpoint that a restarted trial goes on from; the last report
has the best epoch's metric, and its checkpoint the trained system in ``model/``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.plan.options import Options
from systems import registry
from systems.catalogue import catalogue
from systems.errors import unknown

# Keys beside those of the configuration, as `soundsweep run` calls them.
DEFAULTS: dict[str, Any] = {
    "dataset": None, "data": None, "budget": None, "max_epochs": None, "seed": 0,
    "storage": "runs", "skip_broken": False, "skip_shared": False,
}  # fmt: skip
Report = Callable[[dict[str, float], Path], None]  # metrics, and the folder of the checkpoint


def register() -> None:
    """Tell Ray Tune every system under ``PAPER/SYSTEM``, and main ones under ``PAPER``."""
    from ray import tune

    for name in catalogue().names():
        tune.register_trainable(name, partial(_trainable, name, os.getcwd()))


def train_loop(name: str) -> Callable[[Mapping[str, Any]], None]:
    """A system's training as the ``train_loop_per_worker`` of a ``TorchTrainer``.

    Raises:
        UserError: there is no such system.
    """
    return partial(_worker, registry.get(name).address, os.getcwd())


def _trainable(name: str, here: str, config: Mapping[str, Any]) -> None:
    from ray import tune

    def report(metrics: dict[str, float], folder: Path) -> None:
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(folder)))

    _train(name, absolute(config, here), report, tune.get_checkpoint(), _device(), 0, 1)


def _worker(name: str, here: str, config: Mapping[str, Any]) -> None:
    import ray.train
    from ray.train.torch import get_device

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def report(metrics: dict[str, float], folder: Path) -> None:
        mine = ray.train.Checkpoint.from_directory(str(folder)) if rank == 0 else None
        ray.train.report(metrics, checkpoint=mine)

    earlier, device = ray.train.get_checkpoint(), str(get_device())
    _train(name, absolute(config, here), report, earlier, device, rank, world)


def absolute(config: Mapping[str, Any], here: str) -> dict[str, Any]:
    """The keys with paths below ``here``: a trial works in a folder of its own."""
    paths = {"storage": config.get("storage", DEFAULTS["storage"]), "data": config.get("data")}
    whole = {key: str(Path(here, Path(path).expanduser())) for key, path in paths.items() if path}
    return {**config, **whole}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _train(
    name: str, config: Mapping[str, Any], report: Report, earlier: Any, device: str, rank: int,
    world: int,
) -> None:  # fmt: skip
    """Train one fold, as ``soundsweep train`` does, from an earlier checkpoint where there is one.

    Raises:
        UserError: an unknown key or value, or data that cannot be used.
    """
    from orchestrator.planning.resolve import make_plan
    from systems import config as configs
    from systems.context import Context, seed_of
    from systems.data.splits import training_data
    from systems.files import write_whole

    plan, dataset, splits = make_plan(options_of(name, config))
    asked = plan.trial_config(plan.first_trial)
    system = plan.entry().build(asked)
    data = training_data(dataset, splits, 0, plan.metric)
    folder = Path(tempfile.mkdtemp(prefix="soundsweep-"))
    try:
        if earlier is not None:
            earlier.to_directory(str(folder))
        write_whole(folder / "config.json", configs.to_json(asked))

        def on_report(step: int, metrics: Mapping[str, float]) -> None:
            report({"step": step, **metrics}, folder)

        context = Context(
            folder, device=device, seed=seed_of(plan.seed, "trial", 0, 0),
            on_report=on_report, rank=rank, world=world,
        )  # fmt: skip
        fitted = system.train(data, _sounds(plan, dataset, splits, config["storage"]), context)
        best = dict(fitted.history.metrics[fitted.history.best_step - 1])
        if rank == 0:
            fitted.save(folder / "model")
        report({"step": fitted.history.best_step, **best}, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def options_of(name: str, config: Mapping[str, Any]) -> Options:
    """The options of a training from the keys of a parameter space.

    Raises:
        UserError: a key that is neither the configuration's nor one of :data:`DEFAULTS`.
    """
    from systems import config as configs

    known = configs.flatten(registry.get(name).config)
    for key in config:
        if key not in DEFAULTS and not any(k == key or k.startswith(f"{key}.") for k in known):
            raise unknown(f"key of {name}", key, [*DEFAULTS, *known])
    given = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    values = {key: value for key, value in config.items() if key not in DEFAULTS}
    return Options(purpose="train", system=name, set=values, gpus_per_trial=0.0, **given)


def _sounds(plan: Any, dataset: Any, splits: Any, storage: str) -> dict[str, Any]:
    """The sound that the training reads; built by the first trial that needs it."""
    from orchestrator.planning.sound import stored_clips
    from orchestrator.runs.storage import root_of
    from orchestrator.training.job import inputs_of
    from systems.sounds import open_sounds

    root = root_of(storage)

    def one_by_one(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        return map(function, items)  # in this trial's own process and CPUs

    ids = stored_clips(plan, dataset, splits)
    inputs = inputs_of(plan, plan.trial_config(plan.first_trial))
    return open_sounds(dataset, ids, inputs, root / "store", one_by_one)
