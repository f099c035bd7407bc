"""A run's best model or stack as a self-contained bundle, and what it says about any audio file.

A *bundle* is a folder that needs neither the run nor its data::

    bundle.json                       what it is (see :func:`export`)
    members/00003/model.safetensors   weights, as ``Fitted.save`` writes them
    members/00003/model.json          classes, training length, thresholds and median widths
    learner.json                      a stack's meta-learner

Sound longer than a training clip is cut into windows of that length which overlap by half. A
frame's score is the mean over the windows that hold it, weighted by a triangle that falls from a
window's middle to its ends, where the network sees least around a frame. Events are decoded once,
over all frames, so that one which spans a cut stays one. A tag's score is its largest over windows.

A stack's tag scores are its meta-learner's, of the members' tag scores. Its events are those of the
first member (the search's best), but only of the classes that the stack's tags hold for present.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch

from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, read_json, write_json
from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.files import LENGTH_TOLERANCE, Files, broken_lines, examine
from systems.data.store import load_mono
from systems.errors import UserError, unknown
from systems.system import Fitted

FORMAT = 1  # of bundle.json
PRESENT = 0.5  # a tag is there where its score is above
BLOCK = 1 << 18  # samples of a file that are read at once
BATCH = 16  # windows that are scored at once
OUTPUTS = ("table", "json", "audacity")
Blocks = Callable[[int], Iterator[np.ndarray]]  # a rate in Hz -> mono sound [S], piece by piece


# Bundles


@dataclass(frozen=True)
class _Choice:
    """What a bundle holds: trials in order, the first one's decision variant, a meta-learner."""

    members: tuple[int, ...]
    variant: str
    learner: str | None = None


def export(run: RunDir, folder: Path, *, model: str = "best") -> Path:
    """Write a bundle of one of a run's models; returns its folder.

    ``bundle.json`` states ``format``, ``system``, ``members`` (trial and full configuration),
    ``learner``, ``variant`` (of the decision), ``classes``, ``rate`` (Hz), ``frame_hop`` (s),
    ``version`` (of the package
    that trained it), ``run`` (name, id), ``dataset``, ``fingerprint`` and ``test``
    (scores with intervals, ``None`` before the test part is scored).

    Args:
        run: the run directory.
        folder: where the bundle comes to lie; it appears whole or not at all.
        model: ``best`` (the first member under the plan's decision), ``best:VARIANT`` (under
            another one), ``trial:N`` (another member) or a meta-learner's name.

    Raises:
        UserError: there is no such model, the run has not come so far, or the folder exists.
    """
    plan = _plan(run)
    choice = _choose(run, plan, model)
    _check_finished(run, plan, choice)
    folder = folder.resolve()
    if folder.exists():
        raise UserError(f"{folder} exists: name another folder, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        aside = Path(temporary) / "bundle"
        for number in choice.members:
            _export_member(run, plan, choice, number, _member_folder(aside, number))
        if choice.learner:
            shutil.copyfile(run.stack(choice.learner) / "learner.json", aside / "learner.json")
        write_json(aside / "bundle.json", _describe(run, plan, choice, aside))
        os.rename(aside, folder)
    return folder


def sources(run: RunDir, model: str) -> list[Path]:
    """The files and folders of a run that a bundle is made from."""
    plan = _plan(run)
    choice = _choose(run, plan, model)
    found = [run.plan, run.members, run.scores]
    for number in choice.members:
        found += [_trained(run, plan, number), run.trial(number).decision(choice.variant)]
    return [*found, run.stack(choice.learner) / "learner.json"] if choice.learner else found


def _plan(run: RunDir) -> Plan:
    if not run.plan.exists():
        raise UserError(f"{run.path} holds no run: it has no plan.json.")
    return Plan.from_json(read_json(run.plan))


def _choose(run: RunDir, plan: Plan, model: str) -> _Choice:
    """The model of this name. Raises UserError where there is none."""
    from orchestrator.members import decision_variants  # loads Ray: a Predictor does without

    if not run.members.exists():
        raise _unfinished(run, plan, "its search has not ended")
    numbers = tuple(member["trial"] for member in read_json(run.members)["members"])
    variants = list(decision_variants(plan))
    choices = {"best": _Choice(numbers[:1], variants[0])}
    choices |= {f"best:{variant}": _Choice(numbers[:1], variant) for variant in variants}
    choices |= {f"trial:{number}": _Choice((number,), variants[0]) for number in numbers}
    choices |= {name: _Choice(numbers, variants[0], name) for name in plan.stack}
    if model not in choices:
        raise unknown(f"model of the run '{plan.name}':", model, choices)
    return choices[model]


def _check_finished(run: RunDir, plan: Plan, choice: _Choice) -> None:
    missing = [
        f"trial {number} has no final model"
        for number in choice.members
        if not (_trained(run, plan, number) / "model.json").exists()
        or not run.trial(number).decision(choice.variant).exists()
    ]
    if choice.learner and not (run.stack(choice.learner) / "scores.json").exists():
        missing.append(f"the meta-learner {choice.learner} has not been fitted")
    if missing:
        raise _unfinished(run, plan, "; ".join(missing))


def _unfinished(run: RunDir, plan: Plan, missing: str) -> UserError:
    return UserError(
        f"the run '{plan.name}' has not come so far: {missing}. Go on with it first: "
        f"`soundsweep run --resume {run.path}`."
    )


def _trained(run: RunDir, plan: Plan, number: int) -> Path:
    """The folder of a member's final model."""
    trial = run.trial(number)
    return trial.refit / "model" if plan.final_is_refit() else trial.model(0)


def _member_folder(bundle: Path, number: int) -> Path:
    return bundle / "members" / f"{number:05d}"


def _config(run: RunDir, plan: Plan, choice: _Choice, number: int) -> Any:
    from orchestrator.members import decision_variants

    config = plan.trial_config(read_json(run.trial(number).config)["params"])
    return configs.replace(config, decision_variants(plan)[choice.variant])


def _export_member(run: RunDir, plan: Plan, choice: _Choice, number: int, folder: Path) -> None:
    fitted = (
        plan.entry().build(_config(run, plan, choice, number)).load(_trained(run, plan, number))
    )
    if plan.entry().decision is not None:
        fitted = fitted.with_decision(read_json(run.trial(number).decision(choice.variant)))
    fitted.save(folder)


def _describe(run: RunDir, plan: Plan, choice: _Choice, bundle: Path) -> dict[str, Any]:
    members = [(number, _config(run, plan, choice, number)) for number in choice.members]
    number, config = members[0]
    first = plan.entry().build(config).load(_member_folder(bundle, number))
    return {
        "format": FORMAT,
        "system": plan.system,
        "members": [{"trial": n, "config": json.loads(configs.to_json(c))} for n, c in members],
        "learner": choice.learner,
        "variant": choice.variant,
        "classes": list(plan.classes),
        "rate": first.rate,
        "frame_hop": first.frame_hop,
        "version": plan.versions.get("soundsweep"),
        "run": {"name": plan.name, "id": plan.run_id},
        "dataset": plan.dataset,
        "fingerprint": plan.fingerprint,
        "test": _test_scores(run, choice),
    }


def _test_scores(run: RunDir, choice: _Choice) -> dict[str, Any] | None:
    """The row of scores.json that is of this model: its metrics, and whether it is transductive."""
    for row in read_json(run.scores)["rows"] if run.scores.exists() else ():
        mine = (choice.learner, None if choice.learner else choice.members[0])
        if (row["learner"], row["trial"]) == mine and row["variant"] in (None, choice.variant):
            return {"metrics": row["metrics"], "transductive": row["transductive"]}
    return None


# Predictions


class ScoredEvent(NamedTuple):
    """An event: onset and offset in s, its class, and the mean of its frames' scores."""

    onset: float
    offset: float
    label: str
    score: float


@dataclass(frozen=True)
class FilePrediction:
    """What a model says about one file: its length in s, a score for each class, timed events."""

    file: str
    duration: float
    tags: dict[str, float]
    events: tuple[ScoredEvent, ...]

    def present(self) -> tuple[str, ...]:
        """Classes whose score is above 0.5, the highest first."""
        ranked = sorted(self.tags, key=lambda label: -self.tags[label])
        return tuple(label for label in ranked if self.tags[label] > PRESENT)


class _Broken(Exception):
    """Sound that cannot be used, and why."""


@dataclass(frozen=True)
class Predictor:
    """A loaded bundle. ``about`` is its bundle.json; ``learner`` is ``None`` but in a stack."""

    about: Mapping[str, Any]
    members: tuple[Fitted, ...]
    learner: Any
    context: Context

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Predictor:
        """Read a bundle; nothing in it is unpickled.

        Raises:
            UserError: no bundle, one of another format, or no such device.
        """
        path = folder / "bundle.json"
        if not path.exists():
            raise UserError(f"{folder} holds no bundle: it has no bundle.json.")
        about = read_json(path)
        if about["format"] != FORMAT:
            raise UserError(
                f"{path} is of format {about['format']}, this version reads {FORMAT}: it was "
                f"written by soundsweep {about['version']}."
            )
        entry = registry.get(about["system"])
        members = tuple(
            entry.build(configs.from_dict(type(entry.config), member["config"])).load(
                _member_folder(folder, member["trial"])
            )
            for member in about["members"]
        )
        context = Context(device=_checked_device(device))
        return cls(about, members, _learner(folder) if about["learner"] else None, context)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.about["classes"])

    def predict_files(self, paths: Sequence[str | Path]) -> list[FilePrediction]:
        """Tags and events of audio files of any rate and number of channels, in order.

        They are mixed down and resampled as in training. Of a file of hours only some blocks are
        held at once.

        Raises:
            UserError: one error that names every file that is missing, empty or broken.
        """
        names = {str(path): "the files given" for path in paths}
        seconds, broken = examine(Files("", {name: name for name in names}), names, decode=False)
        _refuse(broken, len(names))
        found, torn = [], []
        for name in map(str, paths):
            try:
                blocks = partial(_file_blocks, name, seconds[name])
                found.append(self._predict(name, blocks, seconds[name]))
            except _Broken as error:
                torn.append((name, str(error)))
        _refuse(torn, len(names))
        return found

    def predict_waveform(self, samples: np.ndarray, rate: int, file: str = "") -> FilePrediction:
        """Tags and events of sound in memory.

        Args:
            samples: [C, S].
            rate: in Hz.
            file: what the prediction calls it.

        Raises:
            UserError: no samples, another shape, a rate below 1, or samples that are not finite.
        """
        if samples.ndim != 2 or samples.size == 0 or rate < 1:
            raise UserError(
                f"sound is [channels, samples] at a rate in Hz, not {samples.shape} at {rate}."
            )
        if not np.isfinite(samples).all():
            raise UserError(f"the sound {file} holds samples that are not finite.")
        duration = samples.shape[1] / rate

        def blocks(wanted: int) -> Iterator[np.ndarray]:
            mono = load_mono(samples.astype(np.float32, copy=False), rate, wanted)
            return _fitted([mono], round(duration * wanted))

        return self._predict(file, blocks, duration)

    def _predict(self, file: str, blocks: Blocks, duration: float) -> FilePrediction:
        scored = [self._score(member, blocks(member.rate)) for member in self.members]
        first, (clip, frames) = self.members[0], scored[0]
        kept, events = first.timed(frames, round(duration * first.rate) / first.rate)
        if self.learner is not None:
            clip = self.learner.predict(np.stack([scores for scores, _ in scored])[None])[0]
            events = tuple(e for e in events if clip[self.classes.index(e.label)] > PRESENT)
        tags = {label: float(score) for label, score in zip(self.classes, clip, strict=True)}
        timed = (
            ScoredEvent(*e, _event_score(kept[:, self.classes.index(e.label)], e, first.frame_hop))
            for e in events
        )
        return FilePrediction(file, duration, tags, tuple(timed))

    def _score(self, member: Fitted, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Clip scores [K] and frame scores [T, K] of a whole file by one member."""
        hop = round(member.frame_hop * member.rate)  # samples
        step = max(1, member.samples // 2 // hop)  # frames
        cut = windows(blocks, member.samples, step * hop)
        clips: list[np.ndarray] = []
        frames: list[np.ndarray] = []
        while batch := list(itertools.islice(cut, BATCH)):
            clip, frame = member.score(batch, self.context)
            clips.append(clip)
            frames.extend(frame)
        return np.concatenate(clips).max(axis=0), join(frames, step)


def windows(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[np.ndarray]:
    """Windows [length] of sound that comes in blocks [S], one every ``step`` samples.

    The last one ends where the sound does and may be shorter; sound no longer than a window is one.
    """
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > length:
            yield held[:length]
            held = held[step:]
    yield held


def join(frames: Sequence[np.ndarray], step: int) -> np.ndarray:
    """Frame scores [T, K] of windows that start every ``step`` frames as those of the whole.

    Where windows overlap it is their mean, weighted by a triangle over each window.
    """
    if len(frames) == 1:
        return frames[0]
    length, classes = frames[0].shape
    ramp = np.arange(length) + 0.5
    triangle = np.minimum(ramp, ramp[::-1])[:, None]
    total = np.zeros(((len(frames) - 1) * step + length, classes))
    weight = np.zeros((len(total), 1))
    for start, scores in zip(itertools.count(0, step), frames, strict=False):
        total[start : start + length] += triangle * scores
        weight[start : start + length] += triangle
    return (total / weight).astype(np.float32)


def _event_score(scores: np.ndarray, event: Any, hop: float) -> float:
    start, stop = round(event.onset / hop), int(np.ceil(event.offset / hop - 1e-6))
    return float(scores[start : max(stop, start + 1)].mean())


def _file_blocks(path: str, seconds: float, rate: int) -> Iterator[np.ndarray]:
    """The file's sound, mono at a rate, in blocks [S].

    Raises:
        _Broken: it cannot be decoded, ends before its header says, or is not finite.
    """
    with soundfile.SoundFile(path) as file:
        mono = _mono_blocks(file, seconds)
        yield from _fitted(_resampled(mono, file.samplerate, rate), round(seconds * rate))


def _mono_blocks(file: soundfile.SoundFile, seconds: float) -> Iterator[np.ndarray]:
    done = 0
    try:
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise _Broken("holds samples that are not finite")
            done += len(block)
            yield load_mono(block.T, file.samplerate, file.samplerate)
    except soundfile.LibsndfileError as error:
        raise _Broken(f"cannot be decoded: {error.error_string}") from error
    decoded = done / file.samplerate
    if abs(decoded - seconds) > LENGTH_TOLERANCE:
        raise _Broken(f"decodes to {decoded:.3f} s instead of {seconds:.3f} s (truncated?)")


def _resampled(blocks: Iterable[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    """Blocks as :func:`load_mono` resamples the whole: soxr gives the same bits either way."""
    if source_rate == rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _fitted(blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Blocks cut or padded to so many samples, as the waveform store does it."""
    for block in blocks:
        yield block[:samples]
        samples -= min(samples, len(block))
    yield np.zeros(samples, np.float32)


def _refuse(broken: Sequence[tuple[str, str]], count: int) -> None:
    if broken:
        raise UserError(
            f"{len(broken)} of {count} files cannot be used:\n{broken_lines(broken)}\n"
            "Mend them, or leave them out."
        )


def _checked_device(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device.")
    return device


def _learner(folder: Path) -> Any:
    from orchestrator.stacking.base import learner  # loads Ray, which a single model does without

    stored = read_json(folder / "learner.json")
    fitted = learner(stored["name"])
    fitted.load(stored["state"])
    return fitted


# Output


def predict_command(
    run: RunDir, files: list[str], *, model: str, format: str, output: str | None, device: str
) -> str:
    """``soundsweep predict``: what it prints.

    Args:
        run: the run directory.
        files: audio files, or folders, of which every audio file below counts.
        model: as :func:`export` takes it.
        format: ``table``; ``json``, a list of objects; or ``audacity``, label tracks.
        output: a file to write instead; for label tracks of several files a folder.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: an unknown model, format or device, an unfinished run, or files that cannot be
            used.
    """
    if format not in OUTPUTS:
        raise unknown("format", format, OUTPUTS)
    paths = audio_files(files)
    if format == "audacity" and len(paths) > 1 and output is None:
        raise UserError(
            f"label tracks of {len(paths)} files: name a folder for them with --output."
        )
    with tempfile.TemporaryDirectory() as temporary:
        bundle = export(run, Path(temporary) / "bundle", model=model)
        predictor = Predictor.load(bundle, device)
    found = predictor.predict_files(paths)
    if format == "audacity" and len(paths) > 1:
        return _write_tracks(found, Path(str(output)))
    write = {"table": table, "json": as_json, "audacity": lambda few: label_track(few[0])}[format]
    if output is None:
        return write(found)
    _write(Path(output), write(found))
    return f"{output}\n"


def audio_files(given: Iterable[str]) -> list[str]:
    """The files given, each once, and all audio files in folders among them, by name.

    Raises:
        UserError: folders without any.
    """
    endings = {f".{name.lower()}" for name in soundfile.available_formats()}
    endings = (endings | {".aif", ".oga", ".opus"}) - {".raw"}  # raw has no header
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
        raise UserError(f"no audio file in {', '.join(without)} ({', '.join(sorted(endings))}).")
    return list(dict.fromkeys(found))


def table(predictions: Sequence[FilePrediction]) -> str:
    """Readable text: per file its tags (``*``: present) and its events."""
    return "\n".join(map(_paragraph, predictions))


def _paragraph(found: FilePrediction) -> str:
    width = max(len(label) for label in found.tags)
    ranked = sorted(found.tags.items(), key=lambda item: -item[1])
    lines = [f"{found.file}  ({found.duration:.3f} s)", "  tags"]
    lines += [
        f"  {'*' if score > PRESENT else ' '} {label:<{width}}  {score:.3f}"
        for label, score in ranked
    ]
    lines.append("  events" if found.events else "  no events")
    lines += [
        f"    {e.onset:9.3f} - {e.offset:9.3f} s  {e.label:<{width}}  {e.score:.3f}"
        for e in found.events
    ]
    return "\n".join(lines) + "\n"


def as_json(predictions: Sequence[FilePrediction]) -> str:
    """A list of objects: file, duration (s), tags {class: score}, events."""
    rows = [{**asdict(p), "events": [e._asdict() for e in p.events]} for p in predictions]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def label_track(found: FilePrediction) -> str:
    """Audacity's label track: onset, offset (s) and label a line, separated by TABs."""
    return "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label}\n" for e in found.events)


def _write_tracks(predictions: Sequence[FilePrediction], folder: Path) -> str:
    """One FILE.txt each, in folders as the files lie in below what they have in common."""
    places = [Path(found.file).resolve() for found in predictions]
    common = os.path.commonpath([place.parent for place in places])
    written = [folder / f"{place.relative_to(common)}.txt" for place in places]
    for path, found in zip(written, predictions, strict=True):
        _write(path, label_track(found))
    return "".join(f"{path}\n" for path in written)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
