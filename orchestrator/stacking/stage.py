"""Stage two of a run: every meta-learner is cross-fitted, judged, fitted on all rows, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.rows import OutOfFold
from orchestrator.members.seen import Members, Snapshots, Targets, answer, joined
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.crossfit import fold_masks, fused, in_order, outer_folds
from orchestrator.stacking.diagnostics import diagnose
from orchestrator.stacking.families import kind_of, learner, load_learner
from orchestrator.stacking.judging import Judgement, compared, judge
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.search import searched
from systems import config as configs
from systems.errors import CannotFit
from systems.metrics import metric
from systems.predictions import Predictions

Fit = Callable[[Members, Targets, str], Learner]


def fit_stage(run: RunDir, rows: OutOfFold, stop: Stop, progress: Progress) -> None:
    """Fit what is missing of the plan's meta-learners, then compare all of them.

    A learner that these rows cannot fit is named, with the reason, here and in the report; the
    others go on.

    Raises:
        UserError: what is no fault of the rows, as a full disk: the stage goes on when resumed.
    """
    plan = run.plan
    for name in plan.stage.learners:
        folder = run.learner(name)
        if folder.scores.exists() or folder.refused.exists():
            continue
        stop.check()
        progress.phase(f"stage two: {name}", None)
        try:
            fit_one(run, rows, name, stop, progress)
        except (CannotFit, ValueError, np.linalg.LinAlgError) as error:
            why = str(error) if isinstance(error, CannotFit) else f"{type(error).__name__}: {error}"
            progress.say(f"stage two: {name} is left out: {why}")
            write_json(folder.refused, {"name": name, "why": why})
    write_comparisons(run)
    diagnose(run, rows)


def fit_one(run: RunDir, rows: OutOfFold, name: str, stop: Stop, progress: Progress) -> None:
    """Cross-fit, judge, fit on all rows, and write learner, predictions and, last, scores.

    Raises:
        CannotFit: the rows lack what the learner takes, or cannot fit it.
    """
    plan = run.plan
    began = time.monotonic()
    folder = run.learner(name)
    _check_kinds(name, plan, rows)
    fit = _fit(folder, plan, name, stop, progress)
    final = fit(rows.seen, rows.targets, "final")
    if plan.stage.fitted_on == "out_of_fold":
        predictions = _crossed(folder.folds, fit, rows, plan, stop)
    else:  # as the paper did: on the rows that it was fitted on
        predictions = fused(final, rows.seen, rows.targets.kind)
    alone = _alone(folder, fit, final, rows, plan, stop)
    judgement = _judged(final, predictions, alone, rows, plan)
    predictions.with_data(fingerprint=plan.fingerprint, splits=plan.splits["digest"]).save(
        folder.out_of_fold
    )
    final.save(folder.path)
    write_json(
        folder.scores,
        {
            "name": name,
            "title": final.title,
            "source": final.source,
            "members": [member.key for member in rows.members],
            "parameters": final.parameters(),
            "searched": plan.stage.trials,
            "fitted_on": plan.stage.fitted_on,
            **judgement.to_json(),
            "weights": final.weights(),
            "seconds": time.monotonic() - began,
        },
    )
    folder.clear_parts()


def write_comparisons(run: RunDir) -> None:
    """Correct the judgements of all fitted learners for their number (Holm).

    All that were judged over these members count, also those that the plan names no longer, and
    those that were fitted in another manner before (:func:`remember`): asking for the good ones
    alone, or trying until one is good, must not make them better.
    """
    paths = {folder.name: folder.scores for folder in run.learners()}
    judged = {
        name: Judgement.from_json(read_json(path)) for name, path in paths.items() if path.exists()
    }
    if judged:
        earlier = [one["p"] for one in read_json(run.judged)] if run.judged.exists() else []
        rows = compared(judged, earlier)
        for name, row in rows.items():  # fitted as a paper did on what judges it: no claim
            row["claims"] &= read_json(paths[name])["fitted_on"] == "out_of_fold"
        write_json(run.comparisons, {"method": "Holm", "rows": rows})


def remember(run: RunDir) -> None:
    """Keep what learners were judged by that are to be fitted again in another manner."""
    if run.comparisons.exists():
        before = read_json(run.judged) if run.judged.exists() else []
        rows = read_json(run.comparisons)["rows"]
        write_json(run.judged, [*before, *({"name": n, "p": row["p"]} for n, row in rows.items())])


def _check_kinds(name: str, plan: Plan, rows: OutOfFold) -> None:
    asked = learner(name, None, plan.stage.manner)
    missing = set(asked.takes) - rows.seen.kinds()
    if missing:
        raise CannotFit(f"it takes {', '.join(sorted(missing))}, which the members do not give.")
    if asked.one_model and not plan.stage.folds_predict:
        raise CannotFit(
            "the embeddings of two trainings do not correspond, so a refit's would mean nothing to "
            "it: let the folds' models predict (--final fold_mean)."
        )


def _fit(folder: LearnerDir, plan: Plan, name: str, stop: Stop, progress: Progress) -> Fit:
    """(members, targets, where a search may keep its trials) -> a fitted learner."""
    given = plan.stage.settings.get(name, {})
    settings = configs.replace(kind_of(name).Settings(), given)

    def fit(members: Members, targets: Targets, where: str) -> Learner:
        fitting = targets.fitting()
        members, targets = members.rows(fitting), targets.rows(fitting)
        if not members.clip_ids:
            raise CannotFit("a single clip cannot both fit it and judge it.")
        if plan.stage.trials > 0:
            return searched(
                folder.search(where), name, settings, plan.stage.manner, members, targets,
                plan.seed, plan.stage.trials, plan.fusion is None, plan.resources, stop, progress,
                plan.ray_address,
            )  # fmt: skip
        made = learner(name, settings, plan.stage.manner)
        made.fit(members, targets, plan.seed)
        return made

    return fit


def _crossed(
    parts_in: Path, fit: Fit, rows: OutOfFold, plan: Plan, stop: Stop, where: str = ""
) -> Predictions:
    """Every row as a learner says it that other groups' rows fitted; a killed one goes on.

    ``where`` is put before the names of the folds' searches.
    """
    parts = []
    for fold, inside in enumerate(fold_masks(outer_folds(rows.targets, plan.seed))):
        path = parts_in / f"{fold}.npz"
        if not path.exists():
            stop.check()
            fitted = fit(rows.seen.rows(~inside), rows.targets.rows(~inside), f"{where}fold{fold}")
            fused(fitted, rows.seen.rows(inside), rows.targets.kind).save(path)
        parts.append(Predictions.load(path))
    return in_order(parts, rows.clip_ids)


def _alone(
    folder: LearnerDir, fit: Fit, final: Learner, rows: OutOfFold, plan: Plan, stop: Stop
) -> Predictions | None:
    """What the same learner says when it sees the best member alone.

    Thresholds and calibration better a single member too: what it is better than this is what
    fusing adds. Where members have places (gates, fusions of fusions, given weights) the best
    member takes all of them. ``None`` where that is not told: a learner that leaves one member as
    it is, one member, or one that was fitted on what judges it.
    """
    if not final.betters_one or len(rows.members) < 2 or plan.stage.fitted_on != "out_of_fold":
        return None
    best = (_reference(final, rows),)
    placed = plan.stage.parts or plan.stage.events_of is not None
    for places in (best * len(rows.members),) if placed else (best, best * len(rows.members)):
        single = replace(rows, members=tuple(rows.members[place] for place in places),
                         seen=rows.seen.only(places), best=0)  # fmt: skip
        try:
            return _crossed(folder.alone / str(len(places)), fit, single, plan, stop, "alone_")
        except CannotFit:  # what all members can fit need not be so for one
            continue
    return None


def _judged(
    final: Learner, fused_rows: Predictions, alone: Predictions | None, rows: OutOfFold, plan: Plan
) -> Judgement:
    """Against the best single member, the same learner on it alone, and the trivial row."""
    name = final.judged_by or rows.targets.metric
    counted = np.flatnonzero(rows.targets.counted())
    trivial = rows.trivial.out_of_fold(name) if rows.trivial else None

    def said(one: Predictions | None) -> Any:
        if one is None:
            return None
        some = one.rows(counted)
        return some.events if final.judged_by else answer(some, rows.targets.kind)

    best = _reference(final, rows)
    reference: Any = None
    if final.judged_by:
        events = rows.seen.events_of(best)
        reference = tuple(events[row] for row in counted)
    targets = rows.targets.rows(counted)
    return judge(
        name, targets.truth(plan.classes), said(fused_rows),
        reference if final.judged_by else said(rows.said(best)), targets.groups, alone=said(alone),
        betters_one=final.betters_one, trivial=said(trivial.said if trivial else None),
        trivial_words=trivial.words if trivial else "",
    )  # fmt: skip


def _reference(final: Learner, rows: OutOfFold) -> int:
    """The place of the single member to beat: the best one out of fold, by the learner's metric."""
    if final.judged_by is None:
        return rows.reference
    counted = rows.targets.counted()
    members, truth = rows.seen.rows(counted), rows.targets.rows(counted).truth(rows.seen.classes)
    about = metric(final.judged_by)
    return max(members.with_events(), key=lambda m: about.worth(truth, members.events_of(m)))


def refused(run: RunDir, learners: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the meta-learners that the rows could not fit, and why."""
    paths = (run.learner(name).refused for name in learners)
    return [read_json(path) for path in paths if path.exists()]


def snapshots(run: RunDir) -> Snapshots:
    """The epochs whose models the fitted meta-learners ask for."""
    plan = run.plan
    fitted = [one for one in map(run.learner, plan.stage.learners) if one.scores.exists()]
    return joined(load_learner(one.path).snapshots() for one in fitted)
