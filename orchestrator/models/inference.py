"""What a bundle says about any audio file.

A file is heard as a clip of the data set is (:meth:`systems.listening.Hearing.listen`): what is
longer than a training clip in windows of that length, whatever lies beside it. Events are decoded
once, over all frames, so that one which spans a cut stays one. Of a series there are no tags and no
events but values at each step.

A stack's tag scores are its meta-learner's, of the members' tag scores, and so are its events where
it tells of any. Else its events are those of the first member that gives frames, but only of the
classes that the stack's tags hold for present. Where no member gives frames there are no events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from orchestrator.members.seen import Members, per_member
from orchestrator.models.answers import FilePrediction, FileSeries, ScoredEvent
from orchestrator.models.bundle import FORMAT, model_folder
from orchestrator.models.sound import FileSound, MemorySound, TrackSound, track_files
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import snapshot_of
from orchestrator.stacking.families import load_learner
from orchestrator.stacking.learner import Learner
from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.dataset import Event
from systems.data.files import BrokenSound, Files, broken_lines, examine
from systems.errors import UserError, shown, unknown
from systems.kinds import Kind, kind
from systems.postprocessing.decoding import align_frames
from systems.postprocessing.pooling import mean_of
from systems.system import Fitted

Sound = FileSound | MemorySound | TrackSound


Epoch = tuple[int | None, int]  # fold or ``None`` of the refit, epoch of its training


class _Said(NamedTuple):
    """A model on one file: clip scores [K], frame scores [T, K] and the events that they hold; of a
    series frames alone."""

    clip: np.ndarray | None
    frames: np.ndarray | None
    events: tuple[Event, ...] | None

    def answer(self, ragged: bool) -> np.ndarray:
        """Its dense answer: [1, K], of a series [T, D]."""
        if ragged:
            assert self.frames is not None
            return self.frames
        assert self.clip is not None
        return self.clip[None]


class _Member(NamedTuple):
    """A member on one file: the mean of its models, each of them, and clip scores [K] by epoch."""

    mean: _Said
    models: tuple[_Said, ...]
    epochs: dict[Epoch, np.ndarray]


@dataclass(frozen=True)
class Models:
    """A member's models: one or several whose mean is the member, and epochs of its trainings.

    ``of_folds``: whether they are the folds' models, be it one; else a refit.
    """

    main: tuple[Fitted, ...]
    epochs: Mapping[Epoch, Fitted]
    of_folds: bool = False

    @property
    def first(self) -> Fitted:
        return self.main[0]


@dataclass(frozen=True)
class Predictor:
    """A loaded bundle. ``about`` is its bundle.json; ``learner`` is ``None`` but in a stack."""

    about: Mapping[str, Any]
    members: tuple[Models, ...]
    learner: Learner | None
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
        members = tuple(_models(folder, place, m) for place, m in enumerate(about["members"]))
        fitted = load_learner(folder / "learner") if about["learner"] else None
        return cls(about, members, fitted, Context(device=_checked_device(device)))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.about["classes"])

    @property
    def over_time(self) -> bool:
        """Whether it says values at each step, and no tags or events."""
        return self._kind.ragged

    def predict_files(self, paths: Sequence[str | Path]) -> list[FilePrediction]:
        """Tags and events of audio files of any rate and number of channels, in order.

        They are mixed down and resampled as in training. Of a file of hours only some blocks are
        held at once. For a model that hears tracks a path is a folder, see :func:`track_files`.

        Raises:
            UserError: one error that names every file that is missing, empty or broken.
        """
        if self.tracks:
            return self._predict_scenes(paths)
        names = {str(path): "" for path in paths}
        seconds, broken = examine(Files("", {name: name for name in names}), names, decode=False)
        _refuse(broken, len(names))
        found, torn = [], []
        for name in map(str, paths):
            try:
                found.append(self._predict(shown(name), FileSound(name, seconds[name])))
            except BrokenSound as error:
                torn.append((name, str(error)))
        _refuse(torn, len(names))
        return found

    def _predict_scenes(self, paths: Sequence[str | Path]) -> list[FilePrediction]:
        """Of folders that hold a file of each track."""
        scenes = track_files(map(str, paths), self.tracks)
        names = {path: "" for files in scenes.values() for path in files.values()}
        seconds, broken = examine(Files("", {name: name for name in names}), names, decode=False)
        _refuse(broken, len(names))
        found, torn = [], []
        for folder, files in scenes.items():
            try:
                found.append(self._predict(shown(folder), TrackSound(folder, files, seconds)))
            except BrokenSound as error:
                torn.append((folder, str(error)))
        _refuse(torn, len(scenes))
        return found

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks that its models hear; none where they hear files themselves."""
        models = (model for member in self.members for model in member.main)
        return tuple(dict.fromkeys(one.track for model in models for one in model.tracks.values()))

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
        if self.tracks:
            raise UserError(f"this model hears tracks ({', '.join(self.tracks)}), not one sound.")
        if not np.isfinite(samples).all():
            raise UserError(f"the sound {file} holds samples that are not finite.")
        return self._predict(file, MemorySound(samples.astype(np.float32, copy=False), rate))

    def _predict(self, file: str, sound: Sound) -> FilePrediction:
        said = [self._member(models, sound) for models in self.members]
        duration = sound.seconds
        view = self._view(said, sound)
        rows = view.scores[:, 0] if self.learner is None else self.learner.predict(view)
        if self._kind.ragged:
            series = FileSeries(min(view.frame_hops), self.classes, rows)
            return FilePrediction(file, duration, {}, None, series=series)
        clip, own = rows[0], None if self.learner is None else self.learner.events(view)
        tags = {label: float(score) for label, score in zip(self.classes, clip, strict=True)}
        events = self._scored_events(view, clip, own)
        of = self._kind
        return FilePrediction(
            file, duration, tags, events, self._exclusive, None, of.ranks, of.decide is None
        )

    def _scored_events(
        self, view: Members, clip: np.ndarray, own: tuple[tuple[Event, ...], ...] | None
    ) -> tuple[ScoredEvent, ...] | None:
        """The events of the learner, else the first's of those members that give frames."""
        timed = view.with_frames()
        if not timed:
            return None
        of = view.only(timed[:1])
        frames = of.mean_frames()[0][0]
        if own is not None:
            assert self.learner is not None
            fused = self.learner.fused_frames(view)
            of = self.learner.sees(view)
            events, frames = own[0], (fused or of.mean_frames()[0])[0]
        elif self.learner is None:
            events = view.events_of(timed[0])[0]
        else:
            events = view.gated_events(timed[0], clip[None])[0]
        hop, start = of.aligned_frames()[1], of.frame_start
        return tuple(
            ScoredEvent(*e, _event_score(frames[:, self.classes.index(e.label)], e, hop, start))
            for e in events
        )

    @property
    def _kind(self) -> Kind:
        return kind(self.about["label_kind"])

    @property
    def _exclusive(self) -> bool:
        return self._kind.exclusive

    def _member(self, models: Models, sound: Sound) -> _Member:
        """What a member says of a whole file: the mean of its models, and each."""
        scored = [self._score(model, sound) for model in models.main]
        length = round(sound.seconds * models.first.rate) / models.first.rate
        each = tuple(
            _said(model, clip, frames, length)
            for model, (clip, frames) in zip(models.main, scored, strict=True)
        )
        clips = [clip for clip, _ in scored if clip is not None]
        clip = self._mean(np.stack(clips)) if clips else None
        speaking = [model for model in models.main if model.frame_hop is not None]
        hops = [model.frame_hop or 0.0 for model in speaking]
        starts = [model.frame_start for model in speaking]
        timed = [frames for _, frames in scored if frames is not None]
        frames = self._mean(align_frames(timed, hops, starts).swapaxes(0, 1)) if timed else None
        mean = _said(models.first, clip, frames, length)
        epochs = {e: self._score(m, sound)[0] for e, m in models.epochs.items()}
        return _Member(mean, each, {e: clip for e, clip in epochs.items() if clip is not None})

    def _mean(self, scores: np.ndarray) -> np.ndarray:
        """The mean over a member's models [F, ...]."""
        return mean_of(scores, self.about["mean_of_folds"], self._exclusive).astype(np.float32)

    def _view(self, said: Sequence[_Member], sound: Sound) -> Members:
        """What a meta-learner sees of one file."""
        columns, rate = None, self.members[0].first.rate
        length = round(sound.seconds * rate) / rate
        if self.learner and "columns" in (*self.learner.takes, *self.learner.uses):
            from systems.frontend.statistics import mfcc_statistics

            assert not isinstance(sound, TrackSound)
            columns = mfcc_statistics(sound.at(rate), rate)[None]
        epochs = [one.epochs for one in said]
        whole = self._seen([one.mean for one in said], epochs, None, length)
        of_folds = tuple(
            replace(
                self._seen([one.models[fold] for one in said], epochs, fold, length),
                fold=np.array([fold]),
                columns=columns,
            )
            for fold in range(min(len(one.models) for one in said))
        )
        folds_predict = any(models.of_folds for models in self.members)
        return replace(whole, columns=columns, of_folds=of_folds if folds_predict else None)

    def _seen(
        self, said: Sequence[_Said], epochs: Sequence[dict[Epoch, np.ndarray]], fold: int | None,
        length: float,
    ) -> Members:  # fmt: skip
        """One model of each member on one file, and the epochs of its training."""
        asked = tuple({e: s[None] for (of, e), s in one.items() if of == fold} for one in epochs)
        ragged = self._kind.ragged
        answers = [one.answer(ragged) for one in said]
        steps = min(map(len, answers))
        return Members(
            names=tuple(str(member["trial"]) for member in self.about["members"]),
            clip_ids=("file",),
            classes=self.classes,
            scores=np.stack([rows[:steps] for rows in answers], axis=1).astype(float),
            lengths=(steps,) if ragged else None,
            frames=per_member(
                None if ragged or one.frames is None else (one.frames,) for one in said
            ),
            frame_hops=tuple(models.first.frame_hop or 0.0 for models in self.members),
            frame_starts=tuple(models.first.frame_start for models in self.members),
            durations=(length,),
            events=per_member(None if one.events is None else (one.events,) for one in said),
            epochs=asked if any(asked) else None,
            labels=self.about["label_kind"],
        )

    def _score(self, member: Fitted, sound: Sound) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Clip scores [K] and frame scores [T, K], if any, of a whole file by one member."""
        if isinstance(sound, TrackSound):
            heard: Any = sound.heard(member.tracks)
        else:
            heard = sound.at(member.rate, member.channels)
        clips, frames = member.score([heard], self.context)
        return None if clips is None else clips[0], None if frames is None else frames[0]


def _said(
    model: Fitted, clip: np.ndarray | None, frames: np.ndarray | None, length: float
) -> _Said:
    """Clip and frame scores of one model, with the events that its decision makes of them."""
    return _Said(clip, None, None) if frames is None else _Said(clip, *model.timed(frames, length))


def _event_score(scores: np.ndarray, event: Any, hop: float, start: float) -> float:
    """The mean score of the frames that stand for an event; the first begins at ``start`` s."""
    first = max(0, round((event.onset - start) / hop))
    stop = int(np.ceil((event.offset - start) / hop - 1e-6))
    return float(scores[first : max(stop, first + 1)].mean())


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


def _models(bundle: Path, place: int, member: Mapping[str, Any]) -> Models:
    """The models of a member of a bundle."""
    entry = registry.get(member["system"])
    system = entry.build(configs.from_dict(type(entry.config), member["config"]))
    loaded = {name: system.load(model_folder(bundle, place, name)) for name in member["models"]}
    epochs = {epoch: loaded.pop(name) for name in list(loaded) if (epoch := snapshot_of(name))}
    return Models(tuple(loaded.values()), epochs, of_folds="refit" not in loaded)
