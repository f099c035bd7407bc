"""From run directories to what stage two sees: predictions of rows that no member was trained on.

Rows are the validation clips, pooled over folds; of a series their steps. A member's scores of a
row are those of an epoch that other clips chose; its frame scores likewise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.members.seen import Members, Targets, answer, per_member
from orchestrator.members.trivial import TrivialRows
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.training.crossed import crossed_scores
from orchestrator.training.trial import best_step, eligible, keeps, read_epoch_scores
from systems.data.dataset import Clip, Dataset, LabelKind, rows_of_clips
from systems.data.splits import Splits, clip_set, kind_of
from systems.data.stratify import cross_fitting_folds
from systems.errors import UserError
from systems.kinds import kind
from systems.metrics import fused_by, metric
from systems.predictions import Predictions


@dataclass(frozen=True)
class Member:
    """A trial of a run. ``key`` is its number, in a stack over several runs ``RUN/NUMBER``."""

    run: RunDir
    number: int
    key: int | str

    @property
    def plan(self) -> Plan:
        """The plan of its run."""
        return self.run.plan

    @property
    def name(self) -> str:
        """What a table calls it."""
        if isinstance(self.key, int):
            return f"trial {self.key}"
        return f"{self.plan.system} {self.key}"


def members_of(run: RunDir, numbers: Sequence[int]) -> tuple[Member, ...]:
    """Trials of the run itself."""
    return tuple(Member(run, number, number) for number in numbers)


def members_of_runs(plan: Plan) -> tuple[Member, ...]:
    """The members of a stack over several runs, in the plan's order."""
    runs = {ref.run: RunDir(_there(ref.run)) for ref in plan.members}
    return tuple(
        Member(runs[r.run], r.trial, f"{runs[r.run].path.name}/{r.trial}") for r in plan.members
    )


def _there(path: str) -> Path:
    if not (Path(path) / "plan.json").exists():
        raise UserError(f"the run {path}, whose trials this stack combines, is not there any more.")
    return Path(path)


@dataclass(frozen=True)
class OutOfFold:
    """Clips that no model which scores them has seen.

    ``last_steps`` [M]: the share of the schedule that a refit of each member runs; ``best``: the
    place of the member that its search valued most, which stands for the run; ``trivial``: what one
    reaches who hears nothing.
    """

    members: tuple[Member, ...]
    seen: Members
    targets: Targets
    last_steps: tuple[int, ...]
    best: int = 0
    trivial: TrivialRows | None = None

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return self.seen.clip_ids

    @property
    def scores(self) -> np.ndarray:
        """The members' clip scores [N, M, K], of a series their values [ΣT, M, D]."""
        return self.seen.scores

    @property
    def reference(self) -> int:
        """The place of the member that is best out of fold, the one to beat; of equals the first.

        That these rows chose it, and judge, makes a gain harder to claim, not easier.
        """
        return int(np.argmax([self.targets.worth(one) for one in self.scores.swapaxes(0, 1)]))

    def said(self, place: int) -> Predictions:
        """What a member says of the clips: the dense answer to the labels, and events, if any."""
        events = None if self.seen.events is None else self.seen.events[place]
        return Predictions.of(self.clip_ids, self.seen.classes, events=events, **self.dense(place))

    def dense(self, place: int) -> dict[str, Any]:
        """A member's dense answer to the labels, by the name that predictions have it under."""
        return {kind(self.targets.kind).dense: self.seen.by_clip(self.scores[:, place])}


def validation_targets(
    dataset: Dataset, splits: Splits, metric: str,
    weights: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[tuple[str, ...], Targets]:  # fmt: skip
    """The clip ids and the truth of the validation rows of all folds.

    ``weights``: of a row by a column of its clip, as text; 1 where the column has another value.
    """
    ids = tuple(i for fold in splits.folds for i in fold.validation)
    folds = np.concatenate([np.full(len(f.validation), n) for n, f in enumerate(splits.folds)])
    about = {clip.clip_id: clip for clip in dataset.clips}
    clips, labels = clip_set(dataset, ids, splits.judged), kind_of(dataset, ids)
    assert clips.targets is not None
    return ids, Targets(
        kind=labels,
        values=clips.targets,
        groups=tuple(about[i].group for i in ids),
        metric=fused_by(metric, labels),
        folds=folds,
        fold_count=len(splits.folds),
        weights=np.array([_weight(about[i], weights or {}) for i in ids]),
        events=clips.events,
        lengths=clips.lengths,
        judged=clips.judged,
    )


def _weight(clip: Clip, weights: Mapping[str, Mapping[str, float]]) -> float:
    return math.prod(
        by_value.get(str(clip.columns.get(column)), 1.0) for column, by_value in weights.items()
    )


def out_of_fold(
    members: Sequence[Member], dataset: Dataset, splits: Splits, plan: Plan,
    columns: Mapping[str, np.ndarray] | None = None,
) -> OutOfFold:  # fmt: skip
    """Members' predictions of every validation clip, each by an epoch that other clips chose.

    With several folds the epoch of a fold is the median of the other folds' best epochs. With one,
    its clips are halved by group and each half is scored by the other half's best epoch.

    Raises:
        UserError: a member was trained on a clip that it is to be scored on, does not answer the
            labels, or its scores are no numbers.
    """
    ids, targets = validation_targets(dataset, splits, plan.metric, plan.stage.row_weights)
    epochs = [_epochs(member, splits) for member in members]
    said = [pooled(member, len(splits.folds)) for member in members]
    for member, predictions in zip(members, said, strict=True):
        _check_unseen(member, predictions, splits)
        if predictions.clip_ids != ids:
            raise UserError(f"{member.name} predicts other clips than the splits hold out.")
    own = [answer(one, targets.kind) for one in said]
    scores, last_steps = [], []
    for member, by_fold, rows in zip(members, epochs, own, strict=True):
        if by_fold is None:  # nothing was chosen by these rows
            scores.append(rows)
            last_steps.append(1)
            continue
        best = [best_step(member.run.trial(member.number), f, member.plan)
                for f in range(len(by_fold))]  # fmt: skip
        last_steps.append(round(statistics.median(best)))
        if len(by_fold) == 1 and targets.metric != plan.metric:
            scores.append(rows)  # by an epoch that the other half chose
            continue
        of_epochs = eligible(by_fold, member.run.trial(member.number), member.plan)
        scores.append(_by_others(of_epochs, best, targets, keeps_of(member)))
    for member, one, rows in zip(members, scores, own, strict=True):
        if not np.isfinite(one).all():
            raise UserError(f"{member.name} predicts scores that are no numbers: leave it out.")
        if len(rows) != len(targets.values):
            raise UserError(
                f"{member.name} says {len(rows)} values of the validation clips, whose labels have "
                f"{len(targets.values)}: one is needed at each labelled step."
            )
    seen = view(members, said, targets.kind, clips_of(dataset), columns)
    seen = replace(seen, scores=np.stack(scores, axis=1).astype(float), fold=targets.folds)
    every = (None if by_fold is None else _pooled_epochs(by_fold) for by_fold in epochs)
    seen = replace(seen, epochs=per_member(every))
    return OutOfFold(
        tuple(members), seen, targets, tuple(last_steps), best_place(members, plan),
        TrivialRows(dataset, splits),
    )  # fmt: skip


def best_place(members: Sequence[Member], plan: Plan) -> int:
    """The place of the member with the best selected value; of equals the first. Scores are set
    beside scores alone: where a member has none, all are by the metric."""
    sign = 1 if metric(plan.metric).mode == "max" else -1
    scored = all("score" in _result(member) for member in members)
    values = [sign * _result(member)["score" if scored else "value"] for member in members]
    return values.index(max(values))


def selected_value(member: Member) -> float:
    """The value that a completed trial was selected by: its score, where it has one."""
    result = _result(member)
    return float(result.get("score", result["value"]))


def _result(member: Member) -> dict[str, Any]:
    return dict(read_json(member.run.trial(member.number).result))


def view(
    members: Sequence[Member],
    predictions: Sequence[Predictions],
    labels: LabelKind,
    clips: Mapping[str, Clip],
    columns: Mapping[str, np.ndarray] | None = None,
) -> Members:
    """What learners see of predictions of the same clips: the dense answer to labels of a kind, and
    the other kinds that members give.

    Raises:
        UserError: they are of other clips, classes or steps, or a member does not answer.
    """
    first = predictions[0]
    for member, other in zip(members, predictions, strict=True):
        if other.clip_ids != first.clip_ids or other.classes != first.classes:
            raise UserError(
                f"{member.name} and {members[0].name} predict other clips or classes: they cannot "
                "be stacked."
            )
        if _lengths(other, labels) != _lengths(first, labels):
            raise UserError(
                f"{member.name} and {members[0].name} say values at other steps: they cannot be "
                "stacked."
            )

    def of_all(kind: str) -> tuple[Any, ...] | None:
        return per_member(getattr(one, kind) for one in predictions)

    return Members(
        names=tuple(member.name for member in members),
        clip_ids=first.clip_ids,
        classes=first.classes,
        scores=np.stack([answer(one, labels) for one in predictions], axis=1).astype(float),
        lengths=_lengths(first, labels),
        frames=of_all("frame_scores"),
        frame_hops=tuple(one.frame_hop for one in predictions),
        frame_starts=tuple(one.frame_start for one in predictions),
        durations=tuple(clips[i].duration for i in first.clip_ids),
        about=tuple(clips[i].columns for i in first.clip_ids),
        events=of_all("events"),
        embeddings=of_all("clip_embeddings"),
        frame_embeddings=of_all("frame_embeddings"),
        columns=None if columns is None else np.stack([columns[i] for i in first.clip_ids]),
        labels=labels,
    )


def _lengths(said: Predictions, labels: LabelKind) -> tuple[int, ...] | None:
    """How many rows of the dense answer each clip has; ``None``: one."""
    return tuple(map(len, getattr(said, kind(labels).dense))) if kind(labels).ragged else None


def clips_of(dataset: Dataset) -> dict[str, Clip]:
    """All clips by id."""
    return {clip.clip_id: clip for clip in dataset.clips}


def _epochs(member: Member, splits: Splits) -> list[np.ndarray] | None:
    """Per fold the clip scores after every epoch [E, N, K]; ``None`` of a system without epochs."""
    trial = member.run.trial(member.number)
    folds = range(len(splits.folds))
    if not all(trial.epoch_scores(fold).exists() for fold in folds):
        return None
    return [read_epoch_scores(trial, fold) for fold in folds]


def pooled(member: Member, folds: int) -> Predictions:
    """The predictions of all folds; frames by an epoch that other rows chose, where there are."""
    trial = member.run.trial(member.number)
    parts = []
    for fold in range(folds):
        own, crossed = Predictions.load(trial.predictions(fold)), trial.crossed(fold)
        if crossed.exists():
            honest = Predictions.load(crossed)
            own = replace(own, frame_scores=honest.frame_scores, frame_hop=honest.frame_hop,
                          frame_start=honest.frame_start, clip_scores=honest.clip_scores,
                          events=honest.events)  # fmt: skip
        parts.append(own)
    return Predictions.concatenate(parts)


def _check_unseen(member: Member, predictions: Predictions, splits: Splits) -> None:
    if splits.same:  # a paper's protocol, of which the report says so
        return
    trained_on = [set(fold.train) for fold in splits.folds]
    refuse_seen(
        member.name,
        (i for i, fold in zip(predictions.clip_ids, predictions.fold, strict=True)
         if i in trained_on[int(fold)]),
    )  # fmt: skip


def refuse_seen(who: str, clips: Iterable[str]) -> None:
    """Raise UserError where a member is to be scored on clips that it was trained on."""
    seen = sorted(clips)
    if seen:
        raise UserError(
            f"{who} was trained on {len(seen)} of the clips that it is to be scored on, such as "
            f"{seen[0]}: such a score means nothing. Stack only predictions of held-out clips."
        )


def _by_others(
    epochs: list[np.ndarray], best: Sequence[int], targets: Targets, count: int
) -> np.ndarray:
    """Scores [N, K] of all rows, each by an epoch that other rows chose."""
    truths = [targets.rows(targets.folds == fold) for fold in range(len(epochs))]

    def worth(fold: int, scores: np.ndarray, clips: np.ndarray | None) -> float | None:
        if clips is None:
            return truths[fold].worth(scores)
        judge = truths[fold].rows(clips)
        rows = rows_of_clips(np.flatnonzero(clips), truths[fold].lengths)
        return judge.worth(scores[rows]) if judge.counted().any() else None

    halves = cross_fitting_folds(targets.strata(), targets.groups, 0, most=2)
    return np.concatenate(crossed_scores(epochs, best, count, worth, halves, truths[0].lengths))


def keeps_of(member: Member) -> int:
    """How many epochs of a member's trainings predict."""
    return keeps(member.run.trial(member.number), member.plan)


def _pooled_epochs(by_fold: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Clip scores of all rows after each epoch; a fold that stopped earlier keeps its last."""
    last = max(len(epochs) for epochs in by_fold)
    return {
        epoch: np.concatenate([epochs[min(epoch, len(epochs)) - 1] for epochs in by_fold])
        for epoch in range(1, last + 1)
    }
