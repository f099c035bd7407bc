"""A stack over the best trials of one run, which stays in it, or of several: a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.console.progress import Progress
from orchestrator.members.rows import members_of_runs
from orchestrator.pipeline.begin import begin, drive
from orchestrator.plan.options import StackOptions, asked_stage
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import StageSettings
from orchestrator.planning.checks import check_address, check_stage, check_tracking
from orchestrator.planning.gather import MLFLOW_ID, gather
from orchestrator.planning.learners import stack_names
from orchestrator.planning.resolve import reload
from orchestrator.planning.stacks import make_stack_plan, refuse_fitted
from orchestrator.runs.files import read_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import find_run, root_of
from orchestrator.stacking.families import kind_of, load_learner
from orchestrator.stacking.stage import refused, remember
from systems.errors import UserError


def stack_runs(options: StackOptions, progress: Progress) -> tuple[RunDir, bool]:
    """Fit meta-learners over the best trials of one run, or of several.

    One run keeps its stage two in itself, and what is fitted over the same members stays. Members
    of several make a run of their own.

    Returns:
        the run, and whether it came to its end.
    """
    names = options.runs
    check_stage(options.name, options.protocol, options.final, options.stage_trials)
    if len(names) == 1 and not options.systems and not MLFLOW_ID.fullmatch(names[0]):
        return _stack_within(find_run(names[0], options.storage), options, progress)
    if not names and not options.systems:
        raise UserError("name runs or MLflow run ids, or --system PAPER/SYSTEM.")
    top_k, root = _checked(options.top_k), root_of(options.storage, runs=True)
    plan, dataset, splits = make_stack_plan(
        gather(names, options.systems, top_k, root, options.mlflow),
        asked_stage(options, StageSettings()),
        stack=options.stack or "standard",
        name=options.name,
        protocol=options.protocol,
        mlflow=options.mlflow,
        ray_address=options.ray_address,
    )
    folder = RunDir(root / plan.name)
    return folder, begin(folder, plan, dataset, splits, progress)


def _stack_within(folder: RunDir, options: StackOptions, progress: Progress) -> tuple[RunDir, bool]:
    plan = folder.plan
    if not folder.members.exists():
        raise UserError(
            f"the search of '{plan.name}' has not ended: soundsweep run --resume {plan.name}."
        )
    _check_within(plan, options)
    dataset, splits = reload(plan)
    refuse_fitted(plan, splits)
    _checked(options.top_k)
    asked, stage = options.stack, asked_stage(options, plan.stage)
    if asked:
        stage = replace(stage, learners=stack_names(asked, dataset, plan.entry().gives))
    new = replace(
        plan,
        stage=stage,
        mlflow=options.mlflow or plan.mlflow,
        ray_address=options.ray_address or plan.ray_address,
    )
    check_address(new.ray_address)  # before anything is forgotten
    check_tracking(new.mlflow)
    with folder.drive():
        _forget_what_is_other(folder, new, new.stage.learners if asked else (), progress)
    return folder, drive(folder, new, dataset, splits, progress)


def _forget_what_is_other(
    folder: RunDir, new: Plan, named: Sequence[str], progress: Progress
) -> None:
    """Remove what a new stage two makes again; ``named``: learners that were asked for by name."""
    plan = folder.plan
    renewed = [_renew(folder.learner(name), progress) for name in named]
    if any(renewed) or new.stage.final != plan.stage.final or _unscored(folder, new):
        folder.scores.unlink(missing_ok=True)  # other models are to be scored
    if new.stage.trials != plan.stage.trials or _meets_otherwise(plan, new):
        remember(folder)
        folder.forget_scores()  # other learners are to be fitted


def _renew(learner: LearnerDir, progress: Progress) -> bool:
    """Let a learner that is asked for by name be fitted again where it was refused. One that this
    version cannot read is set aside for it; returns whether that was so.

    Raises:
        UserError: the disk cannot be read; the learner is left as it is.
    """
    learner.refused.unlink(missing_ok=True)
    if not (learner.learner.exists() or learner.scores.exists()):
        return False
    try:
        load_learner(learner.path)
        return False
    except FileNotFoundError as error:
        why = f"{error.filename} is not there."
    except OSError as error:
        raise UserError(f"{learner.path} cannot be read: {error.strerror}.") from error
    except UserError as error:
        why = str(error)
    progress.say(
        f"{learner.name} is fitted again, what was there is in {learner.set_aside()}: {why}"
    )
    return True


def _meets_otherwise(plan: Plan, new: Plan) -> bool:
    """Whether fitted meta-learners met their members in another manner than is asked for."""
    before, after = plan.stage, new.stage
    names = {*before.learners, *after.learners}
    by_fold = after.by_fold or any(kind_of(name).one_model for name in names)
    return before.by_fold != after.by_fold or (by_fold and before.manner != after.manner)


def _check_within(plan: Plan, options: StackOptions) -> None:
    """Refuse, before anything is changed, what a stack within a run cannot have."""
    if options.name is not None:
        raise UserError(
            f"--name {options.name}: the stack of one run stays in it ('{plan.name}'); a name is "
            "for a stack over several."
        )
    if options.protocol not in ("honest", plan.protocol):
        raise UserError(
            f"--protocol {options.protocol}: '{plan.name}' was planned with {plan.protocol}."
        )
    if plan.purpose == "stack":
        if options.top_k is not None:
            raise UserError(
                f"--top-k {options.top_k}: '{plan.name}' is a stack over chosen members; stack "
                "their runs under another --name."
            )
        members_of_runs(plan)


def _unscored(folder: RunDir, plan: Plan) -> bool:
    """Whether the plan names a meta-learner without test scores."""
    if not folder.scores.exists() or not plan.test_parts:
        return False
    found = read_json(folder.scores)
    scored = {row["learner"] for row in (*found["rows"], *found.get("submissions", ()))}
    left_out = {row["name"] for row in refused(folder, plan.stage.learners)}
    return not set(plan.stage.learners) <= scored | left_out


def _checked(top_k: int | None) -> int | None:
    if top_k is not None and top_k < 1:
        raise UserError(f"--top-k takes 1 or more, not {top_k}.")
    return top_k
