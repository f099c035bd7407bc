"""How much of an epoch the input pipeline takes, and how fast the waveform store is built.

The epoch is one of System.train. Its input pipeline (batches drawn from the store, and their copy
to the device) and its front end are timed apart, on the same numbers of clips. The store is built
from audio files, against soundfile and soxr in a plain loop; clips of a data set that has no files
are written as 44.1 kHz stereo WAV first.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from measuring import TINY, parse, parser, ratio, ready, row, run, scratch

from orchestrator.training.job import Job
from systems.context import Context
from systems.data.dataset import Dataset
from systems.data.files import Files
from systems.data.store import open_store
from systems.frontend.log_mel import LogMelFrontEnd
from systems.tracks import WaveformTrack
from systems.training.batches import index_batches

FILE_RATE = 44_100  # Hz
VALIDATION_BATCH = 30  # clips


def epoch_seconds(job: Job, epochs: int, device: str) -> float:
    """Seconds of an epoch: the median of all but the first."""
    config = job.plan.trial_config(job.plan.first_trial)
    context = Context(device=device, threads=1, last_step=epochs + 1)
    system = job.plan.entry().build(config)
    history = system.train(job.folds[0], job.sounds(config), context).history
    return statistics.median(metrics["seconds"] for metrics in history.metrics[1:])


def epoch_rows(job: Job) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The batches of an epoch: clip ids and which of them."""
    data, generator = job.folds[0], np.random.default_rng(0)
    training = job.plan.trial_config(job.plan.first_trial).training
    steps = training.steps(len(data.labelled))
    for clips, size in (
        (data.labelled, training.labelled),
        (data.unlabelled["unlabelled"], training.unlabelled),
    ):
        for rows in index_batches(len(clips), size, steps, generator):
            yield clips.clip_ids, rows
    ids = data.validation.clip_ids if data.validation else ()
    for start in range(0, len(ids), VALIDATION_BATCH):
        yield ids, np.arange(start, min(start + VALIDATION_BATCH, len(ids)))


def pipeline_seconds(job: Job, device: str) -> tuple[float, float, float]:
    """Seconds of an epoch's batches from the store, of their copies to the device, and of their
    front end."""
    config = job.plan.trial_config(job.plan.first_trial)
    waveforms = job.sounds(config)["audio"]
    longest = max(len(waveforms[i]) for i in job.folds[0].labelled.clip_ids)
    samples = min(round(config.clip_seconds * config.front_end.rate), longest)
    front_end = LogMelFrontEnd(config.front_end).to(device)
    store = copy = features = 0.0
    for ids, rows in epoch_rows(job):
        if not len(rows):
            continue
        clips = WaveformTrack(waveforms, ids)
        batch, seconds = timed(partial(clips.cut, [(row, 0, samples) for row in rows]), device)
        store += seconds
        moved, seconds = timed(partial(batch.to, device), device)
        copy += seconds
        _, seconds = timed(partial(front_end, moved), device)
        features += seconds
    return store, copy, features


def timed(function: Callable[[], torch.Tensor], device: str) -> tuple[torch.Tensor, float]:
    """What a function gives and the seconds that it took, those of the device included."""
    began = time.monotonic()
    value = function()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return value, time.monotonic() - began


def with_files(dataset: Dataset, count: int, folder: Path) -> Dataset:
    """The first clips of a data set, in files."""
    clips = dataset.clips[:count]
    if isinstance(dataset.source, Files):
        return dataclasses.replace(dataset, clips=clips)
    folder.mkdir()
    for clip in clips:
        samples, rate = dataset.source.read(clip.clip_id)
        sound = soxr.resample(np.repeat(samples, 2, axis=0).T, rate, FILE_RATE)
        soundfile.write(folder / f"{clip.clip_id}.wav", sound, FILE_RATE, subtype="PCM_16")
    paths = {clip.clip_id: f"{clip.clip_id}.wav" for clip in clips}
    return dataclasses.replace(dataset, clips=clips, source=Files(str(folder), paths))


def plain_loop(dataset: Dataset, rate: int, path: Path) -> float:
    """Seconds in which a plain loop decodes the clips into one array on disk."""
    began = time.monotonic()
    with open(path, "wb") as file:
        for clip in dataset.clips:
            samples, file_rate = soundfile.read(dataset.source.where(clip.clip_id), dtype="float32")
            mono = samples.mean(axis=1) if samples.ndim > 1 else samples
            if file_rate != rate:
                mono = soxr.resample(mono, file_rate, rate, quality="VHQ")
            file.write(mono.astype(np.float32).tobytes())
        file.flush()
        os.fsync(file.fileno())
    return time.monotonic() - began


def store_seconds(dataset: Dataset, rate: int, root: Path, workers: bool) -> float:
    """Seconds in which the store is built, in this process or by one process a core."""
    ids = tuple(clip.clip_id for clip in dataset.clips)
    began = time.monotonic()
    if workers:
        open_store(dataset, ids, rate, root)
    else:
        open_store(dataset, ids, rate, root, map)
    return time.monotonic() - began


def main() -> None:
    made = parser(__doc__, "gcrnn_vat")
    made.add_argument("--budget", default="quick", help="quick, paper or a factor (default: quick)")
    made.add_argument(
        "--epochs", type=int, default=5, help="epochs timed, after one apart (default: 5)"
    )
    made.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    made.add_argument(
        "--clips", type=int, default=400, help="clips that the store is built of (default: 400)"
    )
    made.set_defaults(set=())
    given = parse(made, {"epochs": 1, "clips": 32, "set": TINY})
    torch.set_num_threads(1)
    with scratch() as root:
        _, job, dataset = ready(given, Path(root), budget=given.budget, set=given.set, name="input")
        show_pipeline(given, job)
        show_store(dataset, next(iter(job.stores.values())).rate, given.clips, Path(root))


def show_pipeline(given: argparse.Namespace, job: Job) -> None:
    """Where the time of an epoch goes."""
    epoch = epoch_seconds(job, given.epochs, given.device)
    pipeline_seconds(job, given.device)  # warms up
    store, copy, features = pipeline_seconds(job, given.device)
    print(f"an epoch of {given.system}, budget {given.budget}, {given.device}, 1 thread")
    for name, seconds in (("whole epoch, validation included", epoch),
                          ("batches from the store", store), ("copies to the device", copy),
                          ("front end (log-mel)", features)):  # fmt: skip
        row(name, f"{1000 * seconds:.1f} ms", f"{seconds / epoch:.1%}")
    ratio("store and input pipeline over epoch", (store + copy) / epoch, "<= 0.05")


def show_store(dataset: Dataset, rate: int, count: int, root: Path) -> None:
    """How fast the store is built."""
    files = with_files(dataset, count, root / "files")
    n = len(files.clips)
    plain_loop(files, rate, root / "warm.f32")  # brings the files into the page cache
    plain = plain_loop(files, rate, root / "plain.f32")
    one = store_seconds(files, rate, root / "one", False)
    cores = store_seconds(files, rate, root / "cores", True)
    print(f"{n} clips to {rate} Hz mono on disk")
    for name, seconds in (("soundfile and soxr in a loop", plain), ("store, one process", one),
                          (f"store, {os.cpu_count()} processes", cores)):  # fmt: skip
        row(name, f"{n / seconds:.0f} clips/s", f"{seconds:.2f} s")
    ratio("plain loop's seconds over the store's, one process", plain / one)
    ratio(f"plain loop's seconds over the store's, {os.cpu_count()} processes", plain / cores)


if __name__ == "__main__":
    run(main)
