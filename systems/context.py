"""The context of a training: device, seed, threads, reports and checkpoints.

A system trains the same in a bare process, in a Tune trial and in a refit; the context differs.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed
from torch import nn

from systems.errors import unknown
from systems.files import whole

T = TypeVar("T")

# All that a training keeps to go on from has a name that begins so.
CHECKPOINT, RECORDS = "checkpoint.pt", "checkpoint_steps.bin"


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from a run seed, a phase, an epoch, ...; the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Context:
    """A bare process: checkpoints in a folder (or nowhere), reports to a function.

    Args:
        folder: where checkpoints go; ``None`` keeps none.
        device: torch device name, e.g. ``cpu`` or ``cuda:0``.
        seed: everything random in the training is drawn from it.
        threads: torch threads; equal threads give equal bits on the CPU. 0 leaves them alone.
        rank: which of ``world`` data-parallel workers this is; they share torch's default process
            group.
        world: number of workers.
        last_step: end the schedule after this many steps (a refit runs a fixed share of it).
        rates: the learning rates that a refit goes through, of its folds' schedules.
        on_report: called with (step, metrics) after each step's checkpoint is on disk.
        may_publish: asked before each checkpoint; raises where another driver took the run over.
        required: name -> loads what the system named as required.
        required_about: name -> ``system`` and ``config`` (as JSON has it) of what is loaded fitted.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        device: str = "cpu",
        seed: int = 0,
        threads: int = 0,
        rank: int = 0,
        world: int = 1,
        last_step: int | None = None,
        rates: Sequence[float] = (),
        on_report: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None,
        may_publish: Callable[[], None] = lambda: None,
        required: Mapping[str, Callable[[], Any]] | None = None,
        required_about: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self.device = torch.device(device)
        self.seed = seed
        self.threads = threads
        self.rank, self.world = rank, world
        self.last_step = last_step
        self.rates = rates
        self.may_publish = may_publish
        self._required = dict(required or {})
        self._required_about = dict(required_about or {})
        self._on_report = on_report
        if threads:
            torch.set_num_threads(threads)

    def child(self, phase: str, *, last_step: int | None = None, silent: bool = False) -> Context:
        """The context of a pass, round or fold (``round3/fold2``), with its own checkpoint.

        Its seed follows from the phase. ``silent`` children report to nobody (folds after the
        first, which are never stopped early).
        """
        return Context(
            None if self.folder is None else self.folder / phase,
            device=str(self.device),
            seed=seed_of(self.seed, phase),
            threads=self.threads,
            rank=self.rank,
            world=self.world,
            last_step=self.last_step if last_step is None else last_step,
            on_report=(lambda step, metrics: None) if silent else self._on_report,
            may_publish=self.may_publish,
            required=self._required,
            required_about=self._required_about,
        )

    def required(self, name: str) -> Any:
        """What the system named as required: predictions, or a fitted system.

        Raises:
            UserError: it named none so.
        """
        if name not in self._required:
            raise unknown("requirement", name, self._required)
        return self._required[name]()

    def required_about(self, name: str) -> dict[str, Any]:
        """What a fitted system is that was named as required: ``system``, its address, and
        ``config`` as JSON has it. With both and what :meth:`required` gives a pupil can save all
        that it predicts with.

        Raises:
            UserError: none is required fitted under that name.
        """
        if name not in self._required_about:
            raise unknown("fitted requirement", name, self._required_about)
        return self._required_about[name]

    def seed_step(self, step: int) -> np.random.Generator:
        """Seed Python, NumPy and torch for one step and return a generator for its batches.

        Each step is a function of (seed, step) alone, so that a restored training continues as an
        uninterrupted one would. All workers draw the same batches, and other dropout.
        """
        seed = seed_of(self.seed, step)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed_of(seed, self.rank) if self.rank else seed)
        return np.random.default_rng(seed)

    def mixed_precision(self) -> torch.autocast:
        """bfloat16 where that is faster, on CUDA; float32 elsewhere. For the network's forward
        pass alone: front ends, losses and what differentiates to its input stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network; of several workers with their gradients averaged."""
        if self.world == 1:
            return network
        # VAT runs the network several times a step: buffers that change in place would break that.
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This worker's part of a batch."""
        return rows[self.rank :: self.world]

    def from_first(self, compute: Callable[[], T]) -> T:
        """What the first worker computes, on all of them."""
        if self.world == 1:
            return compute()
        box = [compute() if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(box)
        return cast(T, box[0])

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means over all workers."""
        if self.world == 1:
            return dict(values)
        summed = torch.tensor(list(values.values()), device=self.device, dtype=torch.float32)
        torch.distributed.all_reduce(summed)
        return dict(zip(values, (summed / self.world).tolist(), strict=True))

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the metrics of a finished step. Call it after :meth:`save`."""
        self._on_report(step, metrics)

    def save(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        """Publish a checkpoint (tensors, numbers, strings, lists, dicts) atomically.

        ``name``: another file, of what changes more rarely than the checkpoint is written.
        """
        if self.folder is None or self.rank > 0:
            return
        # Through memory: torch's own writer hides from us that a disk is full.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        with whole(self.folder / name) as temporary:
            with open(temporary, "wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            self.may_publish()

    def restore(self, name: str = CHECKPOINT) -> dict[str, Any] | None:
        """The last published checkpoint (or what :meth:`save` wrote by that name), or ``None``."""
        if self.folder is None or not (self.folder / name).exists():
            return None
        # To the CPU: what is loaded into a model moves to its device, the history stays here.
        state: dict[str, Any] = torch.load(
            self.folder / name, map_location="cpu", weights_only=True
        )
        return state

    def keep_record(self, step: int, record: bytes) -> None:
        """Write what a step adds to the checkpoint, once; all steps' records are of one size.

        Call it before the step's :meth:`save`. Each step has its place in the file: what a killed
        step left there is written over when the step is trained again.
        """
        if self.folder is None or self.rank > 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.may_publish()
        path = self.folder / RECORDS
        path.touch()
        with open(path, "r+b") as file:
            file.seek((step - 1) * len(record))
            file.write(record)
            file.flush()
            os.fsync(file.fileno())

    def records(self, steps: int, size: int) -> bytes:
        """The records of the first ``steps`` steps, each of ``size`` bytes."""
        if self.folder is None or not steps * size:
            return b""
        with open(self.folder / RECORDS, "rb") as file:
            return file.read(steps * size)

    def forget(self, pattern: str, *but: str) -> None:
        """Remove files of that pattern which :meth:`save` wrote, but for some."""
        if self.folder is None or self.rank > 0:
            return
        for path in self.folder.glob(pattern):
            if path.name not in but:
                path.unlink(missing_ok=True)

    def scratch(self) -> str | None:
        """A folder for what is large and lasts no longer than the training; ``None``: any."""
        return str(self.folder) if self.folder is not None and self.folder.is_dir() else None
