"""What a system learns from, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KINDS = ("clip_scores", "clip_values", "frame_scores", "frame_values", "clip_embeddings",
         "frame_embeddings")  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """What a system learns from: another node, a system or a fusion, that is trained before it.

    ``what``: its ``predictions`` of some clips, or the ``fitted`` system itself. ``rows``:

    - ``all``: predictions of each clip by a model that was not trained on it (another fold's), or
      the system fitted on all labelled clips;
    - ``same_fold``: in a fold's training only what comes from the same fold's training clips: the
      teacher knows nothing of the fold's validation clips, but was trained on the clips that it
      speaks of. A refit gets what ``all`` gives, but for embeddings.

    ``clips``: the roles whose clips are spoken of; of clips without labels ``all`` is the mean of
    the folds' models. ``kinds``: the fields of :class:`systems.predictions.Predictions` that are
    asked for. Embeddings of two trainings do not correspond, so those are ``same_fold``.
    """

    address: str
    what: Literal["predictions", "fitted"] = "predictions"
    rows: Literal["all", "same_fold"] = "all"
    clips: tuple[str, ...] = ("labelled",)
    kinds: tuple[str, ...] = ("clip_scores",)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"a teacher says {', '.join(KINDS)}, not {kind}")
        if self.rows == "all" and any(kind.endswith("embeddings") for kind in self.kinds):
            raise ValueError("embeddings of several folds do not correspond: rows='same_fold'")


Requires = Mapping[str, Requirement]
