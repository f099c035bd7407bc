"""How much memory the data takes on a node, and what one more trial takes beside it.

Processes that map the same waveform store read all of it. The kernel divides each page among those
that map it (PSS), so the sum over the processes is what the store takes on the node; one process
that maps it alone is the baseline. Then trials run at once as Ray actors, and each states what it
has for itself (USS), without the store.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import ray
from measuring import TINY, parse, parser, ratio, ready, row, run, scratch

from orchestrator.console.interrupts import Stop
from orchestrator.search.ray_session import start_ray
from orchestrator.training.job import Job
from systems.data.prepare import Sound

MIB = 2**20


def mapped(path: str = "") -> Mapping[str, int]:
    """Bytes by kind (Rss, Pss, Private_Clean, ...) of this process's mappings of a file, or of all.

    From /proc/self/smaps: Linux alone.
    """
    found: dict[str, int] = {}
    counts = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *fields = line.split()
        if not first.endswith(":"):
            counts = line.endswith(path)
        elif counts and fields[-1] == "kB":
            found[first[:-1]] = found.get(first[:-1], 0) + 1024 * int(fields[0])
    return found


def private(sizes: Mapping[str, int]) -> int:
    """Bytes that no other process has."""
    return sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)


def hold(store: Sound, clip_ids: tuple[str, ...], barrier: Barrier) -> Mapping[str, int]:
    """Read every clip, wait until all have, and say what the mapping takes."""
    for clip_id in clip_ids:
        store[clip_id].sum()
    barrier.wait()
    sizes = mapped("waveforms.f32")
    barrier.wait()
    return sizes


def shared_by(count: int, store: Sound, clip_ids: tuple[str, ...]) -> tuple[int, int]:
    """Bytes of the store in so many processes: the sum of PSS and of RSS."""
    forked = multiprocessing.get_context("fork")  # nobody has touched the mapping before the fork
    with forked.Manager() as manager, ProcessPoolExecutor(count, mp_context=forked) as pool:
        barrier: Any = manager.Barrier(count)
        tasks = [pool.submit(hold, store, clip_ids, barrier) for _ in range(count)]
        sizes = [task.result() for task in tasks]
    return sum(s["Pss"] for s in sizes), sum(s["Rss"] for s in sizes)


class Trial:
    """A process that trains as a trial does."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def train(self, epochs: int) -> None:
        """Train the first trial's configuration for some epochs."""
        config = self.job.plan.trial_config(self.job.plan.first_trial)
        context = self.job.context(last_step=epochs)
        sound = self.job.sounds(config)
        self.job.plan.entry().build(config).train(self.job.folds[0], sound, context)

    def private(self) -> int:
        """Bytes of this process alone, without the store."""
        return private(mapped()) - private(mapped("waveforms.f32"))


def actors_private(job: Job, count: int, epochs: int) -> tuple[list[int], list[int]]:
    """Private bytes of each of so many trials at once, before and after they have trained."""
    kind: Any = ray.remote(Trial)
    actors = [kind.options(num_cpus=1).remote(job) for _ in range(count)]
    before = ray.get([actor.private.remote() for actor in actors])
    ray.get([actor.train.remote(epochs) for actor in actors])
    return before, ray.get([actor.private.remote() for actor in actors])


def main() -> None:
    made = parser(__doc__, "gcrnn_vat")
    made.add_argument("--budget", default="quick", help="quick, paper or a factor (default: quick)")
    made.add_argument(
        "--epochs", type=int, default=2, help="epochs that the trials train (default: 2)"
    )
    made.add_argument("--trials", type=int, default=2, help="trials at once (default: 2)")
    made.set_defaults(set=())
    given = parse(made, {"epochs": 1, "set": TINY})
    with scratch() as root:
        _, job, dataset = ready(
            given, Path(root), budget=given.budget, set=given.set, name="memory"
        )
        show_store(next(iter(job.stores.values())), tuple(clip.clip_id for clip in dataset.clips))
        start_ray(given.trials, Stop())
        show_trials(*actors_private(job, given.trials, given.epochs))
        ray.shutdown()


def show_store(store: Sound, clip_ids: tuple[str, ...]) -> None:
    """What the store takes in one, two and four processes."""
    size = sum(store[clip_id].nbytes for clip_id in clip_ids)
    print(f"a waveform store of {size / MIB:.0f} MiB, mapped and read by several processes")
    row("processes", "sum of PSS", "sum of RSS")
    took = {count: shared_by(count, store, clip_ids) for count in (1, 2, 4)}
    for count, (pss, rss) in took.items():
        row(f"{count}", f"{pss / MIB:.1f} MiB", f"{rss / MIB:.1f} MiB")
    for count in (2, 4):
        ratio(f"store's memory in {count} processes over one", took[count][0] / took[1][0], "1.00")


def show_trials(before: list[int], after: list[int]) -> None:
    """What trials have for themselves."""
    print(f"{len(after)} trials at once, private memory of each, without the store")
    row("started, before a training", *(f"{size / MIB:.0f} MiB" for size in before))
    row("after a training", *(f"{size / MIB:.0f} MiB" for size in after))
    mean = sum(after) / len(after)
    print(f"FIGURE private memory of one more trial: {mean / MIB:.0f} MiB", flush=True)
    ratio("  the same over a started process", mean * len(before) / sum(before))


if __name__ == "__main__":
    run(main)
