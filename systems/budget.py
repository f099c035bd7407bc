"""Budgets: the published schedule, a share of it, or what a CPU can finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from systems import config as configs
from systems.errors import UserError
from systems.registry import Entry

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """What is done to every configuration of a run, after its searched values are in.

    ``fixed``: key -> value; ``times``: integer key -> factor; ``caps``: key -> largest.
    """

    text: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)

    def apply(self, config: T) -> T:
        """The configuration that is trained."""
        changes = dict(self.fixed)
        for key, factor in self.times.items():
            changes[key] = max(1, round(configs.get(config, key) * factor))
        for key, largest in self.caps.items():
            changes[key] = min(largest, changes.get(key, configs.get(config, key)))
        return configs.replace(config, changes)

    def scaled(self, config: Any) -> dict[str, tuple[Any, Any]]:
        """What differs from the published configuration: key -> (paper's, ours)."""
        before, after = configs.flatten(config), configs.flatten(self.apply(config))
        return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def make_budget(entry: Entry, text: str, max_epochs: int | None, keep: set[str]) -> Budget:
    """Read ``quick``, ``paper`` or a factor; ``keep`` names keys that the user set himself.

    Raises:
        UserError: the text is none of these, or a cap on a system without a schedule.
    """
    fixed: dict[str, Any] = {}
    times: dict[str, float] = {}
    if text == "quick":
        for key, value in entry.quick.items():
            if not any(key == kept or key.startswith(kept + ".") for kept in keep):
                fixed[key] = value
    elif text != "paper":
        factor = _factor(text)
        times = {key: factor for key in entry.schedule if key not in keep}
    if max_epochs is not None and max_epochs < 1:
        raise UserError(f"--max-epochs takes 1 or more, not {max_epochs}.")
    caps = {} if max_epochs is None else dict.fromkeys(entry.schedule, max_epochs)
    return Budget(text, fixed, times, caps)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise UserError(f"--budget takes quick, paper or a factor above 0, not '{text}'.")
    return factor
