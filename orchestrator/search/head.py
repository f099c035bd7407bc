"""A cluster whose head is lost: told before Ray ends this process without a word.

Ray's own client ends the process of a driver that has not reached the head for a minute
(``gcs_rpc_server_reconnect_timeout_s``): nothing in Python can catch that. Whatever is done is on
disk by then, as after a kill.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator

from orchestrator.console.request import looking
from orchestrator.plan.plan import IN_PROCESS

LOOK = 2.0  # seconds between two looks
LOST = 30.0  # seconds without an answer after which the head counts as lost


@contextlib.contextmanager
def watched_head(ray_address: str | None, run: str) -> Iterator[None]:
    """While a run works on a cluster, end this process with code 2, with how to go on, where the
    head is lost."""
    if ray_address == IN_PROCESS:
        yield
        return
    from orchestrator.search.ray_session import cluster_at

    if cluster_at(ray_address) is None:
        yield
        return
    with looking(_Head(run).look, LOOK):
        yield


class _Head:
    """When the head answered last."""

    def __init__(self, run: str) -> None:
        self.run, self.answered, self.address = run, time.monotonic(), ""

    def look(self) -> None:
        """End this process where the head is lost."""
        import ray

        if not self.address and ray.is_initialized():
            self.address = ray.get_runtime_context().gcs_address
        if not self.address or answers(self.address):
            self.answered = time.monotonic()
        elif time.monotonic() - self.answered > LOST:
            sys.stdout.flush()
            print(
                f"error: the cluster's head at {self.address} has not answered for {LOST:g} s. "
                "What is done is kept. Once a cluster is there: soundsweep run --resume "
                f"{self.run} --ray-address HOST:PORT",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            os._exit(2)  # an orderly end would wait for the head


def answers(address: str) -> bool:
    """Whether anything listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True
