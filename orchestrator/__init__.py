"""soundsweep in Python: ``launch(Options(...))``, ``open_run(path)``, ``compare(first, second)``.

Importing this sets nothing in the environment and starts nothing. It makes every registered system
a name that Ray Tune knows (:mod:`orchestrator.pipeline.trainables`), once ``ray.tune`` is there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from orchestrator.console.progress import Progress
    from orchestrator.pipeline.launch import compare, launch, open_run, resume, stack
    from orchestrator.pipeline.reproduce import reproduce
    from orchestrator.pipeline.run import Comparison, Results, Run
    from orchestrator.pipeline.trainables import train_loop
    from orchestrator.plan.options import Changes, Options, StackOptions
    from systems.errors import UserError

__all__ = [
    "Changes", "Comparison", "Options", "Progress", "Results", "Run", "StackOptions", "UserError",
    "compare", "launch", "open_run", "reproduce", "resume", "stack", "train_loop",
]  # fmt: skip

# Loaded when they are asked for: a command that only lists must not wait for torch.
_HOMES = {
    "orchestrator.console.progress": ("Progress",),
    "orchestrator.pipeline.launch": ("compare", "launch", "open_run", "resume", "stack"),
    "orchestrator.pipeline.reproduce": ("reproduce",),
    "orchestrator.pipeline.run": ("Comparison", "Results", "Run"),
    "orchestrator.pipeline.trainables": ("train_loop",),
    "orchestrator.plan.options": ("Changes", "Options", "StackOptions"),
    "systems.errors": ("UserError",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'orchestrator' has no attribute '{name}'")


def _register(tune: Any) -> None:
    import ray

    if ray._private.worker.global_worker.mode == ray.WORKER_MODE:
        return  # it is told by its driver what to run, and need not know every paper
    from orchestrator.pipeline.trainables import register

    register()


register_post_import_hook(_register, "ray.tune")
