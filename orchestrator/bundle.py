"""A run's best model or stack as a self-contained folder, a *bundle*.

It needs neither the run nor its data::

    bundle.json                       what it is (see :func:`export`)
    members/00003/model.safetensors   weights, as ``Fitted.save`` writes them
    members/00003/model.json          classes, training length, thresholds and median widths
    learner.json                      a stack's meta-learner
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, read_json, write_json
from systems import config as configs
from systems.errors import UserError, unknown

FORMAT = 1  # of bundle.json


@dataclass(frozen=True)
class _Choice:
    """What a bundle holds: trials in order, the first one's decision variant, a meta-learner."""

    members: tuple[int, ...]
    variant: str
    learner: str | None = None


def export(run: RunDir, folder: Path, *, model: str = "best") -> Path:
    """Write a bundle of one of a run's models; returns its folder.

    ``bundle.json`` states ``format``, ``system``, ``members`` (trial and full configuration),
    ``learner``, ``variant`` (of the decision), ``classes``, ``rate`` (Hz), ``frame_hop`` (s),
    ``version`` (of the package
    that trained it), ``run`` (name, id), ``dataset``, ``fingerprint`` and ``test``
    (scores with intervals, ``None`` before the test part is scored).

    Args:
        run: the run directory.
        folder: where the bundle comes to lie; it appears whole or not at all.
        model: ``best`` (the first member under the plan's decision), ``best:VARIANT`` (under
            another one), ``trial:N`` (another member) or a meta-learner's name.

    Raises:
        UserError: there is no such model, the run has not come so far, or the folder exists.
    """
    plan = _plan(run)
    choice = _choose(run, plan, model)
    _check_finished(run, plan, choice)
    folder = folder.resolve()
    if folder.exists():
        raise UserError(f"{folder} exists: name another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        aside = Path(temporary) / "bundle"
        for number in choice.members:
            _export_member(run, plan, choice, number, member_folder(aside, number))
        if choice.learner:
            shutil.copyfile(run.stack(choice.learner) / "learner.json", aside / "learner.json")
        write_json(aside / "bundle.json", _describe(run, plan, choice, aside))
        os.rename(aside, folder)
    return folder


def sources(run: RunDir, model: str) -> list[Path]:
    """The files and folders of a run that a bundle is made from."""
    plan = _plan(run)
    choice = _choose(run, plan, model)
    found = [run.plan, run.members, run.scores]
    for number in choice.members:
        found += [_trained(run, plan, number), run.trial(number).decision(choice.variant)]
    return [*found, run.stack(choice.learner) / "learner.json"] if choice.learner else found


def _plan(run: RunDir) -> Plan:
    if not run.plan.exists():
        raise UserError(f"{run.path} holds no run: it has no plan.json.")
    return Plan.from_json(read_json(run.plan))


def _choose(run: RunDir, plan: Plan, model: str) -> _Choice:
    """The model of this name. Raises UserError where there is none."""
    from orchestrator.members import decision_variants  # loads Ray: a Predictor does without

    if not run.members.exists():
        raise _unfinished(run, plan, "its search has not ended")
    numbers = tuple(member["trial"] for member in read_json(run.members)["members"])
    variants = list(decision_variants(plan))
    choices = {"best": _Choice(numbers[:1], variants[0])}
    choices |= {f"best:{variant}": _Choice(numbers[:1], variant) for variant in variants}
    choices |= {f"trial:{number}": _Choice((number,), variants[0]) for number in numbers}
    choices |= {name: _Choice(numbers, variants[0], name) for name in plan.stack}
    if model not in choices:
        raise unknown(f"model of the run '{plan.name}':", model, choices)
    return choices[model]


def _check_finished(run: RunDir, plan: Plan, choice: _Choice) -> None:
    missing = [
        f"trial {number} has no final model"
        for number in choice.members
        if not (_trained(run, plan, number) / "model.json").exists()
        or not run.trial(number).decision(choice.variant).exists()
    ]
    if choice.learner and not (run.stack(choice.learner) / "scores.json").exists():
        missing.append(f"the meta-learner {choice.learner} has not been fitted")
    if missing:
        raise _unfinished(run, plan, "; ".join(missing))


def _unfinished(run: RunDir, plan: Plan, missing: str) -> UserError:
    return UserError(
        f"the run '{plan.name}' has not come so far: {missing}. Go on with it first: "
        f"`soundsweep run --resume {run.path}`."
    )


def _trained(run: RunDir, plan: Plan, number: int) -> Path:
    """The folder of a member's final model."""
    trial = run.trial(number)
    return trial.refit / "model" if plan.final_is_refit() else trial.model(0)


def member_folder(bundle: Path, number: int) -> Path:
    """Where a bundle keeps the model of a trial."""
    return bundle / "members" / f"{number:05d}"


def _config(run: RunDir, plan: Plan, choice: _Choice, number: int) -> Any:
    from orchestrator.members import decision_variants

    config = plan.trial_config(read_json(run.trial(number).config)["params"])
    return configs.replace(config, decision_variants(plan)[choice.variant])


def _export_member(run: RunDir, plan: Plan, choice: _Choice, number: int, folder: Path) -> None:
    fitted = (
        plan.entry().build(_config(run, plan, choice, number)).load(_trained(run, plan, number))
    )
    if plan.entry().decision is not None:
        fitted = fitted.with_decision(read_json(run.trial(number).decision(choice.variant)))
    fitted.save(folder)


def _describe(run: RunDir, plan: Plan, choice: _Choice, bundle: Path) -> dict[str, Any]:
    members = [(number, _config(run, plan, choice, number)) for number in choice.members]
    number, config = members[0]
    first = plan.entry().build(config).load(member_folder(bundle, number))
    return {
        "format": FORMAT,
        "system": plan.system,
        "members": [{"trial": n, "config": json.loads(configs.to_json(c))} for n, c in members],
        "learner": choice.learner,
        "variant": choice.variant,
        "classes": list(plan.classes),
        "rate": first.rate,
        "frame_hop": first.frame_hop,
        "version": plan.versions.get("soundsweep"),
        "run": {"name": plan.name, "id": plan.run_id},
        "dataset": plan.dataset,
        "fingerprint": plan.fingerprint,
        "test": _test_scores(run, choice),
    }


def _test_scores(run: RunDir, choice: _Choice) -> dict[str, Any] | None:
    """The row of scores.json that is of this model: its metrics, and whether it is transductive."""
    for row in read_json(run.scores)["rows"] if run.scores.exists() else ():
        mine = (choice.learner, None if choice.learner else choice.members[0])
        if (row["learner"], row["trial"]) == mine and row["variant"] in (None, choice.variant):
            return {"metrics": row["metrics"], "transductive": row["transductive"]}
    return None
