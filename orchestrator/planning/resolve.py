"""From options to a resolved plan: everything checked before anything starts."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import search_spaces
from orchestrator.plan.options import Options, Purpose, asked_stage
from orchestrator.plan.plan import Plan, Resources, steps_of
from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.plan.stage import Final, StageSettings
from orchestrator.planning.checks import (
    check_address,
    check_columns,
    check_decision,
    check_kinds,
    check_metric,
    check_options,
    validation_labels,
)
from orchestrator.planning.classes import class_notes
from orchestrator.planning.duration import parse_duration
from orchestrator.planning.learners import stack_names
from orchestrator.planning.lengths import check_lengths
from orchestrator.planning.sound import stored_inputs
from orchestrator.search.capacity import Capacity, capacity, check_fits
from search_spaces import SearchSpace
from search_spaces.evolution import limit_of
from systems import config as configs
from systems import data, registry
from systems.budget import make_budget
from systems.data.answered import answered
from systems.data.dataset import Dataset
from systems.data.drawn import drawn
from systems.data.protocol import Judged, Protocol, hidden_by, judged_by
from systems.data.splits import Splits, make_splits
from systems.errors import UserError
from systems.kinds import kind
from systems.metrics import metric

QUICK_TRIALS, PAPER_TRIALS = 8, 50


PACKAGES = ("soundsweep", "torch", "ray", "optuna", "mlflow", "numpy", "scikit-learn", "librosa")


def make_plan(options: Options) -> tuple[Plan, Dataset, Splits]:
    """Resolve and check everything; nothing is started and nothing written.

    Raises:
        UserError: an unknown system, data set, key or value; data that cannot be used; labels of a
            kind that the system or the metric cannot take.
    """
    entry = registry.get(options.system)
    name, folder = dataset_of(options, entry)
    dataset = data.load(name, folder, options.skip_broken, options.skip_shared)
    check_kinds(entry, dataset)
    dataset = answered(dataset, entry.outputs, data.reader(name).LAYOUT)
    by_paper = options.protocol == "paper"
    protocol = registry.find(options.protocol_of or options.system).protocol
    split_by = protocol if by_paper else None
    dataset = drawn(dataset, split_by, options.seed)
    judged, note = judged_by(dataset, protocol, by_paper)
    hides, hiding = hidden_by(dataset, protocol, by_paper)
    splits = _splits(dataset, options.seed, options.purpose, split_by, judged, hides)
    config, set_keys = _config(options, name)
    space = _space(options, entry, dataset, config, set_keys)
    check_address(options.ray_address)
    there = capacity(options.ray_address)
    budget_text = options.budget or ("paper" if there.has_gpus else "quick")
    # The schedule of a node is the paper's too: a budget scales it like any other.
    kept = (set_keys - {*entry.schedule}) | {*options.set, *options.space}
    budget = make_budget(entry, budget_text, options.max_epochs, kept)
    ours = budget.apply(config)  # an impossible value shows here
    space = space.without(budget.fixed).settled(partial(configs.get, ours))
    check_metric(space.metric, dataset, entry)
    trials = _trials(options, budget_text)
    check_options(options, trials)
    epochs = steps_of(entry, budget.apply(config))
    resources = _resources(options, entry, there)
    transductive = options.transductive or by_paper
    check_decision(entry, config, space, dataset, splits, transductive)
    searching = options.purpose == "search"
    if not searching or options.repeat:
        space = replace(space, parameters=())
    sampler = _sampler(space, options.seed, trials)
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
        test_parts=dataset.test_parts,
        splits=describe_splits(splits),
        metric=space.metric,
        space=space.parameters,
        config=json.loads(configs.to_json(config)),
        first_trial=space.published(config),
        moved=space.moved(config),
        budget=budget,
        scaled=budget.scaled(entry.published_config(name)),
        trials=trials,
        seed=options.seed,
        sampler=sampler,
        halving=_halving(entry, epochs, sampler) if searching and not options.repeat else None,
        resources=resources,
        place=there.in_words(),
        stage=replace(
            asked_stage(options, StageSettings(final=_final(options, budget_text, split_by))),
            # Rows that members were fitted on say nothing of what combines them.
            learners=stack_names(options.stack, dataset, entry.gives)
            if searching and not splits.same
            else (),
            top_k=options.top_k if searching else trials,
        ),
        transductive=transductive,
        mlflow=options.mlflow,
        purpose=options.purpose,
        protocol=options.protocol,
        split_by=split_by,
        time_budget=None if options.time_budget is None else parse_duration(options.time_budget),
        ray_address=options.ray_address,
        mixed_precision=resources.gpus > 0,
        skip_broken=options.skip_broken,
        skip_shared=options.skip_shared,
        skipped=dataset.skipped,
        notes=tuple(
            filter(None, (*dataset.notes, *class_notes(dataset), note, hiding, *splits.notes))
        ),
        versions=_versions(),
        git_commit=_git_commit(),
    )
    stored_inputs(plan)  # one that cannot be stored shows here
    check_columns(plan, dataset)
    check_lengths(plan, dataset, splits)
    return replace(plan, search_share=plan.planned_share()), dataset, splits


def reload(plan: Plan) -> tuple[Dataset, Splits]:
    """The data set and splits of an earlier plan.

    Raises:
        UserError: the data is not what it was, or not where it was.
    """
    if plan.data is not None and not Path(plan.data).exists():
        raise UserError(
            f"the data of the run '{plan.name}', {plan.data}, is not there. Where it has moved: "
            f"soundsweep run --resume {plan.name} --data PATH."
        )
    read = data.load(plan.dataset, plan.data, plan.skip_broken, plan.skip_shared)
    dataset = drawn(answered(read, plan.entry().outputs), plan.split_by, plan.seed)
    if dataset.fingerprint() != plan.fingerprint:
        raise UserError(
            f"the data set {plan.dataset} in {plan.data} has changed since the run '{plan.name}' "
            f"was planned (fingerprint {dataset.fingerprint()}, was {plan.fingerprint}): start a "
            "new run."
        )
    judged, hides = plan.splits.get("judged", {}), plan.splits.get("hides", {})
    return dataset, _splits(dataset, plan.seed, plan.purpose, plan.split_by, judged, hides)


def _splits(
    dataset: Dataset, seed: int, purpose: Purpose, split_by: Protocol | None, judged: Judged,
    hides: Judged,
) -> Splits:  # fmt: skip
    """All folds for a search; a single training holds the first one out."""
    splits = make_splits(dataset, seed, split_by, judged, hides)
    if purpose != "train" or len(splits.folds) == 1:
        return splits
    named = "hold-out" if split_by is None else f"the first of {splits.protocol}"
    return replace(splits, protocol=named, folds=splits.folds[:1], searched=1)


def describe_splits(splits: Splits) -> dict[str, Any]:
    """Protocol, sizes, a digest of who is where, and which clips count."""
    digest = hashlib.sha256(repr(splits.folds).encode()).hexdigest()[:16]
    return {
        "protocol": splits.protocol,
        "folds": [[len(f.train), len(f.validation)] for f in splits.folds],
        "searched": splits.searched,
        "unlabelled": {role: len(ids) for role, ids in splits.unlabelled.items()},
        "digest": digest,
        "judged": {column: list(values) for column, values in splits.judged.items()},
        **(
            {"hides": {name: list(values) for name, values in splits.hides.items()}}
            if splits.hides
            else {}
        ),
    }


def dataset_of(options: Options, entry: registry.Entry) -> tuple[str, str | None]:
    """The name and the folder of the data set that a system is to learn from."""
    name = options.dataset or (entry.dataset if options.data else entry.embedded())
    folder = None if options.data is None else str(Path(options.data).expanduser().absolute())
    return name, folder


def _config(options: Options, dataset: str) -> tuple[Any, set[str]]:
    """The configuration, and the keys that are set: by hand, or as the node has them."""
    node = registry.node(options.system, dataset)
    for key in options.set:
        configs.get(node.config, key)  # an unknown one shows here
        if key in node.overrides:
            raise UserError(f"--set {key}: {node.name} fixes it; name {node.entry.address}.")
    config = registry.node(options.system, dataset, options.set).config
    return config, {*options.set, *node.overrides}


def _own_metric(dataset: Dataset) -> str:
    """The metric of a data set: the first of its reader's, or else of its kind of labels."""
    _, labels = validation_labels(dataset)
    own: tuple[str, ...] = getattr(data.reader(dataset.name), "METRICS", kind(labels).metrics)
    return own[0]


def _space(
    options: Options, entry: registry.Entry, dataset: Dataset, config: Any, set_keys: set[str]
) -> SearchSpace:
    space = search_spaces.load(entry.address, entry.config, dataset.name, _own_metric(dataset))
    if options.metric is not None:
        space = replace(space, metric=options.metric, mode=metric(options.metric).mode)
    if options.sampler is not None:
        space = replace(space, sampler=options.sampler)
    changed = [search_spaces.parse_parameter(f"{k}={text}") for k, text in options.space.items()]
    for parameter in changed:
        value = configs.get(config, parameter.key)
        if not parameter.choices and isinstance(value, str):
            raise UserError(f"'{parameter.key}' is text: give its values as one-of:a,b.")
        for bound in parameter.choices or (parameter.low, parameter.high):
            configs.replace(config, {parameter.key: bound})
    switched_off = {key for key, value in configs.flatten(config).items() if value is None}
    return space.with_parameters(changed).without(set_keys | switched_off)


def _sampler(space: SearchSpace, seed: int, trials: int) -> SamplerSettings:
    """What searches a space, for so many trials."""
    startup = max(3, min(10, trials // 4))
    if not space.parameters or space.sampler == "tpe":
        return SamplerSettings(seed, startup)
    if space.mode == "min":
        raise UserError(
            f"--sampler evolution gives trials that fail the score 0: of {space.metric} less is "
            "better. Search by another --metric, or with --sampler tpe."
        )
    return SamplerSettings(seed, startup, "evolution", limit_of(trials))


def _halving(
    entry: registry.Entry, epochs: int, sampler: SamplerSettings
) -> HalvingSettings | None:
    """The pruner; none of an evolution, to whom a trial that was stopped has no score."""
    if not entry.traits.comparable_steps or epochs < 4 or sampler.kind == "evolution":
        return None
    # Macro F1 is zero for the first epochs of nearly every training: no judgement before the sixth.
    first = min(max(6, math.ceil(epochs / 9)), math.ceil(epochs / 3))
    return HalvingSettings(min_step=first, reduction_factor=3)


def _trials(options: Options, budget: str) -> int:
    if options.trials is not None:
        return options.trials
    if options.purpose == "train":
        return 1
    return QUICK_TRIALS if budget == "quick" else PAPER_TRIALS


def _final(options: Options, budget: str, split_by: Protocol | None) -> Final:
    """Of a quick run the folds' models predict, which are there: no refit is waited for."""
    if split_by is not None and split_by.final and options.purpose == "search":
        return split_by.final
    return "fold_mean" if budget == "quick" and options.purpose == "search" else "refit"


def _resources(options: Options, entry: registry.Entry, there: Capacity) -> Resources:
    """What a trial takes, and how many run at once: as many as fit, unless told otherwise."""
    gpus, workers = options.gpus_per_trial, options.workers_per_trial
    if gpus is None:
        gpus = 1.0 if there.has_gpus else 0.0
    if workers > 1 and not entry.traits.data_parallel:
        raise UserError(f"{entry.address} cannot train data-parallel: --workers-per-trial 1.")
    one = Resources(1, options.cpus_per_trial, gpus, workers, as_fit=options.concurrency is None)
    check_fits(one, there)
    return replace(one, concurrency=options.concurrency or max(1, there.slots(one)))


def _run_name(paper: str, dataset: str) -> str:
    return f"{paper}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"


def code_versions() -> dict[str, str]:
    """Git commit and versions of what runs here."""
    return {"git_commit": _git_commit() or "", **_versions()}


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
