"""The places of a sweep's trials: how many there are, and which trials wait for one."""

from __future__ import annotations

import time

import ray

from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Resources
from orchestrator.search.capacity import of_cluster
from orchestrator.search.ray_session import cluster_at

AGAIN = 5.0  # seconds between two questions to the cluster
LONG = 10.0  # seconds of waiting that are told


class Places:
    """As many as the plan says; on a cluster, unless so many were asked for, as many as fit now.

    Args:
        resources: what a trial takes, and how many were planned.
        ray_address: the run's.
        progress: is told what waits.
    """

    def __init__(self, resources: Resources, ray_address: str | None, progress: Progress) -> None:
        self.resources, self.progress = resources, progress
        self._asks = resources.as_fit and cluster_at(ray_address) is not None
        self._count, self._asked = resources.concurrency, float("-inf")
        self._since: dict[int, float] = {}
        self._told: set[int] = set()

    def count(self) -> int:
        """How many trials there may be at once, those that wait for a node included; at least 1."""
        if self._asks and time.monotonic() - self._asked > AGAIN:
            self._asked = time.monotonic()
            found = max(1, of_cluster().slots(self.resources))
            if found != self._count:
                self.progress.say(f"the cluster has room for {found} at once, not {self._count}")
            self._count = found
        return self._count

    def waits(self, number: int) -> None:
        """A trial waits for a place."""
        self._since.setdefault(number, time.monotonic())

    def leaves(self, number: int) -> None:
        """A trial has a place, or needs none any more."""
        self._since.pop(number, None)
        self._told.discard(number)

    def workers_wait(self) -> bool:
        """Whether a trial that has begun may be waiting for its workers' places."""
        return self.resources.workers > 1 and _unplaced() > 0

    def tell(self) -> None:
        """Tell which trials no node has room for, each once; others' processes are being started.

        Ray places them in their order: those that have waited least have none.
        """
        long = time.monotonic() - LONG
        if not any(since < long for n, since in self._since.items() if n not in self._told):
            return
        unplaced = min(_unplaced(), len(self._since))
        waiting = sorted(self._since, key=lambda n: self._since[n])[len(self._since) - unplaced :]
        new = [n for n in waiting if self._since[n] < long and n not in self._told]
        self._told.update(n for n, since in self._since.items() if since < long)
        if new:
            which = f"trial{'s' if len(new) > 1 else ''} {', '.join(map(str, new))}"
            verb = "are" if len(new) > 1 else "is"
            self.progress.say(
                f"{which} {verb} queued: no node has {self.resources.in_words()} free"
            )


def _unplaced() -> int:
    """How many reservations of the cluster wait for a node."""
    groups = ray.util.placement_group_table().values()
    return sum(group["state"] == "PENDING" for group in groups)
