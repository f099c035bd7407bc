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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

import search_spaces
from orchestrator.rundir import RunDir, read_json
from orchestrator.stacking.families import Manner, learners
from orchestrator.stacking.frame_pooling import Pool
from orchestrator.stacking.pooling import Mean
from orchestrator.study import HalvingSettings, SamplerSettings
from orchestrator.timing import parse_duration
from search_spaces import Parameter, SearchSpace
from systems import DEFAULT_SYSTEM, data, registry
from systems import config as configs
from systems.budget import Budget, make_budget
from systems.data.dataset import Dataset, LabelKind
from systems.data.splits import Splits, make_splits
from systems.errors import UserError, unknown
from systems.metrics import metric

PROTOCOLS = ("honest", "paper")
# Labels of one kind contain those of another: events say which tags a clip has.
CONTAINS: dict[LabelKind, tuple[LabelKind, ...]] = {"events": ("tags",), "class": ("tags",)}
QUICK_TRIALS, PAPER_TRIALS = 8, 50
Purpose = Literal["search", "train", "stack"]
Final = Literal["refit", "fold_mean", "fold_geometric"]
FINALS: tuple[Final, ...] = ("refit", "fold_mean", "fold_geometric")
FittedOn = Literal["out_of_fold", "validation", "test"]
STAGE_KINDS = ("epoch_scores", "columns")  # what stage two makes of any system
ANY_TASK = "any"  # of a data set that fits every system whose labels it has
WORKERS_DRIVER_CPUS = 0.1  # of a trial whose work is done by workers: it must not starve them
PACKAGES = ("soundsweep", "torch", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "librosa")


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line; ``None`` leaves a choice to the plan.

    ``purpose``: ``search`` sweeps the space; ``train`` trains the published point alone, ``trials``
    times with seeds of their own, each once. ``repeat``: a search without a space: its trials are
    trainings of the published point that differ in their seeds.
    """

    purpose: Purpose = "search"
    system: str = DEFAULT_SYSTEM
    dataset: str | None = None
    data: str | None = None
    skip_broken: bool = False
    trials: int | None = None
    time_budget: str | None = None
    budget: str | None = None
    max_epochs: int | None = None
    set: Sequence[str] = ()
    space: Sequence[str] = ()
    concurrency: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    workers_per_trial: int = 1
    seed: int = 0
    storage: str = "runs"
    name: str | None = None
    mlflow: str | None = None
    ray_address: str | None = None
    stack: str = "standard"
    top_k: int = 3
    stage_trials: int | None = None
    final: str | None = None
    by_fold: bool | None = None
    repeat: bool = False
    protocol: str = "honest"
    transductive: bool = False


@dataclass(frozen=True)
class MemberRef:
    """A member of a stack over several runs: the run's directory, the trial, and its system."""

    run: str
    trial: int
    system: str


@dataclass(frozen=True)
class Resources:
    """How many trials run at once; CPUs and GPUs of each of a trial's workers, and their number."""

    concurrency: int
    cpus: int
    gpus: float
    workers: int = 1

    @property
    def total_cpus(self) -> int:
        """CPUs that all trials at once take; with workers, one more for what drives them."""
        return self.concurrency * self.cpus * self.workers + (self.workers > 1)

    def of_process(self) -> tuple[float, float]:
        """CPUs and GPUs of a trial's own process; its workers, if any, ask for theirs."""
        return (WORKERS_DRIVER_CPUS, 0) if self.workers > 1 else (self.cpus, self.gpus)


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
    purpose: Purpose = "search"
    protocol: str = "honest"
    time_budget: float | None = None  # seconds, of the whole run
    search_share: float = 1.0  # of the time budget
    ray_address: str | None = None
    mixed_precision: bool = False
    skip_broken: bool = False
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    members: tuple[MemberRef, ...] = ()  # of a stack over several runs
    final: Final = "refit"
    by_fold: bool = False  # a meta-learner for each fold
    pool: Pool = "clips"  # what meta-learners fuse
    events_of: int | None = None  # the place of the member whose events the fused tags gate
    row_weights: dict[str, dict[str, float]] = field(default_factory=dict)  # column -> value -> w
    fusion_parts: tuple[dict[str, Any], ...] = ()  # of a fusion of fusions
    learner_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    stage_trials: int = 0  # of the search of each meta-learner's settings
    fitted_on: FittedOn = "out_of_fold"
    fusion: str | None = None  # the registered fusion that this run is
    required: dict[str, str] = field(default_factory=dict)  # name -> directory of the run
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

    def final_is_refit(self) -> bool:
        """Whether members train again on all labelled clips; else the fold's model is the model."""
        return self.purpose != "train" and not self.folds_predict()

    def folds_predict(self) -> bool:
        """Whether members predict the test part by the mean of their folds' models."""
        return self.final != "refit"

    def mean_of_folds(self) -> Mean:
        """How folds' models are averaged."""
        return "geometric" if self.final == "fold_geometric" else "arithmetic"

    def exclusive(self) -> bool:
        """Whether the classes exclude each other: a clip has one, not tags."""
        kinds = {about["labels"] for about in self.parts.values()}
        return "class" in kinds and not kinds & {"tags", "events"}

    def manner(self) -> Manner:
        """How meta-learners meet the members."""
        return Manner(
            self.by_fold, self.mean_of_folds(), self.folds_predict(), self.pool, self.events_of,
            self.fusion_parts,
        )  # fmt: skip

    def search_end(self) -> float | None:
        """The run's time at which its search ends, in seconds; ``None`` for never."""
        return None if self.time_budget is None else self.search_share * self.time_budget

    def planned_share(self) -> float:
        """The share of the time budget at which the search ends.

        What follows it are the members' missing folds and refits; a search that stops trials early
        is counted with half of its trainings.
        """
        searching = self.trials * self.splits["searched"] * (0.5 if self.halving else 1.0)
        missing = len(self.splits["folds"]) - self.splits["searched"]
        following = min(self.top_k, self.trials) * (missing + self.final_is_refit())
        return min(0.9, max(0.5, searching / (searching + following)))

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
                "skipped": tuple((path, why) for path, why in value.get("skipped", ())),
                "notes": tuple(value.get("notes", ())),
                "members": tuple(MemberRef(**member) for member in value.get("members", ())),
                "fusion_parts": tuple(value.get("fusion_parts", ())),
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
    dataset = data.load(name, folder, options.skip_broken)
    _check_kinds(entry, dataset)
    splits = _splits(dataset, options.seed, options.purpose)
    config, set_keys = _config(options, entry, name)
    space = _space(options, entry, config, set_keys)
    budget_text = options.budget or ("paper" if torch.cuda.is_available() else "quick")
    asked_for = {search_spaces.parse_parameter(text).key for text in options.space}
    budget = make_budget(entry, budget_text, options.max_epochs, set_keys | asked_for)
    space = space.without(budget.fixed)
    budget.apply(config)  # an impossible value shows here
    _check_metric(space.metric, dataset)
    trials = _trials(options, budget_text)
    _check_options(options, trials)
    epochs = _steps(entry, budget.apply(config))
    resources = _resources(options, entry)
    transductive = options.transductive or options.protocol == "paper"
    _check_decision(entry, config, space, splits, transductive)
    searching = options.purpose == "search"
    if not searching or options.repeat:
        space = replace(space, parameters=())
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
        halving=_halving(entry, epochs) if searching and not options.repeat else None,
        resources=resources,
        stack=stack_names(options.stack, dataset, entry.gives) if searching else (),
        top_k=options.top_k if searching else trials,
        transductive=transductive,
        mlflow=options.mlflow,
        purpose=options.purpose,
        protocol=options.protocol,
        time_budget=None if options.time_budget is None else parse_duration(options.time_budget),
        ray_address=options.ray_address,
        mixed_precision=resources.gpus > 0,
        skip_broken=options.skip_broken,
        stage_trials=options.stage_trials or 0,
        final=options.final or "refit",  # type: ignore[arg-type]  # checked above
        by_fold=bool(options.by_fold),
        skipped=dataset.skipped,
        notes=(*dataset.notes, *splits.notes),
        versions=_versions(),
        git_commit=_git_commit(),
    )
    return replace(plan, search_share=plan.planned_share()), dataset, splits


def reload(plan: Plan) -> tuple[Dataset, Splits]:
    """The data set and splits of an earlier plan.

    Raises:
        UserError: the data is not what it was.
    """
    dataset = data.load(plan.dataset, plan.data, plan.skip_broken)
    if dataset.fingerprint() != plan.fingerprint:
        raise UserError(
            f"the data set {plan.dataset} in {plan.data} has changed since the run '{plan.name}' "
            f"was planned (fingerprint {dataset.fingerprint()}, was {plan.fingerprint}): start a "
            "new run."
        )
    return dataset, _splits(dataset, plan.seed, plan.purpose)


def _splits(dataset: Dataset, seed: int, purpose: Purpose) -> Splits:
    """All folds for a search; a single training holds the first one out."""
    splits = make_splits(dataset, seed)
    if purpose != "train" or len(splits.folds) == 1:
        return splits
    return replace(splits, protocol="hold-out", folds=splits.folds[:1], searched=1)


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
    if dataset.task not in (entry.task, ANY_TASK):
        raise UserError(
            f"{entry.address} is for the task {entry.task}; {dataset.name} is for {dataset.task}."
        )
    for part in {clip.part for clip in dataset.role("labelled")}:
        kind = dataset.label_kind(part)
        if not {kind, *CONTAINS.get(kind, ())} & set(entry.labels):
            raise UserError(
                f"{entry.address} trains on labels of kind {' or '.join(entry.labels)}; part "
                f"'{part}' of {dataset.name} has {kind}."
            )


def _check_decision(
    entry: registry.Entry, config: Any, space: SearchSpace, splits: Splits, transductive: bool
) -> None:
    """What the decision adapts on, set or searched, is there and may be used."""
    if entry.decision is None:
        return
    key = f"{entry.decision}.on"
    searched = [p.choices for p in space.parameters if p.key == key]
    asked = {configs.get(config, key), *(choice for choices in searched for choice in choices)}
    if "target" in asked and not transductive:
        raise UserError(
            f"{key}=target adapts on the sound of the test clips: ask for it with --transductive, "
            "which marks the figures."
        )
    if "unlabelled" in asked and not splits.unlabelled.get("unlabelled"):
        raise UserError(f"{key}=unlabelled: this data set has no unlabelled clips.")


def stored_clips(plan: Plan, dataset: Dataset, splits: Splits) -> tuple[str, ...]:
    """Every clip whose sound the run needs, in the data set's order, test part included."""
    roles = {role for config in _corners(plan) for role in _roles(plan, config)}
    needed = {i for fold in splits.folds for i in (*fold.train, *fold.validation)}
    needed |= {i for role in roles for i in splits.unlabelled.get(role, ())}
    needed |= {clip.clip_id for clip in dataset.part(dataset.test_part)}
    return tuple(clip.clip_id for clip in dataset.clips if clip.clip_id in needed)


def _roles(plan: Plan, config: Any) -> tuple[str, ...]:
    inputs = plan.entry().build(config).inputs()
    if set(inputs) != {"audio"}:
        raise UserError(f"{plan.system} takes other inputs than sound: {', '.join(inputs)}.")
    return inputs["audio"].roles


def _corners(plan: Plan) -> Iterator[Any]:
    """The first trial's configuration, and it with each searched value at either end."""
    yield plan.trial_config(plan.first_trial)
    for parameter in plan.space:
        for value in parameter.choices or (parameter.low, parameter.high):
            yield plan.trial_config({**plan.first_trial, parameter.key: value})


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


def _trials(options: Options, budget: str) -> int:
    if options.trials is not None:
        return options.trials
    if options.purpose == "train":
        return 1
    return QUICK_TRIALS if budget == "quick" else PAPER_TRIALS


def _resources(options: Options, entry: registry.Entry) -> Resources:
    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if torch.cuda.is_available() else 0.0
    elsewhere = options.ray_address or os.environ.get("RAY_ADDRESS")
    if gpus > 0 and not elsewhere and not torch.cuda.is_available():
        raise UserError(f"--gpus-per-trial {gpus:g}: this machine has no CUDA device.")
    workers = options.workers_per_trial
    if workers > 1 and not entry.traits.data_parallel:
        raise UserError(f"{entry.address} cannot train data-parallel: --workers-per-trial 1.")
    cores = os.cpu_count() or 1
    slots = max(1, cores // (options.cpus_per_trial * workers))
    if gpus > 0 and torch.cuda.is_available():
        slots = max(1, min(slots, int(torch.cuda.device_count() / (gpus * workers))))
    return Resources(options.concurrency or slots, options.cpus_per_trial, gpus, workers)


def _check_options(options: Options, trials: int) -> None:
    for name, value in (("--trials", trials), ("--top-k", options.top_k),
                        ("--cpus-per-trial", options.cpus_per_trial),
                        ("--workers-per-trial", options.workers_per_trial),
                        ("--concurrency", options.concurrency or 1)):  # fmt: skip
        if value < 1:
            raise UserError(f"{name} takes 1 or more, not {value}.")
    if options.gpus_per_trial is not None and options.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial takes 0 or more, not {options.gpus_per_trial:g}.")
    check_stage(options.name, options.protocol, options.final, options.stage_trials)


def check_stage(
    name: str | None, protocol: str, final: str | None, stage_trials: int | None
) -> None:
    """What ``run`` and ``stack`` are both asked for.

    Raises:
        UserError: a value that there is not, with its option.
    """
    if (stage_trials or 0) < 0:
        raise UserError(f"--stage-trials takes 0 or more, not {stage_trials}.")
    if final is not None and final not in FINALS:
        raise unknown("way to --final models", final, FINALS)
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if name is not None and (Path(name).name != name or name == ".."):
        raise UserError(f"--name {name}: a name is one folder's name, without '/'.")


def load_plan(run: RunDir) -> Plan:
    """A run's plan.

    Raises:
        UserError: it is not there, or no plan that this version reads.
    """
    try:
        return Plan.from_json(read_json(run.plan))
    except FileNotFoundError:
        raise UserError(f"the run {run.path} is not there any more: it has no plan.json.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run.plan} is no plan that this version reads ({type(error).__name__}: {error}). "
            "Restore the file, or move the folder away."
        ) from error


def stack_names(
    text: str, dataset: Dataset, gives: Sequence[str] = ("clip_scores", "frame_scores"),
    *, registered: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """The meta-learners that ``--stack`` names.

    ``standard`` are one of each kind, ``all`` all, of those that the labels can fit and for which
    the systems give the predictions (``gives``). Those that need a paper's settings are for
    ``registered`` fusions.

    Raises:
        UserError: an unknown one, or one that the labels cannot fit, with the reason.
    """
    part = dataset.official_validation or dataset.role("labelled")[0].part
    kind = dataset.label_kind(part)
    if text == "none":
        return ()
    known = learners()
    if text in ("all", "standard"):
        return tuple(
            name
            for name, learner in known.items()
            if kind in learner.labels
            and learner.general
            and set(learner.takes) <= {*gives, *STAGE_KINDS}
            and (text == "all" or learner.standard)
        )
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise unknown("meta-learner", name, (*known, "standard", "all", "none"))
        if not known[name].general and not registered:
            raise UserError(
                f"the meta-learner {name} needs settings that a registered fusion gives: it cannot "
                "be named here."
            )
        if kind not in known[name].labels:
            raise UserError(
                _cannot_fit(name, known[name].labels, f"part '{part}' of {dataset.name}", kind)
            )
        missing = set(known[name].takes) - {*gives, *STAGE_KINDS}
        if missing:
            raise UserError(
                f"the meta-learner {name} takes {', '.join(sorted(missing))}, which the members do "
                f"not give (they give {', '.join(gives)})."
            )
    return names


def _cannot_fit(name: str, wanted: Sequence[str], where: str, kind: str) -> str:
    why = ""
    if tuple(wanted) == ("events",):
        why = (
            ", which say nothing about time. Without timed labels a paper's own decision variants "
            "(label refinement) are the answer"
        )
    return f"the meta-learner {name} is fitted on {' or '.join(wanted)}; {where} has {kind}{why}."


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
