"""Per-clip counts of scored models, kept so that runs can be compared without opening labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from systems.predictions import save_arrays

KINDS = ("clip", "event")


@dataclass(frozen=True)
class Scored:
    """A scored model: who it is, and its counts [N, K, 3] by kind (``clip``, ``event``)."""

    who: str
    variant: str | None
    learner: str | None
    best: bool
    counts: Mapping[str, np.ndarray]

    @property
    def key(self) -> str:
        """What it is compared under: its decision or its learner, whatever trial it came from."""
        return self.learner or f"{'best' if self.best else self.who}, {self.variant}"


def save_counts(
    path: Path,
    clip_ids: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    counts: Sequence[tuple[np.ndarray, np.ndarray | None]],
) -> None:
    """Write the counts (clip, event or ``None``) of every row, atomically and without pickles."""
    arrays = {f"{place}/clip": tags for place, (tags, _) in enumerate(counts)}
    arrays |= {f"{place}/event": e for place, (_, e) in enumerate(counts) if e is not None}
    head = {
        "clip_ids": list(clip_ids),
        "rows": [{key: row[key] for key in ("who", "variant", "learner", "best")} for row in rows],
    }
    save_arrays(path, arrays, head)


def load_counts(path: Path) -> tuple[tuple[str, ...], list[Scored]]:
    """Clip ids and rows that :func:`save_counts` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        head = json.loads(stored["head"].tobytes())
        rows = [
            Scored(**row, counts={
                kind: stored[f"{place}/{kind}"]
                for kind in KINDS if f"{place}/{kind}" in stored.files
            })
            for place, row in enumerate(head["rows"])
        ]  # fmt: skip
    return tuple(head["clip_ids"]), rows
