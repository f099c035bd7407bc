"""What is scored on the test part: members' final models and the fitted meta-learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.members.rows import OutOfFold
from orchestrator.members.seen import Members, Targets
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, is_transductive, variants_of
from orchestrator.runs.files import read_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.ledger import FITTED
from orchestrator.stacking.crossfit import fused
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.learner import Learner
from systems.data.dataset import LabelKind
from systems.kinds import Truth
from systems.metrics import fused_by
from systems.predictions import Predictions


@dataclass(frozen=True)
class Candidate:
    """One model: ``about`` it as results.json has it, and its predictions of the test part."""

    about: dict[str, Any]
    predictions: Predictions

    def in_ledger(self, plan: Plan) -> str:
        """What the ledger calls it."""
        fitted = self.about["learner"] is not None and plan.stage.fitted_on == "test"
        parts = (self.about["who"], self.about["variant"], FITTED * fitted)
        return ", ".join(filter(None, parts))


def final_models(plan: Plan, rows: OutOfFold) -> list[Candidate]:
    """Members' final models, each under its decision variants."""
    how = {"refit": "refitted", "fold_mean": "mean of folds",
           "fold_geometric": "geometric mean of folds"}[plan.stage.final]  # fmt: skip
    if plan.stage.folds_predict and len(plan.splits["folds"]) == 1:
        how = "its fold's model"
    found = []
    for place, member in enumerate(rows.members):
        trial, variants = member.run.trial(member.number), decision_variants(member.plan)
        who = f"training {member.number}" if plan.purpose == "train" else f"{member.name}, {how}"
        for variant in variants_of(plan, variants, place):
            about = {
                "who": who,
                "trial": member.key,
                "learner": None,
                "variant": variant,
                "best": place == rows.best,
                "trivial": False,
                "transductive": is_transductive(member.plan, variants[variant]),
                "refinement": read_json(trial.decision(variant, plan.stage.final)),
            }
            predictions = Predictions.load(trial.test_predictions(variant, plan.stage.final))
            found.append(Candidate(about, predictions))
    return found


def meta_learners(run: RunDir, test: Members, labels: LabelKind) -> list[Candidate]:
    """The fitted meta-learners and what they say of the test part, whose labels' kind is told.

    One that could not be fitted is left out: the report says why.
    """
    plan = run.plan
    found = []
    for name in plan.stage.learners:
        folder = run.learner(name)
        if folder.scores.exists():
            fitted = load_learner(folder.path)
            said = _say(folder, plan, fitted, test, labels)
            found.append(Candidate(_about(name, fitted.title), said))
    return found


def trivial_row(plan: Plan, rows: OutOfFold, test: Members) -> Candidate | None:
    """What one says of the test part who hears nothing; ``None`` where no labels are at hand."""
    if rows.trivial is None:
        return None
    found = rows.trivial.of(plan.metric, test.clip_ids, test.lengths)
    about = {**_about("", f"trivial: {found.words}"), "learner": None, "trivial": True}
    return Candidate(about, found.said)


def fitted_on_test(
    run: RunDir, test: Members, scored: Members, truth: Truth, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """The same, meta-learners fitted again on the test part: such a figure is no estimate.

    As a paper did it; only under ``--protocol paper``, which the ledger and the report say.
    ``test``: all that is predicted; ``scored``: of it the clips whose ``truth`` is told.
    """
    plan = run.plan
    by = fused_by(plan.metric, truth.kind)
    targets = Targets.of(truth.values, truth.kind, by, events=truth.events, lengths=truth.lengths)
    found = []
    for candidate in candidates:
        about = candidate.about
        if about["learner"] is None:
            found.append(candidate)
            continue
        folder = run.learner(about["learner"])
        refitted = load_learner(folder.path)
        refitted.fit(scored, targets, plan.seed)
        refitted.save(folder.path)  # what is scored is what predicts
        said = _say(folder, plan, refitted, test, truth.kind)
        found.append(Candidate({**about, "who": f"{about['who']}, {FITTED}"}, said))
    return found


def _about(name: str, title: str) -> dict[str, Any]:
    return {"who": title, "trial": None, "learner": name, "variant": None, "best": False,
            "trivial": False, "transductive": False, "refinement": None}  # fmt: skip


def _say(
    folder: LearnerDir, plan: Plan, learner: Learner, test: Members, labels: LabelKind
) -> Predictions:
    """What a learner says of the test part, kept in its folder."""
    said = fused(learner, test, labels).with_data(fingerprint=plan.fingerprint, splits="test")
    said.save(folder.test)
    return said
