"""Every meta-learner by name: one module per family, found by its ``LEARNERS``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.plan.stage import Manner
from orchestrator.runs.files import read_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.wrappers.around import Around
from orchestrator.stacking.wrappers.chosen import OverChosen
from orchestrator.stacking.wrappers.frame_pooling import FramePooled
from orchestrator.stacking.wrappers.gate import Gated
from orchestrator.stacking.wrappers.levelled import Levelled
from orchestrator.stacking.wrappers.nested import Nested, Part
from orchestrator.stacking.wrappers.per_fold import PerFold
from systems import config as configs
from systems.errors import UserError, unknown

MODULES = (
    "means", "ranks", "votes", "snapshots", "simplex", "selection", "logistic_regression",
    "calibration_fusion", "classwise", "domains", "thresholds", "event_thresholds", "boosting",
    "support_vectors", "networks",
)  # fmt: skip

# How a state that is no plain learner's says which wrapper it is of.
WRAPPERS: dict[str, type[Around]] = {
    one.kind: one for one in (PerFold, OverChosen, Gated, Nested, FramePooled, Levelled)
}


@cache
def learners() -> dict[str, type[Learner]]:
    """Name -> learner, in the order of the families."""
    modules = (
        importlib.import_module(f"orchestrator.stacking.learners.{name}") for name in MODULES
    )
    return {kind.name: kind for module in modules for kind in module.LEARNERS}


def kind_of(name: str) -> type[Learner]:
    """The class of a meta-learner. Raises UserError for an unknown name."""
    if name not in learners():
        raise unknown("meta-learner", name, learners())
    return learners()[name]


def learner(name: str, settings: Any = None, manner: Manner | None = None) -> Learner:
    """A fresh meta-learner; without settings with the paper's, without a manner alone.

    With a manner, what means something within one model alone (embeddings) gets a learner for each
    fold always, and what may turn a member around sees the folds at one level.
    """
    kind = kind_of(name)
    if manner is None:
        return kind(settings)

    def pooled() -> Learner:
        made: Learner = Levelled(kind(settings)) if kind.turns else kind(settings)
        assert manner is not None
        return made if manner.pool == "clips" else FramePooled(made, manner.pool)

    made = pooled()
    if manner.by_fold or kind.one_model:
        made = PerFold(pooled, manner.mean, manner.folds_predict)
    if manner.parts:
        made = Nested(made, [_part(part, manner) for part in manner.parts])
    return made if manner.events_of is None else Gated(made, manner.events_of)


def _part(part: Mapping[str, Any], outer: Manner) -> Part:
    """A part of a fusion of fusions, from its JSON: name, places, learner, settings, manner."""
    inner = None
    if part["learner"] is not None:
        settings = configs.replace(kind_of(part["learner"]).Settings(), part["settings"])
        own = {**part["manner"], "mean": outer.mean, "folds_predict": outer.folds_predict}
        inner = learner(part["learner"], settings, Manner(**{**own, "parts": tuple(own["parts"])}))
    return Part(part["name"], tuple(part["places"]), inner)


def load_learner(folder: Path) -> Learner:
    """The fitted meta-learner in a folder; nothing in it is unpickled.

    Raises:
        UserError: it is none that this version reads.
        OSError: a file of it cannot be read.
    """
    try:
        fitted = _restored(read_json(LearnerDir(folder).learner))
        fitted.load_parts(folder)
    except OSError:  # of the disk, not of what is on it
        raise
    except Exception as error:  # each library that reads parts has its own
        raise UserError(
            f"{folder} holds no meta-learner that this version reads ({type(error).__name__}: "
            f"{error}). Fit it again: soundsweep stack RUN --stack {folder.name}."
        ) from error
    return fitted


def _restored(about: Mapping[str, Any]) -> Learner:
    """A learner from what :meth:`Learner.described` says of it, but for its parts."""
    kind = kind_of(about["name"])
    settings = configs.from_dict(kind.Settings, about["settings"])
    made = _around(kind, settings, about["state"])
    made.restore(about["state"])
    return made


def _around(kind: type[Learner], settings: Any, state: Mapping[str, Any]) -> Learner:
    """A fresh learner in the wrappers that its state tells of."""
    if "kind" not in state:
        return kind(settings)
    wrapper = WRAPPERS[state["kind"]]
    return wrapper.rebuilt(dict(state), lambda inner: _around(kind, settings, inner), _restored)
