"""What a training went through, and how it is kept beside the checkpoint while it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from systems.context import Context
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.kinds import kind
from systems.metrics import metric
from systems.predictions import Predictions

CROSSED = "checkpoint_crossed"


@dataclass
class History:
    """What a training went through: per epoch its metrics and its validation scores [E, N, K].

    A worth is what epochs are chosen by (the data's metric over the clips that count, or the loss
    of the validation part), signed so that more is better; ``kept`` are the chosen ones, the best
    first, and ``kept_worths`` their worths. Of a series the rows of an epoch's scores are its
    steps, all clips' one after another [E, ΣT, D]. ``crossed_clips`` and
    ``crossed_frames``: of each validation clip its scores [K] and its frames [T, K] (half
    precision) after the epoch that the other half of the validation clips chose, of a network that
    gives frames; with ``crossed_worths`` the best worth of either half so far, and
    ``crossed_step`` the epoch that changed them last.
    """

    metrics: list[dict[str, float]] = field(default_factory=list)
    validation_scores: list[Tensor] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    kept_worths: list[float] = field(default_factory=list)
    crossed_clips: list[Tensor] = field(default_factory=list)
    crossed_frames: list[Tensor] = field(default_factory=list)
    crossed_worths: list[float] = field(default_factory=lambda: [-math.inf, -math.inf])
    crossed_step: int = 0

    def judge(self, epoch: int, said: Predictions, data: TrainingData) -> float:
        """Note what was said of the validation clips, in their order; the metric of it.

        Args:
            epoch: from 1.
            said: the dense answer to the labels [N, K] (of a series N arrays [T, D]), frame scores
                [T, K] of each clip where there are some, and what the metric reads: events, say.
            data: with the labels, and which clips count.

        Raises:
            UserError: what the metric reads is not there.
        """
        about, counting = metric(data.metric), _counting(data)
        counts = about.counts(data.truth(), said)
        if counts is None:
            raise UserError(
                f"the metric {about.name} reads {about.reads(data.kind)}: none are given."
            )
        value = about.value(counts[counting])
        answer = getattr(said, kind(data.kind).dense)
        clips = [torch.from_numpy(np.array(row, np.float32)) for row in answer]
        join = torch.cat if isinstance(answer, tuple) else torch.stack
        self.validation_scores.append(join(clips))
        if said.frame_scores is not None and data.halves is not None:
            mine = [counting[data.halves[counting] == half] for half in (0, 1)]
            worths = [about.sign * about.value(counts[some]) for some in mine]
            self._cross(epoch, clips, said.frame_scores, worths, data.halves)
        return value

    @property
    def best_step(self) -> int:
        """The best epoch; 0 where none was chosen."""
        return self.kept[0] if self.kept else 0

    def choose(self, epoch: int, worth: float, count: int) -> bool:
        """Whether an epoch is one of the ``count`` best so far; of equals the first."""
        ranked = sorted(
            [*zip(self.kept_worths, self.kept, strict=True), (worth, epoch)],
            key=lambda one: (-one[0], one[1]),
        )[:count]
        self.kept, self.kept_worths = [e for _, e in ranked], [w for w, _ in ranked]
        return epoch in self.kept

    def _cross(
        self, epoch: int, clips: Sequence[Tensor], frames: Sequence[np.ndarray],
        worths: Sequence[float], half: np.ndarray,
    ) -> None:  # fmt: skip
        """Where a half's worth has risen, the other half's rows are taken anew."""
        if not self.crossed_step:
            self.crossed_clips, self.crossed_frames = list(clips), list(map(_half, frames))
            self.crossed_step = epoch
        for chooses in (0, 1):
            if worths[chooses] > self.crossed_worths[chooses]:
                self.crossed_worths[chooses], self.crossed_step = worths[chooses], epoch
                for row in np.flatnonzero(half != chooses):
                    self.crossed_clips[row] = clips[int(row)].clone()
                    self.crossed_frames[row] = _half(frames[int(row)])

    def keep(self, epoch: int, context: Context) -> dict[str, Any]:
        """Write what an epoch adds, and return what the checkpoint says of it.

        The epoch's metrics and scores are a record of the training's file; the crossed rows are
        written where the epoch changed them, under its number, so that the last checkpoint's stay.
        """
        metrics = self.metrics[-1]
        record = np.array(list(metrics.values()), "<f8").tobytes()
        if self.validation_scores:
            record += self.validation_scores[-1].numpy().astype("<f4").tobytes()
        context.keep_record(epoch, record)
        if self.crossed_step == epoch:
            rows = {"clips": self.crossed_clips, "frames": self.crossed_frames}
            context.save(rows, f"{CROSSED}_{epoch}.pt")
        return {
            "names": list(metrics),
            "kept": self.kept,
            "kept_worths": self.kept_worths,
            "crossed_worths": self.crossed_worths,
            "crossed_step": self.crossed_step,
        }

    def forget(self, context: Context) -> None:
        """After the checkpoint is published: remove crossed rows of earlier epochs."""
        context.forget(f"{CROSSED}_*.pt", f"{CROSSED}_{self.crossed_step}.pt")

    @classmethod
    def restored(
        cls, about: dict[str, Any], epochs: int, data: TrainingData, context: Context
    ) -> History:
        """The history of so many epochs; ``about`` is what :meth:`keep` gave the checkpoint."""
        names = about.pop("names")
        judged = None if data.validation is None else data.validation.targets
        shape = (0 if judged is None else len(judged), len(data.classes))
        kind = np.dtype([("metrics", "<f8", (len(names),)), ("scores", "<f4", shape)])
        records = np.frombuffer(context.records(epochs, kind.itemsize), kind)
        history = cls(**about)
        history.metrics = [dict(zip(names, r["metrics"].tolist(), strict=True)) for r in records]
        if data.validation is not None:
            history.validation_scores = [torch.from_numpy(r["scores"].copy()) for r in records]
        rows = context.restore(f"{CROSSED}_{history.crossed_step}.pt")
        if rows is not None:
            history.crossed_clips, history.crossed_frames = rows["clips"], rows["frames"]
        return history


def _half(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(frames)).half()


def _counting(data: TrainingData) -> np.ndarray:
    """The places of the validation clips that the metric is of."""
    assert data.validation is not None
    return data.validation.counting()
