"""A system from elsewhere: of each clip it says what a table holds, and nothing is trained.

So what another toolkit, or a challenge's baseline, predicted may be a member of a fusion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from systems.context import Context
from systems.data.delimited import TableFault, read_table
from systems.data.splits import TrainingData
from systems.data.store import Channels
from systems.errors import UserError, nearest
from systems.files import write_whole
from systems.predictions import Predictions
from systems.system import Input, Sounds, Undecided
from systems.training.history import History

PREDICTION = "prediction"


class OutsideSystem:
    """What the table at ``path`` says of single-label clips.

    Its first column names clips, by their name in the data set or that of their file; the others
    are a score for each class, or one column ``prediction`` that names the class. It needs a row of
    every clip that is asked for: of a run those that are held out, and those of the test part.
    """

    selects = None
    keeps = 1
    least_seconds = 0.0
    columns = ()

    def __init__(self, path: str, rate: int) -> None:
        self.path = Path(path).expanduser()
        self.rate = rate

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Nothing is."""
        return ""

    def inputs(self) -> dict[str, Input]:
        return {"audio": Input(("labelled",), self.rate)}

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> Told:
        """Read the table.

        Raises:
            UserError: it cannot be read, or a clip that validates has no row.
        """
        told = Told(self.rate, data.classes, read_scores(self.path, data.classes), str(self.path))
        if data.validation is not None:
            told.scores_of(data.validation.clip_ids)
        return told

    def load(self, folder: Path) -> Told:
        """What :meth:`Told.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        return Told(self.rate, tuple(about["classes"]), about["rows"], about["table"])

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> None:
        """It has no steps."""

    def network(self, classes: int) -> None:
        """It has none."""


@dataclass(frozen=True)
class Told(Undecided):
    """Scores [K] of clips by name, from the table ``table``."""

    rate: int
    classes: tuple[str, ...]
    rows: Mapping[str, Sequence[float]]
    table: str
    history: History = field(default_factory=History)

    frame_hop = None
    frame_start = 0.0
    channels: Channels = "mono"

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """Clip scores of some clips.

        Raises:
            UserError: the table has no row of one.
        """
        scores = self.scores_of(clip_ids)
        return Predictions.of(clip_ids, self.classes, fold, clip_scores=scores)

    def scores_of(self, clip_ids: Sequence[str]) -> np.ndarray:
        """The scores [N, K] of some clips."""
        names = [i if i in self.rows else i.rsplit("/", 1)[-1] for i in clip_ids]
        lacking = [i for i, name in zip(clip_ids, names, strict=True) if name not in self.rows]
        if lacking:
            raise UserError(
                f"{self.table} has no row of {len(lacking)} of {len(clip_ids)} clips that it is "
                f"asked for, such as {lacking[0]}: name each clip as here, or by its file."
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f"{self.table}: several clips have files called {twice}: name them as "
                f"{next(i for i in clip_ids if i.endswith(twice))} is."
            )
        return np.array([self.rows[name] for name in names], np.float32).reshape(
            len(names), len(self.classes)
        )

    def score(self, waveforms: Sequence[np.ndarray], context: Context) -> tuple[Any, None]:
        """Nothing: a table hears no sound.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"a member of this model is the table {self.table}, which says nothing of other sound: "
            "predict with a model of the members alone (the run's best, say)."
        )

    def save(self, folder: Path) -> None:
        """All rows as JSON."""
        about = {"classes": self.classes, "table": self.table, "rows": dict(self.rows)}
        write_whole(folder / "model.json", json.dumps(about))


def read_scores(path: Path, classes: Sequence[str]) -> dict[str, list[float]]:
    """The scores of a table's clips, in the order of ``classes``.

    Raises:
        UserError: names every fault of it.
    """
    try:
        table = read_table(path, ",\t;")
    except FileNotFoundError as error:
        raise UserError(f"{path}, a table of predictions, is not there.") from error
    except TableFault as fault:
        raise UserError(f"{path}: {fault}.") from fault
    names = table.header[1:]
    if names != (PREDICTION,) and sorted(names) != sorted(classes):
        raise UserError(
            f"{path} has the columns {', '.join(table.header)}; after the clip's name it takes "
            f"'{PREDICTION}', or a score for each of {', '.join(classes)}."
        )
    faults = [f"line {line}: {table.wrong_length(cells)}" for line, cells in table.uneven]
    rows: dict[str, list[float]] = {}
    for line, (clip, *cells) in table.lines:
        if clip in rows:
            faults.append(f"line {line}: {clip} has a row above")
        try:
            rows[clip] = _scores(names, cells, classes)
        except ValueError as error:
            faults.append(f"line {line}: {error}")
    if faults:
        raise UserError(f"{path}:\n  " + "\n  ".join(faults))
    return rows


def _scores(names: Sequence[str], cells: Sequence[str], classes: Sequence[str]) -> list[float]:
    if names == (PREDICTION,):
        if cells[0] not in classes:
            raise ValueError(f"'{cells[0]}' is no class{nearest(cells[0], classes)}")
        return [float(name == cells[0]) for name in classes]
    of_class = dict(zip(names, cells, strict=True))
    try:
        found = [float(of_class[name]) for name in classes]
    except ValueError:
        raise ValueError(f"{', '.join(cells)} are no {len(classes)} numbers") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{', '.join(cells)} are not finite")
    return found
