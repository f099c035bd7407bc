"""A run's best model or stack as a self-contained folder, a *bundle*.

It needs neither the run nor its data::

    bundle.json                          what it is (see :func:`export`)
    members/0/refit/model.safetensors    weights, as ``Fitted.save`` writes them
    members/0/refit/model.json           classes, training length, thresholds and median widths
    learner/                             a stack's meta-learner, as ``Learner.save`` writes it

A member is one model (``refit``), its folds' models (``fold0``, ...), and the epochs of its
training that a snapshot ensemble predicts with (``epoch10``, of a fold's ``fold0_epoch10``, ...).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.members.rows import Member, best_place, members_of, members_of_runs
from orchestrator.members.seen import Snapshots
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir, snapshot_name
from orchestrator.stacking.families import load_learner
from systems import config as configs
from systems.errors import UserError, unknown
from systems.kinds import KINDS

FORMAT = 3  # of bundle.json


@dataclass(frozen=True)
class _Choice:
    """What a bundle holds: members in order, the decision variant of each, a meta-learner."""

    members: tuple[Member, ...]
    variants: tuple[str, ...]
    learner: str | None = None
    epochs: Snapshots = field(default_factory=dict)  # of a snapshot ensemble


def export(run: RunDir, folder: Path, *, model: str = "best") -> Path:
    """Write a bundle of one of a run's models; returns its folder.

    ``bundle.json`` states ``format``, ``members`` (trial, system, full configuration, models),
    ``learner``, ``variant`` (of the first member's decision), ``mean_of_folds`` (how a member's
    models are averaged), ``label_kind``, ``classes``, ``rate``
    (Hz), ``frame_hop`` (s), ``version`` (of the package that trained it), ``run`` (name, id),
    ``dataset``, ``fingerprint`` and ``test`` (scores with intervals, ``None`` before the test part
    is scored).

    Args:
        run: the run directory.
        folder: where the bundle comes to lie; it appears whole or not at all.
        model: ``best`` (the first member under the plan's decision), ``best:VARIANT`` (under
            another one), ``trial:N`` (another member) or a meta-learner's name.

    Raises:
        UserError: there is no such model, the run has not come so far, or the folder exists.
    """
    plan, choice = chosen(run, model)
    folder = folder.resolve()
    if folder.exists():
        raise UserError(f"{folder} exists: name another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        aside = Path(temporary) / "bundle"
        for place, (member, variant) in enumerate(
            zip(choice.members, choice.variants, strict=True)
        ):
            for name, trained in _models(plan, choice, place).items():
                _export_model(member, variant, plan, trained, model_folder(aside, place, name))
        if choice.learner:
            _copy_learner(run.stack(choice.learner), aside / "learner")
        write_json(aside / "bundle.json", _describe(run, choice, aside))
        os.rename(aside, folder)
    return folder


def sources(run: RunDir, model: str) -> list[Path]:
    """The files and folders of a run that a bundle is made from."""
    plan, choice = _plan(run), _choose(run, model)
    found = [run.plan_file, run.members, run.scores]
    for place, (member, variant) in enumerate(zip(choice.members, choice.variants, strict=True)):
        found += _models(plan, choice, place).values()
        found.append(member.run.trial(member.number).decision(variant, plan.stage.final))
    return [*found, run.learner(choice.learner).learner] if choice.learner else found


def chosen(run: RunDir, model: str) -> tuple[Plan, _Choice]:
    """The finished model of this name: its members, their decisions, its meta-learner.

    Raises:
        UserError: there is no such model, or the run has not come so far.
    """
    plan, choice = _plan(run), _choose(run, model)
    _check_finished(run, choice)
    return plan, choice


def finished_models(run: RunDir) -> tuple[str, ...]:
    """The names of a run's models that are there, ``best`` first."""
    _plan(run)
    found = []
    for name, choice in _choices(run).items():
        with contextlib.suppress(UserError):
            _check_finished(run, choice)
            found.append(name)
    return tuple(found)


def _plan(run: RunDir) -> Plan:
    if not run.plan_file.exists():
        raise UserError(f"{run.path} holds no run: it has no plan.json.")
    return run.plan


def _choose(run: RunDir, model: str) -> _Choice:
    """The model of this name. Raises UserError where there is none."""
    plan = run.plan
    choices = _choices(run)
    if model not in choices:
        raise unknown(f"model of the run '{plan.name}':", model, choices)
    choice = choices[model]
    if choice.learner and run.learner(choice.learner).learner.exists():
        return replace(choice, epochs=load_learner(run.stack(choice.learner)).snapshots())
    return choice


def _choices(run: RunDir) -> dict[str, _Choice]:
    """All models that the plan names. Raises UserError where the search has not ended."""
    plan = run.plan
    from orchestrator.plan.variants import decision_variants

    if not run.members.exists():
        raise _unfinished(run, "its search has not ended")
    if plan.purpose == "stack":
        members = members_of_runs(plan)
    else:
        numbers = [member["trial"] for member in read_json(run.members)["members"]]
        members = members_of(run, numbers)
    own = tuple(next(iter(decision_variants(member.plan))) for member in members)
    place = best_place(members, plan)
    best = members[place : place + 1]
    choices = {"best": _Choice(best, own[place : place + 1])}
    if plan.purpose != "stack":
        variants = decision_variants(plan)
        choices |= {f"best:{variant}": _Choice(best, (variant,)) for variant in variants}
    choices |= {
        f"trial:{member.key}": _Choice((member,), (variant,))
        for member, variant in zip(members, own, strict=True)
    }
    return choices | {name: _Choice(members, own, name) for name in plan.stage.learners}


def _check_finished(run: RunDir, choice: _Choice) -> None:
    plan = run.plan
    if choice.learner and run.learner(choice.learner).refused.exists():
        why = read_json(run.learner(choice.learner).refused)["why"]
        raise UserError(f"the meta-learner {choice.learner} could not be fitted: {why}")
    if choice.learner and not run.learner(choice.learner).scores.exists():
        raise _unfinished(run, f"the meta-learner {choice.learner} has not been fitted")
    missing = [
        f"{member.name} has no final model"
        for place, (member, variant) in enumerate(zip(choice.members, choice.variants, strict=True))
        if not all((m / "model.json").exists() for m in _models(plan, choice, place).values())
        or not member.run.trial(member.number).decision(variant, plan.stage.final).exists()
    ]
    if missing:
        raise _unfinished(run, "; ".join(missing))


def _unfinished(run: RunDir, missing: str) -> UserError:
    plan = run.plan
    return UserError(
        f"the run '{plan.name}' has not come so far: {missing}. Go on with it first: "
        f"`soundsweep run --resume {run.path}`."
    )


def _models(plan: Plan, choice: _Choice, place: int) -> dict[str, Path]:
    """The trained models of a member, by name."""
    member = choice.members[place]
    trial = member.run.trial(member.number)
    if plan.stage.folds_predict:
        folds = range(len(member.plan.splits["folds"]))
        found = {f"fold{fold}": trial.model(fold) for fold in folds}
    elif member.plan.purpose == "train":
        found = {"refit": trial.model(0)}
    else:
        found = {"refit": trial.refit / "model"}
    return found | {
        snapshot_name(epoch, fold): trial.snapshot_model(epoch, fold)
        for (of, fold), epochs in choice.epochs.items() if of == place
        for epoch in epochs
    }  # fmt: skip


def model_folder(bundle: Path, place: int, name: str) -> Path:
    """Where a bundle keeps a model of a member."""
    return bundle / "members" / str(place) / name


def _config(member: Member, variant: str) -> Any:
    from orchestrator.plan.variants import decision_variants

    config = member.plan.trial_config(read_json(member.run.trial(member.number).config)["params"])
    return configs.replace(config, decision_variants(member.plan)[variant])


def _export_model(member: Member, variant: str, plan: Plan, trained: Path, folder: Path) -> None:
    entry = member.plan.entry()
    fitted = entry.build(_config(member, variant)).load(trained)
    if entry.decision is not None:
        decision = member.run.trial(member.number).decision(variant, plan.stage.final)
        fitted = fitted.with_decision(read_json(decision))
    fitted.save(folder)


def _copy_learner(fitted: Path, folder: Path) -> None:
    """The learner and its parts; not the predictions and searches beside it."""
    load_learner(fitted).save(folder)


def _describe(run: RunDir, choice: _Choice, bundle: Path) -> dict[str, Any]:
    plan = run.plan
    members = [
        {
            "trial": member.key,
            "system": member.plan.system,
            "config": json.loads(configs.to_json(_config(member, variant))),
            "models": list(_models(plan, choice, place)),
        }
        for place, (member, variant) in enumerate(zip(choice.members, choice.variants, strict=True))
    ]
    best, variant = choice.members[0], choice.variants[0]
    folder = model_folder(bundle, 0, members[0]["models"][0])
    first = best.plan.entry().build(_config(best, variant)).load(folder)
    return {
        "format": FORMAT,
        "members": members,
        "learner": choice.learner,
        "variant": variant,
        "label_kind": label_kind(plan),
        "classes": list(plan.classes),
        "rate": first.rate,
        "frame_hop": first.frame_hop,
        "version": plan.versions.get("soundsweep"),
        "run": {"name": plan.name, "id": plan.run_id},
        "mean_of_folds": plan.stage.mean_of_folds,
        "dataset": plan.dataset,
        "fingerprint": plan.fingerprint,
        "test": _test_scores(run, choice),
    }


def label_kind(plan: Plan) -> str:
    """Whether a clip has one ``class``, or ``tags``; of labels that say neither their kind."""
    named = [about["labels"] for about in plan.parts.values() if about["labels"] in KINDS]
    others = [name for name in named if not KINDS[name].says_tags]
    return others[0] if others else "class" if plan.exclusive() else "tags"


def _test_scores(run: RunDir, choice: _Choice) -> dict[str, Any] | None:
    """The row of scores.json that is of this model: its metrics, and whether it is transductive."""
    for row in read_json(run.scores)["rows"] if run.scores.exists() else ():
        mine = (choice.learner, None if choice.learner else choice.members[0].key)
        if (row["learner"], row["trial"]) == mine and row["variant"] in (None, choice.variants[0]):
            return {"metrics": row["metrics"], "transductive": row["transductive"]}
    return None
