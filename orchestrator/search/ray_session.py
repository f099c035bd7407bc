"""Joining a Ray cluster, or starting a local one."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import ray
from ray._private.services import get_ray_address_from_environment

from orchestrator.console.interrupts import Stop
from systems.errors import UserError

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


def start_ray(cpus: int, stop: Stop, address: str | None = None) -> None:
    """Connect to the Ray cluster at an address, or start a local Ray with at least these CPUs.

    Without an address that is the cluster that ``ray start`` began on this machine (or that
    ``RAY_ADDRESS`` names), as under ``ray submit``, and a Ray of the run's own where there is none.

    Raises:
        UserError: nothing answers at the address, or it does not let us in.
    """
    prepare_environment()
    if ray.is_initialized():
        return
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tune prints a traceback of its own for each lost process, which is told in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    if address is None:  # Ray has no public way to ask; only with "auto" it uses a cluster's token
        found = get_ray_address_from_environment(None, None)  # type: ignore[arg-type]
        address = "auto" if found else "local"
    if address == "local":
        cores = max(cpus, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    else:
        _connect(address, quiet)
    stop.install()  # Ray has put handlers of its own in their place


def _connect(address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"--ray-address {address}: no Ray cluster can be joined there ({reason}). If the head "
            "asks for a token, give this node the same token file and set RAY_AUTH_MODE=token."
        ) from error
