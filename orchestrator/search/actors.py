"""Trials whose processes Ray has ended because memory was low, as Tune is to see them: as lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller


class Actors(RayActorManager):
    """Tune's own. Ray tells the want of memory by an error that Tune knows nothing of (2.60) and
    takes for a fault of itself: it ends the whole search."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


@contextlib.contextmanager
def memory_is_a_loss() -> Iterator[None]:
    """While it is entered Tune begins trials with these."""
    controller: Any = tune_controller
    own, controller.RayActorManager = controller.RayActorManager, Actors
    try:
        yield
    finally:
        controller.RayActorManager = own
