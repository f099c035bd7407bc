"""``soundsweep predict``: tags and timed events of audio files as text, JSON or label tracks; of a
series its values, of a search its ranking as text, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.models.answers import FilePrediction, FileSeries
from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.models.sound import audio_endings
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError, shown, unknown
from systems.files import write_whole

SHOWN = 20  # items of a ranking that a table has
OUTPUTS = ("table", "json", "csv", "audacity")


def predict_command(
    run: RunDir, files: list[str], *, model: str, format: str, output: str | None, device: str
) -> str:
    """``soundsweep predict``: what it prints.

    Args:
        run: the run directory.
        files: audio files, or folders, of which every audio file below counts.
        model: as :func:`export` takes it.
        format: ``table``; ``json``, a list of objects; ``csv``, a row a step of a series, or an
            item of a ranking; or ``audacity``, label tracks.
        output: a file to write instead; for label tracks of several files a folder.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: an unknown model, format or device, an unfinished run, or files that cannot be
            used.
    """
    if format not in OUTPUTS:
        raise unknown("format", format, OUTPUTS)
    with tempfile.TemporaryDirectory() as temporary:
        bundle = export(run, Path(temporary) / "bundle", model=model)
        predictor = Predictor.load(bundle, device)
    paths = files if predictor.tracks else audio_files(files)
    if format == "audacity" and len(paths) > 1 and output is None:
        raise UserError(
            f"label tracks of {len(paths)} files: name a folder for them with --output."
        )
    found = predictor.predict_files(paths)
    if format == "audacity" and len(paths) > 1:
        return _write_tracks(found, Path(str(output)))
    write = {"table": table, "json": as_json, "csv": as_csv,
             "audacity": lambda few: label_track(few[0])}[format]  # fmt: skip
    return written(write(found), output)


def written(text: str, output: str | None) -> str:
    """What a command prints: a text, or where it was written to."""
    if output is None:
        return text
    _write(Path(output), text)
    return f"{output}\n"


def audio_files(given: Iterable[str]) -> list[str]:
    """The files given, each once, and all audio files in folders among them, by name.

    Raises:
        UserError: folders without any.
    """
    endings = audio_endings()
    found, without = [], []
    for name in given:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in endings]
            found += [str(p) for p in inside if p.is_file()]
            without += [] if inside else [name]
        else:
            found.append(str(path))
    if without:
        names = ", ".join(map(shown, without))
        raise UserError(f"no audio file in {names} ({', '.join(sorted(endings))}).")
    return list(dict.fromkeys(found))


def table(predictions: Sequence[FilePrediction]) -> str:
    """Readable text: per file its tags (``*``: present) and its events."""
    return "\n".join(map(_paragraph, predictions))


def _paragraph(found: FilePrediction) -> str:
    if found.series is not None:
        return _summary(found, found.series)
    width = max(len(label) for label in found.tags)
    ranked = best_first(found)
    if found.ranked:
        length = f"  ({found.duration:.3f} s)" if found.duration else ""  # a word has none
        lines = [f"{one_line(found.file)}{length}"]
        lines += [f"  {k:>4}  {item:<{width}}  {score:.3f}"
                  for k, (item, score) in enumerate(ranked[:SHOWN], start=1)]  # fmt: skip
        return "\n".join(lines) + "\n"
    if found.values:
        lines = [f"{one_line(found.file)}  ({found.duration:.3f} s)"]
        lines += [f"    {label:<{width}}  {value:.3f}" for label, value in found.tags.items()]
        return "\n".join(lines) + "\n"
    lines = [f"{one_line(found.file)}  ({found.duration:.3f} s)", "  tags"]
    present = found.present()
    lines += [
        f"  {'*' if label in present else ' '} {label:<{width}}  {score:.3f}"
        for label, score in ranked
    ]
    if found.events is not None:
        lines.append("  events" if found.events else "  no events")
    lines += [
        f"    {e.onset:9.3f} - {e.offset:9.3f} s  {e.label:<{width}}  {e.score:.3f}"
        for e in found.events or ()
    ]
    return "\n".join(lines) + "\n"


def best_first(found: FilePrediction) -> list[tuple[str, float]]:
    """Tags, or items of a gallery, and their scores, the highest first."""
    return sorted(found.tags.items(), key=lambda one: -one[1])


def one_line(name: str) -> str:
    """The name of a file without ends of lines or other characters that move a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _summary(found: FilePrediction, series: FileSeries) -> str:
    """What the values over time come to; all of them would be too many to read."""
    width = max(map(len, series.outputs))
    lines = [
        f"{one_line(found.file)}  ({found.duration:.3f} s)",
        f"  {len(series.values)} values every {series.hop:g} s (all: --format csv or json)",
    ]
    lines += [
        f"    {name:<{width}}  mean {of.mean():.3f}, {of.min():.3f} to {of.max():.3f}"
        for name, of in zip(series.outputs, series.values.T, strict=True)
    ]
    return "\n".join(lines) + "\n"


def as_json(predictions: Sequence[FilePrediction]) -> str:
    """A list of objects: file, duration (s), tags {class: score}, events (null: none are told); of
    a series file, duration and ``series``: ``time`` (s) and each output, a value a step; of a
    search file, duration and ``ranking``: item and score, the best first; of a model of numbers
    file, duration and ``values`` {output: value}."""
    rows = [_as_object(p) for p in predictions]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _as_object(found: FilePrediction) -> dict[str, Any]:
    about = {"file": found.file, "duration": found.duration}
    if found.series is not None:
        return {**about, "series": found.series.columns()}
    if found.ranked:
        ranking = [{"item": item, "score": score} for item, score in best_first(found)]
        return {**about, "ranking": ranking}
    if found.values:
        return {**about, "values": found.tags}
    return {**about, "tags": found.tags, "events": found.events_as_json()}


def as_csv(predictions: Sequence[FilePrediction]) -> str:
    """A row a step: file, time (s), and the value of each output; of a search a row an item: file,
    rank, item, score; of numbers of a clip a row a file.

    Raises:
        UserError: the model says no values over time and ranks nothing.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for place, found in enumerate(predictions):
        if found.ranked:
            if not place:
                writer.writerow(["file", "rank", "item", "score"])
            rows = enumerate(best_first(found), start=1)
            writer.writerows([found.file, rank, *one] for rank, one in rows)
            continue
        if found.values:
            if not place:
                writer.writerow(["file", *found.tags])
            writer.writerow([found.file, *found.tags.values()])
            continue
        if found.series is None:
            raise UserError("this model gives no values over time, which CSV is of: --format json.")
        columns = found.series.columns()
        if not place:
            writer.writerow(["file", *columns])
        writer.writerows([found.file, *row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def label_track(found: FilePrediction) -> str:
    """Audacity's label track: onset, offset (s) and label a line, separated by TABs.

    Raises:
        UserError: the model says nothing about time.
    """
    if found.events is None:
        raise UserError("this model gives no events, so it has no label track: --format json.")
    return "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label}\n" for e in found.events)


def _write_tracks(predictions: Sequence[FilePrediction], folder: Path) -> str:
    """One FILE.txt each, in folders as the files lie in below what they have in common."""
    places = [Path(os.path.abspath(found.file)) for found in predictions]
    common = os.path.commonpath([place.parent for place in places])
    written = [folder / f"{place.relative_to(common)}.txt" for place in places]
    for path, found in zip(written, predictions, strict=True):
        _write(path, label_track(found))
    return "".join(f"{path}\n" for path in written)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror}.") from error
