"""What a plan would cost: one batch, timed on the device that would train, and sums from there."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from orchestrator.plan.plan import Plan
from orchestrator.planning.sound import stored_clips, stored_inputs
from systems.context import Context
from systems.data.dataset import SEARCHED, ClipSet, Dataset
from systems.data.splits import Splits, TrainingData, training_data
from systems.data.store import BYTES, COUNT
from systems.machine import cores
from systems.sounds import heard_by, open_sounds
from systems.training.probe import Probe

PROBE_CLIPS = 32  # labelled clips that are decoded, and as many unlabelled ones


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes. ``search`` and ``whole`` are (expected, at most)."""

    device: str
    step: float
    training: float
    store: float
    search: tuple[float, float]
    whole: tuple[float, float]
    memory: int
    store_bytes: int
    run_bytes: int


def estimate(plan: Plan, dataset: Dataset, splits: Splits) -> Estimate | None:
    """Time one training step of the first trial on some of the data; nothing stays on disk.

    Returns ``None`` for a system that has no steps to time.
    """
    system = plan.entry().build(plan.trial_config(plan.first_trial))
    data = _some(training_data(dataset, splits, 0, plan.metric))
    inputs = system.inputs()
    roles = {role for one in inputs.values() for role in one.roles} | {"unlabelled"}
    ids = [*data.labelled.clip_ids]
    ids += [i for role in roles & {*data.unlabelled} for i in data.unlabelled[role].clip_ids]
    here = torch.cuda.is_available()  # a head that drives may have no GPU
    device = "cuda" if plan.resources.gpus and here else "cpu"
    with tempfile.TemporaryDirectory(prefix="soundsweep-") as scratch:
        began = time.monotonic()
        sounds = open_sounds(dataset, ids, inputs, Path(scratch), map)
        decoding = time.monotonic() - began
        context = Context(device=device, seed=plan.seed, threads=plan.resources.cpus)
        probe = system.probe(data, sounds, context)
    if probe is None:
        return None
    seconds = {clip.clip_id: clip.duration for clip in dataset.clips}
    stored = {*stored_clips(plan, dataset, splits)}
    asked, clips = stored_inputs(plan).values(), [c for c in dataset.clips if c.clip_id in stored]
    stores = {  # what each holds: channels, how often, s of sound
        (one.rate, one.channels, one.track): (
            COUNT[one.channels],
            max(other.stored for other in asked if other.rate == one.rate),
            sum(seconds[i] for i in heard_by(one, asked, clips)),
        )
        for one in asked
    }
    tested = sum(clip.duration for clip in dataset.test_clips())
    rate = decoding / max(sum(seconds[i] for i in ids), 1e-9)
    fold = splits.folds[0]
    steps = probe.steps_per_epoch(len(fold.train))
    training = plan.steps() * (
        steps * probe.step + len(fold.validation) * probe.validation_per_clip
    )
    search, following = _search(plan, training), _following(plan, training)
    store_seconds = rate * sum(s for *_, s in stores.values()) / cores()
    return Estimate(
        device=_device_name(device),
        step=probe.step,
        training=training,
        store=store_seconds,
        search=search,
        whole=tuple(store_seconds + part + following for part in search),  # type: ignore[arg-type]
        memory=_memory(device),
        store_bytes=round(sum(BYTES * k[0] * c * n * s for k, (c, n, s) in stores.items())),
        run_bytes=_run_bytes(plan, probe, len(fold.validation), tested),
    )


def _some(data: TrainingData) -> TrainingData:
    """Clips from all over the set (the whole gallery, which is searched as one), and none to
    validate on, which would have to be decoded too."""

    def spread(clips: ClipSet) -> ClipSet:
        places = np.linspace(0, len(clips) - 1, min(PROBE_CLIPS, len(clips)))
        return clips.some(places.astype(int))

    unlabelled = {
        role: clips if role in SEARCHED else spread(clips)
        for role, clips in data.unlabelled.items()
    }
    return replace(data, labelled=spread(data.labelled), unlabelled=unlabelled, validation=None)


def _search(plan: Plan, training: float) -> tuple[float, float]:
    """Expected seconds if the pruner stops two of three trials at its first rung, and at most."""
    slots = min(plan.resources.concurrency, plan.trials)
    folds = plan.splits["searched"]
    most = plan.trials * folds * training / slots
    if plan.halving is None:
        return most, most
    completed = 1 + (plan.trials - 1) / plan.halving.reduction_factor
    stopped = (plan.trials - completed) * plan.halving.min_step / plan.steps()
    return (completed * folds + stopped) * training / slots, most


def _following(plan: Plan, training: float) -> float:
    members = min(plan.stage.top_k, plan.trials)
    missing = len(plan.splits["folds"]) - plan.splits["searched"]
    trainings = members * (missing + plan.final_is_refit())
    return trainings * training / min(plan.resources.concurrency, max(trainings, 1))


def _memory(device: str) -> int:
    """Bytes that one trial's process takes: on the GPU its tensors', else all of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run_bytes(plan: Plan, probe: Probe, validation: int, tested: float) -> int:
    """Models and epoch scores of all trials, checkpoints of those that run, test predictions."""
    folds, members = len(plan.splits["folds"]), min(plan.stage.top_k, plan.trials)
    epochs = 4 * plan.steps() * validation * len(plan.classes)
    models = (plan.trials * plan.splits["searched"] + members * folds) * (probe.bytes + epochs)
    checkpoints = 4 * probe.bytes * plan.resources.concurrency  # model, its best, Adam's moments
    frames = 4 * tested * probe.frames_per_second * len(plan.classes)
    return round(models + checkpoints + members * frames)


def _device_name(device: str) -> str:
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu, {torch.get_num_threads()} thread(s)"
