"""Predictions: all that stage two and the report see of a system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from systems.data.dataset import Event
from systems.errors import UserError
from systems.files import whole


@dataclass(frozen=True)
class Predictions:
    """What a system says about some clips; a kind it does not give is ``None``.

    Rows are keyed by (clip, fold, snapshot). ``clip_scores`` [N, K]; ``clip_values`` [N, D];
    ``frame_scores`` N arrays [T, K], frame t starting at ``frame_start + t * frame_hop`` seconds;
    ``frame_values`` N arrays [T, D]; ``events`` N tuples; ``ranking`` [query, item];
    ``sequence`` N tuples of names; ``clip_embeddings`` [N, E];
    ``frame_embeddings`` N arrays [T, E].
    ``data`` states the fingerprint of data set, split and classes that the rows belong to.
    """

    clip_ids: tuple[str, ...]
    classes: tuple[str, ...]
    fold: np.ndarray
    snapshot: np.ndarray
    clip_scores: np.ndarray | None = None
    clip_values: np.ndarray | None = None
    frame_scores: tuple[np.ndarray, ...] | None = None
    frame_values: tuple[np.ndarray, ...] | None = None
    frame_hop: float = 0.0
    frame_start: float = 0.0
    events: tuple[tuple[Event, ...], ...] | None = None
    ranking: np.ndarray | None = None
    sequence: tuple[tuple[str, ...], ...] | None = None
    clip_embeddings: np.ndarray | None = None
    frame_embeddings: tuple[np.ndarray, ...] | None = None
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, clip_ids: Sequence[str], classes: Sequence[str], fold: int = 0, **kinds: Any
    ) -> Predictions:
        """Predictions of one model: all rows of one fold and snapshot 0."""
        n = len(clip_ids)
        return cls(
            tuple(clip_ids), tuple(classes), np.full(n, fold), np.zeros(n, np.int64), **kinds
        )

    def rows(self, where: Sequence[int] | np.ndarray) -> Predictions:
        """Some of the rows, by place."""
        taken: dict[str, Any] = {
            name: value[where] for name in (*_DENSE, "fold", "snapshot")
            if (value := getattr(self, name)) is not None
        }  # fmt: skip
        taken |= {
            name: tuple(value[row] for row in where) for name in (*_RAGGED, "events", "sequence")
            if (value := getattr(self, name)) is not None
        }  # fmt: skip
        return replace(self, clip_ids=tuple(self.clip_ids[row] for row in where), **taken)

    def with_data(self, **data: str) -> Predictions:
        """The same rows, stating what data they belong to."""
        return replace(self, data={**self.data, **data})

    def save(self, path: Path) -> None:
        """Write all kinds to one ``.npz`` without pickles, atomically."""
        arrays: dict[str, np.ndarray] = {"fold": self.fold, "snapshot": self.snapshot}
        for name in _DENSE:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        for name in _RAGGED:
            rows = getattr(self, name)
            if rows is not None:
                arrays[name] = np.concatenate(rows) if rows else np.zeros((0, 0))
                arrays[name + "_lengths"] = np.array([len(row) for row in rows], np.int64)
        head = {
            "clip_ids": self.clip_ids,
            "classes": self.classes,
            "frame_hop": self.frame_hop,
            "frame_start": self.frame_start,
            "events": self.events,
            "sequence": self.sequence,
            "data": self.data,
        }
        save_arrays(path, arrays, head)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        head = json.loads(arrays["head"].tobytes())
        ragged: dict[str, Any] = {
            name: tuple(np.split(arrays[name], np.cumsum(arrays[name + "_lengths"]))[:-1])
            for name in _RAGGED
            if name in arrays
        }
        return cls(
            clip_ids=tuple(head["clip_ids"]),
            classes=tuple(head["classes"]),
            fold=arrays["fold"],
            snapshot=arrays["snapshot"],
            frame_hop=head["frame_hop"],
            frame_start=head.get("frame_start", 0.0),  # of earlier versions
            events=_events(head["events"]),
            sequence=None if head["sequence"] is None else tuple(map(tuple, head["sequence"])),
            data=head["data"],
            **{name: arrays[name] for name in _DENSE if name in arrays},
            **ragged,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Pool the rows of several folds. Raises UserError where classes or data differ."""
        first = parts[0]
        for part in parts[1:]:
            if part.classes != first.classes or part.data != first.data:
                raise UserError("predictions of different classes or data cannot be pooled.")
        joined: dict[str, Any] = {}
        for name in (*_DENSE, *_RAGGED, "events", "sequence"):
            values = [getattr(part, name) for part in parts]
            if all(value is not None for value in values):
                dense = name in _DENSE
                joined[name] = (
                    np.concatenate(values) if dense else tuple(r for v in values for r in v)
                )
        return cls(
            clip_ids=tuple(i for part in parts for i in part.clip_ids),
            classes=first.classes,
            fold=np.concatenate([part.fold for part in parts]),
            snapshot=np.concatenate([part.snapshot for part in parts]),
            frame_hop=first.frame_hop,
            frame_start=first.frame_start,
            data=first.data,
            **joined,
        )


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], head: Any) -> None:
    """Arrays and a JSON head as one ``.npz`` without pickles, atomically."""
    text = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, head=text, **arrays)  # type: ignore[arg-type]


_DENSE = ("clip_scores", "clip_values", "ranking", "clip_embeddings")
_RAGGED = ("frame_scores", "frame_values", "frame_embeddings")


def _events(stored: Any) -> tuple[tuple[Event, ...], ...] | None:
    if stored is None:
        return None
    return tuple(tuple(Event(*event) for event in clip) for clip in stored)
