"""What stage two sees: members' predictions of the same clips, and the truth of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from systems import kinds
from systems.data.dataset import Event, LabelKind, rows_of_clips
from systems.data.splits import counted_apart
from systems.errors import CannotFit, UserError
from systems.kinds import Truth
from systems.kinds.series import by_lengths
from systems.metrics import clip_metric, metric
from systems.postprocessing.decoding import Decoding, align_frames, decode, finest
from systems.predictions import Predictions

Kind = Literal[
    "clip_scores", "frame_scores", "events", "clip_embeddings", "frame_embeddings",
    "epoch_scores", "columns",
]  # fmt: skip


# What learners use of the members that give it.
OPTIONAL_KINDS: tuple[Kind, ...] = (
    "frame_scores", "events", "clip_embeddings", "frame_embeddings",
)  # fmt: skip
Scores = np.ndarray  # [N, M, K]


# (place of the member, fold or ``None`` of its refit) -> epochs of that training
Snapshots = dict[tuple[int, int | None], tuple[int, ...]]


def joined(asked: Iterable[Snapshots]) -> Snapshots:
    """All epochs that several learners ask for."""
    wanted: dict[tuple[int, int | None], set[int]] = {}
    for one in asked:
        for key, epochs in one.items():
            wanted.setdefault(key, set()).update(epochs)
    return {key: tuple(sorted(epochs)) for key, epochs in wanted.items()}


def per_member(values: Iterable[Any]) -> tuple[Any, ...] | None:
    """One kind of all members' predictions; ``None`` where no member gives it."""
    found = tuple(values)
    return None if all(value is None for value in found) else found


@dataclass(frozen=True)
class Members:
    """Predictions of M members for the same N clips: all that a learner sees.

    Frames, events, embeddings and epochs are ``None`` of a member that does not give them, and as a
    whole where none does. Of a series the rows of ``scores`` are the steps of all clips, clip after
    clip; all else is by clip.

    Args:
        names: of the members, M.
        clip_ids: N.
        classes: K names; of a regression its D outputs, of a retrieval its items.
        scores: [N, M, K] clip scores (values of a regression, relevances of a ranking), of a series
            [ΣT, M, D].
        lengths: T of each clip of a series; ``None``: a row a clip.
        frames: per member N arrays [T, K] of frame scores.
        frame_hops: seconds a frame stands for, of each member.
        frame_starts: s at which its first frame begins; none: with the clip.
        durations: of the clips in s, N.
        about: the clips' free columns, N (of a file outside a data set: none).
        embeddings: per member [N, E].
        frame_embeddings: per member N arrays [T, E].
        epochs: per member the clip scores [N, K] after some epochs of its training, by epoch.
        events: per member N tuples: the events that its own decision makes of its frames.
        fold: [N] whose fold's models said each row; ``None`` where no fold's models did (refits).
        of_folds: of the same clips what each fold's models say (test part), F.
        columns: [N, F] further columns: clip statistics.
        labels: the kind of labels that they answer, which decides.
    """

    names: tuple[str, ...]
    clip_ids: tuple[str, ...]
    classes: tuple[str, ...]
    scores: Scores
    frames: tuple[tuple[np.ndarray, ...] | None, ...] | None = None
    frame_hops: tuple[float, ...] = ()
    frame_starts: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    about: tuple[Mapping[str, Any], ...] = ()
    embeddings: tuple[np.ndarray | None, ...] | None = None
    frame_embeddings: tuple[tuple[np.ndarray, ...] | None, ...] | None = None
    epochs: tuple[Mapping[int, np.ndarray] | None, ...] | None = None
    events: tuple[tuple[tuple[Event, ...], ...] | None, ...] | None = None
    fold: np.ndarray | None = None
    of_folds: tuple[Members, ...] | None = None
    columns: np.ndarray | None = None
    lengths: tuple[int, ...] | None = None
    labels: LabelKind = "tags"

    def kinds(self) -> frozenset[Kind]:
        """The kinds of predictions that are here, of one member or more."""
        there: dict[Kind, Any] = {
            "clip_scores": self.scores, "frame_scores": self.frames,
            "clip_embeddings": self.embeddings, "frame_embeddings": self.frame_embeddings,
            "epoch_scores": self.epochs, "events": self.events, "columns": self.columns,
        }  # fmt: skip
        return frozenset(kind for kind, value in there.items() if value is not None)

    def rows(self, index: np.ndarray) -> Members:
        """Some of the clips, by index [n] or mask [N]."""
        where = np.flatnonzero(index) if index.dtype == bool else index
        ragged = ("frames", "events", "frame_embeddings")
        taken: dict[str, Any] = {
            name: None if (all_ := getattr(self, name)) is None
            else tuple(None if one is None else tuple(one[i] for i in where) for one in all_)
            for name in ragged
        }  # fmt: skip
        return replace(
            self,
            clip_ids=tuple(self.clip_ids[i] for i in where),
            scores=self.scores[rows_of_clips(where, self.lengths)],
            lengths=some_of(self.lengths, where),
            durations=tuple(self.durations[i] for i in where) if self.durations else (),
            about=tuple(self.about[i] for i in where) if self.about else (),
            embeddings=None
            if self.embeddings is None
            else tuple(None if e is None else e[where] for e in self.embeddings),
            epochs=None if self.epochs is None
            else tuple(None if one is None
                       else {e: s[rows_of_clips(where, self.lengths)] for e, s in one.items()}
                       for one in self.epochs),
            fold=None if self.fold is None else self.fold[where],
            of_folds=None if self.of_folds is None
            else tuple(one.rows(where) for one in self.of_folds),
            columns=None if self.columns is None else self.columns[where],
            **taken,
        )  # fmt: skip

    def by_clip(self, rows: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Rows as predictions hold them: [N, ...], of a series N arrays [T, ...]."""
        return rows if self.lengths is None else tuple(by_lengths(rows, self.lengths))

    def of_rows(self, by_clip: np.ndarray) -> np.ndarray:
        """What holds for each clip [N, ...], for each of its rows."""
        return by_clip if self.lengths is None else np.repeat(by_clip, self.lengths, axis=0)

    def only(self, members: Sequence[int]) -> Members:
        """Some of the members, by index, in the order given; all clips."""
        chosen = list(members)

        def some(values: Any) -> Any:
            return None if values is None else per_member(values[m] for m in chosen)

        return replace(
            self,
            names=some(self.names),
            scores=self.scores[:, chosen],
            frames=some(self.frames),
            frame_hops=some(self.frame_hops) if self.frame_hops else (),
            frame_starts=some(self.frame_starts) if self.frame_starts else (),
            embeddings=some(self.embeddings),
            frame_embeddings=some(self.frame_embeddings),
            epochs=some(self.epochs),
            events=some(self.events),
            of_folds=None
            if self.of_folds is None
            else tuple(one.only(chosen) for one in self.of_folds),
        )

    def with_frames(self) -> list[int]:
        """The places of the members that give frame scores."""
        return [m for m, frames in enumerate(self.frames or ()) if frames is not None]

    def all_have_frames(self) -> bool:
        """Whether every member gives frame scores."""
        return len(self.with_frames()) == len(self.names)

    def with_events(self) -> list[int]:
        """The places of the members that tell of events: of their own, or by their frames."""
        own = {m for m, events in enumerate(self.events or ()) if events is not None}
        return sorted(own.union(self.with_frames()))

    @property
    def frame_start(self) -> float:
        """s at which the first of the aligned frames begins."""
        timed = self.with_frames()
        starts = [self.frame_starts[m] for m in timed] if self.frame_starts else []
        return finest([self.frame_hops[m] for m in timed], starts)[1]

    def mean_frames(self) -> tuple[tuple[np.ndarray, ...], float]:
        """The mean frame scores of the members that give any, N arrays [T, K], at the finest hop,
        and that hop in s."""
        aligned, hop = self.aligned_frames()
        return tuple(frames.mean(axis=1) for frames in aligned), hop

    def events_of(self, member: int) -> tuple[tuple[Event, ...], ...]:
        """One member's events: its own, or else its frames decided at 0.5.

        Raises:
            CannotFit: it gives neither.
        """
        own = None if self.events is None else self.events[member]
        frames = None if self.frames is None else self.frames[member]
        if own is not None:
            return own
        if frames is None:
            raise CannotFit(f"{self.names[member]} tells of no time.")
        plain = Decoding.plain(len(self.classes))
        start = self.frame_starts[member] if self.frame_starts else 0.0
        return tuple(
            decode(scores, plain, self.classes, self.frame_hops[member], seconds, start)
            for scores, seconds in zip(frames, self.durations, strict=True)
        )

    def gated_events(self, member: int, scores: np.ndarray) -> tuple[tuple[Event, ...], ...]:
        """One member's events of the classes that clip scores [N, K] hold for present."""
        decide = kinds.kind(self.labels).decide
        assert decide is not None, f"labels of kind {self.labels} decide nothing"
        present = decide(scores)
        place = {label: k for k, label in enumerate(self.classes)}
        return tuple(
            tuple(event for event in clip if there[place[event.label]])
            for clip, there in zip(self.events_of(member), present, strict=True)
        )

    def at_one_hop(self) -> Members:
        """The same with all members' frames (those of the folds' models too) at the finest hop."""
        if self.frames is None:
            return self
        aligned, hop = self.aligned_frames()
        of_folds, frames = self.of_folds, dict[int, tuple[np.ndarray, ...]]()
        for column, member in enumerate(self.with_frames()):
            frames[member] = tuple(clip[:, column] for clip in aligned)
        return replace(
            self,
            frames=tuple(frames.get(m) for m in range(len(self.names))),
            frame_hops=(hop,) * len(self.names),
            frame_starts=(self.frame_start,) * len(self.names),
            of_folds=None if of_folds is None else tuple(one.at_one_hop() for one in of_folds),
        )

    def aligned_frames(self) -> tuple[tuple[np.ndarray, ...], float]:
        """Per clip the frame scores [T, M, K] of the M members that give any, at the finest hop,
        and that hop in s.

        Raises:
            CannotFit: no member gives frame scores.
        """
        frames = [one for one in self.frames or () if one is not None]
        if not frames:
            raise CannotFit("the members say nothing about time.")
        timed = self.with_frames()
        hops = [self.frame_hops[m] for m in timed]
        starts = [self.frame_starts[m] for m in timed] if self.frame_starts else []
        clips = zip(*frames, strict=True)
        return tuple(align_frames(clip, hops, starts) for clip in clips), min(hops)


@dataclass(frozen=True)
class Targets:
    """The truth of the clips that a learner is fitted on. Each is a row, of a series T of them.

    Args:
        kind: of the labels: ``class`` (one-hot rows: the decision is the largest score), ``tags``
            and ``events`` (the decision is a score above 0.5), ``values``, ``series``,
            ``relevance``.
        values: [N, K] in {0, 1}; of a regression the values themselves, of a series [ΣT, D].
        groups: of each clip (speaker, location, recording), N; never split.
        metric: what fused scores are judged by, by name (:mod:`systems.metrics`).
        folds: [N] the fold in which each clip was held out of the members' trainings.
        fold_count: of all folds; some may have no clip here. 0: as many as the clips have.
        weights: [N] of each clip; 1 where nothing else is known. Clips without fit nothing.
        judged: [N] the clips that metrics are of; ``None``: all that have a weight.
        events: timed events of each clip, where the labels have them.
        lengths: T of each clip of a series; ``None``: a row a clip.
    """

    kind: LabelKind
    values: np.ndarray
    groups: tuple[str, ...]
    metric: str
    folds: np.ndarray
    weights: np.ndarray
    events: tuple[tuple[Event, ...], ...] | None = None
    lengths: tuple[int, ...] | None = None
    fold_count: int = 0
    judged: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        kind: LabelKind = "tags",
        metric: str = "clip_macro_f1",
        **more: Any,
    ) -> Targets:
        """Clips that are each their own group, of one fold, and count the same."""
        n = len(more.get("lengths") or values)
        own: dict[str, Any] = {
            "groups": tuple(map(str, range(n))), "folds": np.zeros(n, np.int64),
            "weights": np.ones(n),
        }  # fmt: skip
        return cls(kind, values, metric=metric, **{**own, **more})

    @property
    def exclusive(self) -> bool:
        """Whether a row has one class."""
        return kinds.kind(self.kind).exclusive

    @property
    def says_tags(self) -> bool:
        """Whether the rows say which classes there are."""
        return kinds.kind(self.kind).says_tags

    def truth(self, classes: Sequence[str]) -> Truth:
        """What is true of the rows, as metrics take it."""
        return Truth(self.kind, self.values, tuple(classes), self.events, self.lengths)

    def rows(self, index: np.ndarray) -> Targets:
        """Some of the clips, by index [n] or mask [N]."""
        where = np.flatnonzero(index) if index.dtype == bool else index
        return replace(
            self,
            values=self.values[rows_of_clips(where, self.lengths)],
            lengths=some_of(self.lengths, where),
            groups=tuple(self.groups[i] for i in where),
            folds=self.folds[where],
            weights=self.weights[where],
            judged=None if self.judged is None else self.judged[where],
            events=some_of(self.events, where),
        )

    def fitting(self) -> np.ndarray:
        """Which clips [N] have a weight: the others neither fit nor score anything."""
        rows: np.ndarray = self.weights > 0
        return rows

    def counted(self) -> np.ndarray:
        """Which of them [N] metrics are of."""
        return self.fitting() if self.judged is None else self.fitting() & self.judged

    def learnable(self) -> list[int]:
        """The classes that have rows with and rows without them, of those that fit."""
        there = self.values[self.fitting()] > 0.5
        return [int(k) for k in np.flatnonzero(there.any(axis=0) & ~there.all(axis=0))]

    def worth(self, scores: np.ndarray) -> float:
        """The metric of scores [N, K] over the rows that count, signed so that more is better."""
        clips = np.flatnonzero(self.counted())
        value = clip_metric(self.metric, self.kind, some_of(self.lengths, clips))
        rows = rows_of_clips(clips, self.lengths)
        return metric(self.metric).sign * value(self.values[rows], scores[rows])

    def row_weights(self) -> np.ndarray:
        """The weight of each row: that of its clip."""
        return self.weights if self.lengths is None else np.repeat(self.weights, self.lengths)

    def strata(self) -> np.ndarray:
        """What is to spread evenly over parts of the clips [N, S]: classes, and what is judged."""
        even = self.values if self.says_tags else np.zeros((len(self.folds), 1))
        return counted_apart(even, self.judged)


def some_of(values: tuple[Any, ...] | None, where: Iterable[int]) -> tuple[Any, ...] | None:
    """Those at some places; ``None`` stays."""
    return None if values is None else tuple(values[i] for i in where)


def answer(said: Predictions, labels: LabelKind) -> np.ndarray:
    """The dense answer to labels of a kind: [N, K], of a series [ΣT, D].

    Raises:
        UserError: there is none.
    """
    about = kinds.kind(labels)
    rows = getattr(said, about.dense)
    if rows is None:
        raise UserError(f"a member gives no {about.dense}, which answers labels of kind {labels}.")
    found: np.ndarray = np.concatenate(rows) if about.ragged else rows
    return found
