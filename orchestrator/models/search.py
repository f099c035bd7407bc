"""``soundsweep search``: the recordings of a folder by how well they answer a query."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.models.answers import FilePrediction
from orchestrator.models.bundle import export
from orchestrator.models.files import as_csv, as_json, audio_files, best_first, table, written
from orchestrator.models.inference import Predictor
from orchestrator.models.sound import FileSound
from orchestrator.runs.rundir import RunDir
from systems.context import Context
from systems.data.files import BrokenSound, Files, broken_lines, examine
from systems.errors import UserError, shown, unknown
from systems.retrieval_system import FittedRetrieval
from systems.word_search import AskedByWords

FORMATS = {"table": table, "json": as_json, "csv": as_csv}
AT_ONCE = 16  # files whose sound is held


def search_command(
    run: RunDir, queries: Sequence[str], gallery: str, *, top: int, model: str, format: str,
    output: str | None, device: str,
) -> str:  # fmt: skip
    """``soundsweep search``: what it prints.

    Args:
        run: the run directory, of a system that searches.
        queries: audio files, or folders of them; words, of a run that is asked by them.
        gallery: the folder that is searched, or one file; empty of a run that is asked by words,
            which ranks the sounds that it knows.
        top: recordings that are listed for each query.
        model: ``best`` or ``trial:N``.
        format: ``table``, ``json`` or ``csv``.
        output: a file to write instead.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: an unknown model, format or device, a run that searches nothing or is not
            finished, or files that cannot be used.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if top < 1:
        raise UserError(f"--top takes 1 or more, not {top}.")
    with tempfile.TemporaryDirectory() as temporary:
        predictor = Predictor.load(export(run, Path(temporary) / "bundle", model=model), device)
    words = isinstance(predictor.members[0].main[0], AskedByWords)
    if words == bool(gallery):
        known = "asked by words and ranks the sounds that it knows: leave out --gallery"
        folder = "asked by recordings: name the folder that they search with --gallery"
        raise UserError(f"the run '{run.path.name}' is {known if words else folder}.")
    if words:
        found = by_words(predictor, queries)
    else:
        found = search(predictor, audio_files(queries), audio_files([gallery]))
    first = [replace(one, tags=dict(best_first(one)[:top])) for one in found]
    return written(FORMATS[format](first), output)


def by_words(predictor: Predictor, words: Sequence[str]) -> list[FilePrediction]:
    """The score of each sound that a model knows for each word.

    Raises:
        UserError: a word without phonemes.
    """
    models: Sequence[Any] = predictor.members[0].main
    said = [one.answer(words, predictor.context) for one in models]
    ranking = np.mean([one.ranking for one in said], axis=0)
    return [
        FilePrediction(
            word, 0.0, dict(zip(said[0].classes, row.tolist(), strict=True)), None, ranked=True
        )
        for word, row in zip(words, ranking, strict=True)
    ]  # fmt: skip


def search(
    predictor: Predictor, queries: Sequence[str], items: Sequence[str]
) -> list[FilePrediction]:
    """The score of each item for each query, of audio files.

    Raises:
        UserError: a model that searches nothing, or that is a meta-learner; one error that names
            every file that cannot be used.
    """
    main: Sequence[Any] = predictor.members[0].main
    models: list[FittedRetrieval] = [one for one in main if isinstance(one, FittedRetrieval)]
    name = predictor.about["run"]["name"]
    if not models:
        raise UserError(f"the run '{name}' searches nothing: its labels are no relevance.")
    if predictor.learner is not None:
        raise UserError(f"a gallery is searched by one model: name best or trial:N of '{name}'.")
    seconds = _seconds([*queries, *items])
    said = [
        one.scores(
            _heard(one, "query", queries, seconds, predictor.context),
            _heard(one, "gallery", items, seconds, predictor.context),
            predictor.context,
        )
        for one in models
    ]
    return [
        FilePrediction(
            query, seconds[query], dict(zip(items, row.tolist(), strict=True)), None, ranked=True
        )
        for query, row in zip(queries, np.mean(said, axis=0), strict=True)
    ]  # fmt: skip


def _heard(
    model: FittedRetrieval, side: str, paths: Sequence[str], seconds: dict[str, float],
    context: Context,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The embeddings of files [N, E], by each epoch that predicts; some files at once."""
    parts = []
    for start in range(0, len(paths), AT_ONCE):
        waveforms = [
            _sound(path, seconds[path], model.rates[side])
            for path in paths[start : start + AT_ONCE]
        ]
        parts.append(model.heard(side, waveforms, context))
    return tuple(torch.cat(of_epoch) for of_epoch in zip(*parts, strict=True))


def _sound(path: str, seconds: float, rate: int) -> np.ndarray:
    try:
        return FileSound(path, seconds).at(rate)
    except (BrokenSound, OSError) as error:
        raise UserError(f"{shown(path)} {error}.") from error


def _seconds(paths: Sequence[str]) -> dict[str, float]:
    names = dict.fromkeys(paths, "")
    seconds, broken = examine(Files("", {name: name for name in names}), names, decode=False)
    if broken:
        raise UserError(f"{len(broken)} files cannot be used:\n{broken_lines(broken)}")
    return seconds
