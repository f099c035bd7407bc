"""Every meta-learner by name: one module per family, found by its ``LEARNERS``."""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.stacking.base import Learner
from orchestrator.stacking.chosen import OverChosen
from systems import config as configs
from systems.errors import unknown

MODULES = (
    "means", "votes", "snapshots", "simplex", "selection", "logistic_regression",
    "calibration_fusion", "classwise", "thresholds", "event_thresholds", "boosting",
    "support_vectors", "networks",
)  # fmt: skip


@cache
def learners() -> dict[str, type[Learner]]:
    """Name -> learner, in the order of the families."""
    modules = (importlib.import_module(f"orchestrator.stacking.{name}") for name in MODULES)
    return {kind.name: kind for module in modules for kind in module.LEARNERS}


def kind_of(name: str) -> type[Learner]:
    """The class of a meta-learner. Raises UserError for an unknown name."""
    if name not in learners():
        raise unknown("meta-learner", name, learners())
    return learners()[name]


def learner(name: str, settings: Any = None) -> Learner:
    """A fresh meta-learner; without settings with the paper's."""
    return kind_of(name)(settings)


def load_learner(folder: Path) -> Learner:
    """The fitted meta-learner in a folder; nothing in it is unpickled."""
    about = json.loads((folder / "learner.json").read_text(encoding="utf-8"))
    kind, state = kind_of(about["name"]), about["state"]
    fitted = kind(configs.from_dict(kind.Settings, about["settings"]))
    if "over" in state:
        fitted = OverChosen(fitted, state["over"], state["count"])
    fitted.restore(state)
    fitted.load_parts(folder)
    return fitted
