"""What the finished models of a run say of its clips."""

from __future__ import annotations

from orchestrator.members.rows import pooled
from orchestrator.models.bundle import chosen
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError
from systems.predictions import Predictions


def predictions_of(run: RunDir, model: str, part: str) -> Predictions:
    """What a model says of the test part, or of the validation clips (``out_of_fold``).

    Raises:
        UserError: there is no such model or part, or the run has not come so far.
    """
    if part not in ("test", "out_of_fold"):
        raise UserError(f"predictions are of the part test or out_of_fold, not '{part}'.")
    plan, choice = chosen(run, model)
    member, variant = choice.members[0], choice.variants[0]
    if choice.learner is not None:
        path = run.learner(choice.learner).predictions(part)
    elif part == "out_of_fold":
        return pooled(member, len(member.plan.splits["folds"]))
    else:
        path = member.run.trial(member.number).test_predictions(variant, plan.stage.final)
    if not path.exists():
        raise UserError(f"{model} of {run.path} has predicted nothing of that part yet.")
    return Predictions.load(path)
