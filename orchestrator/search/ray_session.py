"""Joining a Ray cluster, or starting a local one."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import ray
from ray._private.services import get_ray_address_from_environment
from ray.job_config import JobConfig

from orchestrator.console.interrupts import Stop, unhung
from orchestrator.search.admission import admitted, alone
from systems.errors import UserError
from systems.machine import cores, own_code

# Our own signal handler, no loggers beside ours, no usage statistics. All are read when Ray starts
# or when it runs a sweep; nothing is set before.
ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The searcher says how many trials there are at once: all of them may be asked for nodes.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    # Polite, and no more: at Ray's own 15 two busy neighbours left a sweep 4 % of two cores.
    "RAY_worker_niceness": "5",
    # Threads of a task that wait for each other sleep: spinning, two on a core that others use too
    # took five times as long as one.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Workers inherit these: glibc else gives each step's tensors back to the kernel and takes
    # them anew, page fault by page fault.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}


def prepare_environment() -> None:
    """Set what Ray reads from the environment; its workers inherit it."""
    os.environ.update(ENVIRONMENT)


class _OwnCode(JobConfig):
    """Workers import what the driver does. Ray would have them look first in the folder that one
    stands in: an older checkout there, or a file named like a package, would be what trains."""

    def _serialize(self) -> str:
        self._py_driver_sys_path = own_code()
        return super()._serialize()


# What Ray adds to its folder, at most: the address of a socket, of which Linux takes 107 bytes.
SOCKET, LONGEST = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store", 107


def dashboard() -> str | None:
    """The page of the cluster's dashboard; ``None`` where it has none, as a run's own Ray."""
    if not ray.is_initialized():
        return None
    address = ray.init(ignore_reinit_error=True).dashboard_url
    return f"http://{address}" if address else None


def temp_folder() -> str:
    """Ray's folder on this machine: its usual one, or one where its sockets' paths are short enough
    and nobody else is in the way.

    Raises:
        UserError: there is none.
    """
    for folder in _temp_folders():
        base = folder if os.path.isdir(folder) else os.path.dirname(folder)
        fits = len(os.fsencode(folder)) + len(SOCKET) <= LONGEST
        if fits and os.access(base, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        "Ray finds no folder for its sockets: each of its paths takes at most "
        f"{LONGEST - len(SOCKET)} bytes and must be writable. Tried: {', '.join(_temp_folders())}. "
        "Name a short one: RAY_TMPDIR=/folder."
    )


def _temp_folders() -> Iterator[str]:
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    for base in dict.fromkeys((usual, "/tmp", "/var/tmp", "/dev/shm")):
        yield os.path.join(base, "ray")
        yield os.path.join(base, f"ray-{os.getuid()}")


# Of every start: one line of ours for what goes wrong, and the driver's code.
QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": False,
}


def start_ray(cpus: int, stop: Stop, address: str | None = None) -> None:
    """Connect to the Ray cluster at an address, or start a local Ray with at least these CPUs.

    Without an address that is the cluster that ``ray start`` began on this machine (or that
    ``RAY_ADDRESS`` names), as under ``ray submit``, and a Ray of the run's own where there is none.

    Raises:
        UserError: nothing answers at the address, or it does not let us in; or this machine lets
            no Ray be started.
    """
    prepare_environment()
    if ray.is_initialized():
        return
    _hush()
    cluster = cluster_at(address)
    if cluster is None:
        _start(max(cpus, cores()))
    else:
        _connect(cluster)
    stop.install()  # Ray has put handlers of its own in their place


def cluster_at(address: str | None) -> str | None:
    """The cluster that a run with this address joins; ``None``: it starts a Ray of its own."""
    if address is None:  # Ray has no public way to ask; only with "auto" it uses a cluster's token
        found = get_ray_address_from_environment(None, None)  # type: ignore[arg-type]
        address = "auto" if found and found != "local" else "local"
    return None if address == "local" else address


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Connected to a cluster; afterwards as before.

    Raises:
        UserError: no cluster can be joined at the address.
    """
    if ray.is_initialized():
        yield
        return
    prepare_environment()
    _hush()
    _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def _hush() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tune prints a traceback of its own for each lost process, which is told in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # A lost node's last log would go to our output, whatever log_to_driver says.
    ray._private.worker.print_to_stdstream = lambda *about, **more: None


def _start(cpus: int) -> None:
    folder = temp_folder()
    try:
        with unhung(), alone():
            ray.init(
                address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder,
                job_config=_OwnCode(), **QUIET,
            )  # fmt: skip
    except OSError as error:
        raise UserError(
            f"Ray cannot be started on this machine (its folder is {folder}): {error}. Without it: "
            "--ray-address none."
        ) from error


def _connect(address: str) -> None:
    with admitted(address):
        ray.init(address=address, job_config=_OwnCode(), **QUIET)
