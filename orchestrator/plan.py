"""From options to a resolved plan: everything checked before anything starts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import search_spaces
from orchestrator.study import HalvingSettings, SamplerSettings
from search_spaces import Parameter, SearchSpace
from systems import DEFAULT_SYSTEM, data, registry
from systems import config as configs
from systems.budget import Budget, make_budget
from systems.data.dataset import Dataset
from systems.data.splits import Splits, make_splits
from systems.errors import UserError, unknown
from systems.metrics import metric

LEARNERS = ("logreg", "genetic")
QUICK_TRIALS, PAPER_TRIALS = 8, 50
PACKAGES = ("soundsweep", "torch", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "librosa")


@dataclass(frozen=True)
class Options:
    """What ``soundsweep run`` was asked for; ``None`` leaves a choice to the plan."""

    system: str = DEFAULT_SYSTEM
    dataset: str | None = None
    data: str | None = None
    trials: int | None = None
    budget: str | None = None
    max_epochs: int | None = None
    set: Sequence[str] = ()
    space: Sequence[str] = ()
    concurrency: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    seed: int = 0
    storage: str = "runs"
    name: str | None = None
    mlflow: str | None = None
    stack: str = "all"
    top_k: int = 3
    transductive: bool = False


@dataclass(frozen=True)
class Resources:
    """Of one trial, and how many run at once."""

    concurrency: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Plan:
    """A run, resolved. Written once as plan.json; resuming reads it back."""

    name: str
    run_id: str
    created: str
    system: str
    dataset: str
    data: str | None
    fingerprint: str
    classes: tuple[str, ...]
    parts: dict[str, dict[str, Any]]
    splits: dict[str, Any]
    metric: str
    mode: str
    space: tuple[Parameter, ...]
    config: dict[str, Any]
    first_trial: dict[str, Any]
    moved: dict[str, Any]
    budget: Budget
    scaled: dict[str, tuple[Any, Any]]
    trials: int
    seed: int
    sampler: SamplerSettings
    halving: HalvingSettings | None
    resources: Resources
    stack: tuple[str, ...]
    top_k: int
    transductive: bool
    mlflow: str | None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None

    def search_space(self) -> SearchSpace:
        return SearchSpace(self.metric, "max" if self.mode == "max" else "min", self.space)

    def entry(self) -> registry.Entry:
        return registry.get(self.system)

    def base_config(self) -> Any:
        """The configuration before searched values and budget."""
        return configs.from_dict(type(self.entry().config), self.config)

    def trial_config(self, params: dict[str, Any]) -> Any:
        """The configuration that a trial with these searched values trains."""
        return self.budget.apply(configs.replace(self.base_config(), params))

    def steps(self) -> int:
        """Epochs of one whole training."""
        return _steps(self.entry(), self.trial_config(self.first_trial))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """The inverse of :meth:`to_json` after a way through a file."""
        halving = value["halving"]
        budget = value["budget"]
        fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in budget["fixed"].items()}
        return cls(
            **{
                **value,
                "classes": tuple(value["classes"]),
                "space": tuple(
                    Parameter(**{**p, "choices": tuple(p["choices"])}) for p in value["space"]
                ),
                "budget": Budget(budget["text"], fixed, budget["times"], budget["caps"]),
                "scaled": {key: (pair[0], pair[1]) for key, pair in value["scaled"].items()},
                "sampler": SamplerSettings(**value["sampler"]),
                "halving": None if halving is None else HalvingSettings(**halving),
                "resources": Resources(**value["resources"]),
                "stack": tuple(value["stack"]),
            }
        )


def make_plan(options: Options) -> tuple[Plan, Dataset, Splits]:
    """Resolve and check everything; nothing is started and nothing written.

    Raises:
        UserError: an unknown system, data set, key or value; data that cannot be used; labels of a
            kind that the system or the metric cannot take.
    """
    entry = registry.get(options.system)
    name, folder = _dataset_of(options, entry)
    dataset = data.load(name, folder)
    _check_kinds(entry, dataset)
    splits = make_splits(dataset, options.seed)
    config, set_keys = _config(options, entry, name)
    space = _space(options, entry, config, set_keys)
    budget_text = options.budget or ("paper" if torch.cuda.is_available() else "quick")
    asked_for = {search_spaces.parse_parameter(text).key for text in options.space}
    budget = make_budget(entry, budget_text, options.max_epochs, set_keys | asked_for)
    space = space.without(budget.fixed)
    budget.apply(config)  # an impossible value shows here
    _check_metric(space.metric, dataset)
    trials = options.trials or (QUICK_TRIALS if budget_text == "quick" else PAPER_TRIALS)
    _positive(options, trials)
    epochs = _steps(entry, budget.apply(config))
    plan = Plan(
        name=options.name or _run_name(entry.paper, name),
        run_id=uuid.uuid4().hex,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        system=entry.address,
        dataset=name,
        data=folder,
        fingerprint=dataset.fingerprint(),
        classes=dataset.classes,
        parts={
            part: {"clips": len(dataset.part(part)), "labels": dataset.label_kind(part)}
            for part in dataset.parts()
        },
        splits=describe_splits(splits),
        metric=space.metric,
        mode=space.mode,
        space=space.parameters,
        config=json.loads(configs.to_json(config)),
        first_trial=space.published(config),
        moved=space.moved(config),
        budget=budget,
        scaled=budget.scaled(entry.published_config(name)),
        trials=trials,
        seed=options.seed,
        sampler=SamplerSettings(options.seed, max(3, min(10, trials // 4))),
        halving=_halving(entry, epochs),
        resources=_resources(options),
        stack=_stack(options.stack),
        top_k=options.top_k,
        transductive=options.transductive,
        mlflow=options.mlflow,
        versions=_versions(),
        git_commit=_git_commit(),
    )
    return plan, dataset, splits


def reload(plan: Plan) -> tuple[Dataset, Splits]:
    """The data set and splits of an earlier plan.

    Raises:
        UserError: the data is not what it was.
    """
    dataset = data.load(plan.dataset, plan.data)
    if dataset.fingerprint() != plan.fingerprint:
        raise UserError(
            f"the data set {plan.dataset} in {plan.data} has changed since the run '{plan.name}' "
            f"was planned (fingerprint {dataset.fingerprint()}, was {plan.fingerprint}): start a "
            "new run."
        )
    return dataset, make_splits(dataset, plan.seed)


def describe_splits(splits: Splits) -> dict[str, Any]:
    """Protocol, sizes and a digest of who is where."""
    digest = hashlib.sha256(repr(splits.folds).encode()).hexdigest()[:16]
    return {
        "protocol": splits.protocol,
        "folds": [[len(f.train), len(f.validation)] for f in splits.folds],
        "searched": splits.searched,
        "unlabelled": {role: len(ids) for role, ids in splits.unlabelled.items()},
        "digest": digest,
    }


def _dataset_of(options: Options, entry: registry.Entry) -> tuple[str, str | None]:
    name = options.dataset or (entry.dataset if options.data else "synthetic")
    folder = None if options.data is None else str(Path(options.data).expanduser().resolve())
    return name, folder


def _check_kinds(entry: registry.Entry, dataset: Dataset) -> None:
    if entry.task != dataset.task:
        raise UserError(
            f"{entry.address} is for the task {entry.task}; {dataset.name} is for {dataset.task}."
        )
    for part in {clip.part for clip in dataset.role("labelled")}:
        kind = dataset.label_kind(part)
        if kind not in entry.labels:
            raise UserError(
                f"{entry.address} trains on labels of kind {' or '.join(entry.labels)}; part "
                f"'{part}' of {dataset.name} has {kind}."
            )


def _check_metric(name: str, dataset: Dataset) -> None:
    wanted = metric(name)
    part = dataset.official_validation or dataset.role("labelled")[0].part
    kind = dataset.label_kind(part)
    if kind not in wanted.labels:
        raise UserError(
            f"the metric {name} needs labels of kind {' or '.join(wanted.labels)}; part '{part}' "
            f"of {dataset.name} has {kind}."
        )


def _config(options: Options, entry: registry.Entry, dataset: str) -> tuple[Any, set[str]]:
    config = entry.published_config(dataset)
    keys: set[str] = set()
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write key=value.")
        config = configs.replace(config, {key: configs.parse(config, key, value)})
        keys.add(key)
    return config, keys


def _space(options: Options, entry: registry.Entry, config: Any, set_keys: set[str]) -> SearchSpace:
    space = search_spaces.load(entry.address, entry.config)
    changed = [search_spaces.parse_parameter(text) for text in options.space]
    for parameter in changed:
        value = configs.get(config, parameter.key)
        if not parameter.choices and isinstance(value, str):
            raise UserError(f"'{parameter.key}' is text: give its values as one-of:a,b.")
        for bound in parameter.choices or (parameter.low, parameter.high):
            configs.replace(config, {parameter.key: bound})
    switched_off = {key for key, value in configs.flatten(config).items() if value is None}
    return space.with_parameters(changed).without(set_keys | switched_off)


def _halving(entry: registry.Entry, epochs: int) -> HalvingSettings | None:
    if not entry.traits.comparable_steps or epochs < 4:
        return None
    # Macro F1 is zero for the first epochs of nearly every training: no judgement before the sixth.
    first = min(max(6, math.ceil(epochs / 9)), math.ceil(epochs / 3))
    return HalvingSettings(min_step=first, reduction_factor=3)


def _steps(entry: registry.Entry, config: Any) -> int:
    return int(configs.get(config, entry.schedule[0])) if entry.schedule else 1


def _resources(options: Options) -> Resources:
    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if torch.cuda.is_available() else 0.0
    if gpus > 0 and not torch.cuda.is_available():
        raise UserError(f"--gpus-per-trial {gpus:g}: this machine has no CUDA device.")
    cores = os.cpu_count() or 1
    slots = max(1, cores // options.cpus_per_trial)
    if gpus > 0:
        slots = max(1, min(slots, int(torch.cuda.device_count() / gpus)))
    return Resources(options.concurrency or slots, options.cpus_per_trial, gpus)


def _positive(options: Options, trials: int) -> None:
    for name, value in (("--trials", trials), ("--top-k", options.top_k),
                        ("--cpus-per-trial", options.cpus_per_trial),
                        ("--concurrency", options.concurrency or 1)):  # fmt: skip
        if value < 1:
            raise UserError(f"{name} takes 1 or more, not {value}.")


def _stack(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    names = LEARNERS if text == "all" else tuple(text.split(","))
    for name in names:
        if name not in LEARNERS:
            raise unknown("meta-learner", name, (*LEARNERS, "all", "none"))
    return names


def _run_name(paper: str, dataset: str) -> str:
    return f"{paper}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None if done.returncode == 0 else None
