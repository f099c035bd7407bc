"""A training in several data-parallel workers: a Ray Train ``TorchTrainer`` inside a trial."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import traceback
from dataclasses import replace
from typing import Any

import ray.train
import ray.tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from orchestrator.runs.files import read_json, write_json
from orchestrator.training.elsewhere import Node, hand_over, lend
from orchestrator.training.fold import train
from orchestrator.training.job import Job, Report, Task, tell_all, tell_nobody
from systems.errors import Diverged, UserError


def train_in_workers(job: Job, task: Task, report: Report) -> None:
    """Train a task in the plan's number of workers; what they report reaches Tune.

    Raises:
        Diverged: the loss is not finite.
        UserError: a worker failed in a way that its user can mend.
        RuntimeError: a worker failed.
    """
    resources = job.plan.resources
    failure = job.trial(task.number).path / "worker_failure.json"
    failure.unlink(missing_ok=True)
    lend(job, task.number)
    scratch = tempfile.mkdtemp(prefix="soundsweep-")
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": replace(job, published=tell_all), "task": task},
        torch_config=TorchConfig(backend="nccl" if job.device == "cuda" else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, "GPU": resources.gpus},
        ),
        run_config=RunConfig(
            name=f"trial_{task.number:05d}_{task.fold}",
            storage_path=scratch,
            callbacks=[] if report is tell_nobody else [TuneReportCallback()],  # type: ignore[list-item]
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        hand_over(job, task.number)
        raise _failure(failure, error) from error
    else:
        hand_over(job, task.number)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _work(config: dict[str, Any]) -> None:
    """What each worker runs."""
    job, task = config["job"], config["task"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    node = Node(job, task.number)
    try:
        train(node.job, task, ray.train.report, rank, world)
        node.end()
    except Exception as error:
        write_json(
            node.job.trial(task.number).path / "worker_failure.json",
            {"kind": type(error).__name__, "cause": str(error), "rank": rank,
             "traceback": traceback.format_exc()},
        )  # fmt: skip
        node.end()
        raise


def _failure(path: Any, error: Exception) -> Exception:
    """What a worker failed with, as this process would have raised it."""
    full = os.strerror(errno.ENOSPC)
    if full in str(error):  # the worker could not write it down either
        return OSError(errno.ENOSPC, full)
    if not path.exists():
        return error
    told = read_json(path)
    kinds: dict[str, type[Exception]] = {"Diverged": Diverged, "UserError": UserError}
    kind = kinds.get(told["kind"])
    if kind is not None:
        return kind(told["cause"])
    return RuntimeError(f"worker {told['rank']}: {told['kind']}: {told['cause']}")
