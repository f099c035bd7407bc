"""What can be wrong with options and data, told before anything starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.plan.options import PROTOCOLS, SAMPLERS, Options
from orchestrator.plan.plan import IN_PROCESS, Plan
from orchestrator.plan.stage import FINALS
from search_spaces import SearchSpace
from systems import config as configs
from systems import registry
from systems.data.dataset import Dataset, LabelKind
from systems.data.splits import Splits
from systems.errors import UserError, unknown
from systems.kinds import contained
from systems.metrics import metric, searchable

LONGEST_NAME = 200  # bytes of a run's name: what is made of it must be a file's name, of 255
ANY_TASK = "any"  # of a data set that fits every system whose labels it has


def check_kinds(entry: registry.Entry, dataset: Dataset) -> None:
    if dataset.task not in (entry.task, ANY_TASK):
        raise UserError(
            f"{entry.address} is for the task {entry.task}; {dataset.name} is for {dataset.task}."
        )
    for part in {clip.part for clip in dataset.role("labelled")}:
        labels = dataset.label_kind(part)
        if not {*contained(labels)} & set(entry.labels):
            raise UserError(
                f"{entry.address} trains on labels of kind {' or '.join(entry.labels)}; part "
                f"'{part}' of {dataset.name} has {labels}."
            )


def check_columns(plan: Plan, dataset: Dataset) -> None:
    """Every labelled clip has the free columns that training takes clips by, and some clip each of
    the values that it asks for."""
    for column, values in plan.entry().build(plan.trial_config(plan.first_trial)).columns:
        clips = dataset.role("labelled")
        without = [c.clip_id for c in clips if column not in c.columns]
        if without:
            raise UserError(
                f"{plan.system} takes training clips by their column '{column}', which "
                f"{dataset.name} lacks for {len(without)} of them ({without[0]}, …): add the "
                "column, or choose a system that does not ask for it."
            )
        there = {str(c.columns[column]) for c in clips}
        if missing := [value for value in values if value not in there]:
            raise UserError(
                f"{plan.system} takes training clips whose column '{column}' is "
                f"{' or '.join(missing)}, of which {dataset.name} has none (there are "
                f"{', '.join(sorted(there)[:10])})."
            )


def check_decision(
    entry: registry.Entry, config: Any, space: SearchSpace, dataset: Dataset, splits: Splits,
    transductive: bool,
) -> None:  # fmt: skip
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
    if "target" in asked and not dataset.test_parts:
        raise UserError(f"{key}=target: {dataset.name} has no test part to adapt on.")
    if "unlabelled" in asked and not splits.unlabelled.get("unlabelled"):
        raise UserError(f"{key}=unlabelled: this data set has no unlabelled clips.")


def check_metric(name: str, dataset: Dataset, entry: registry.Entry) -> None:
    """A search follows a metric on the validation clips, after each epoch of a training.

    Raises:
        UserError: an unknown metric, one that the validation labels cannot be scored by, or one
            that reads what the system does not give; with those that can be searched.
    """
    wanted = metric(name)
    part, labels = validation_labels(dataset)
    can = searchable(labels, entry.gives)
    if name in can:
        return
    if wanted.fits(labels):
        reads = wanted.reads(labels)
        why = f"it reads {reads}, and {entry.address} gives {', '.join(entry.gives)}"
    else:
        why = (
            f"it needs labels of kind {' or '.join(wanted.labels)}; part '{part}' of "
            f"{dataset.name} has {labels}"
        )
    raise UserError(
        f"the metric {name} cannot be searched by: {why}. Metrics that can be: "
        f"{', '.join(can) or 'none'}."
    )


def validation_labels(dataset: Dataset) -> tuple[str, LabelKind]:
    """The part whose clips validate, and the kind of its labels."""
    part = dataset.official_validation or dataset.role("labelled")[0].part
    return part, dataset.label_kind(part)


def check_options(options: Options, trials: int) -> None:
    for name, value in (("--trials", trials), ("--top-k", options.top_k),
                        ("--cpus-per-trial", options.cpus_per_trial),
                        ("--workers-per-trial", options.workers_per_trial),
                        ("--concurrency", options.concurrency or 1)):  # fmt: skip
        if value < 1:
            raise UserError(f"{name} takes 1 or more, not {value}.")
    if options.ray_address == IN_PROCESS and options.workers_per_trial > 1:
        raise UserError("--workers-per-trial: without Ray (--ray-address none) there is one.")
    if options.gpus_per_trial is not None and options.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial takes 0 or more, not {options.gpus_per_trial:g}.")
    if (options.gpus_per_trial or 0) > 1 and options.gpus_per_trial % 1:  # type: ignore[operator]
        raise UserError(
            f"--gpus-per-trial takes a fraction of one GPU or whole ones, not "
            f"{options.gpus_per_trial:g}."
        )
    if options.sampler not in (None, *SAMPLERS):
        raise unknown("sampler", str(options.sampler), SAMPLERS)
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
    if name is not None and len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(
            f"--name {name[:20]}...: a name takes at most {LONGEST_NAME} bytes, this has "
            f"{len(os.fsencode(name))}."
        )


def check_tracking(uri: str | None) -> None:
    """An address of MLflow is kept in plans, and seen in process lists: no password is in it.

    Raises:
        UserError: one is; says where it belongs.
    """
    parts = urlsplit(uri or "")
    if parts.password is None and not {"password", "sslpassword"} & set(parse_qs(parts.query)):
        return
    where = f"{parts.scheme}://{parts.username or ''}@{parts.hostname or ''}{parts.path}"
    raise UserError(
        f"--mlflow {where}: the address was given with a password, which plans and process lists "
        "would show. Leave it out of the address and give it in the environment: "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, PGPASSWORD (or "
        "~/.pgpass) for PostgreSQL."
    )


def check_address(address: str | None) -> None:
    """Whether anything listens there: Ray itself tries for half a minute and then says little.

    Raises:
        UserError: nothing does, or it is no address.
    """
    if address in (None, "auto", "local", IN_PROCESS):
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray-address takes HOST:PORT, auto or local, not '{address}'.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--ray-address {address}: nothing answers there ({error.strerror or error}). Is the "
            "head node up, and is this its GCS port (6379 unless told otherwise)?"
        ) from error
