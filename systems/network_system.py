"""A system that is a network: most of the papers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Event
from systems.data.prepare import Prepare, Waveforms
from systems.data.splits import TrainingData
from systems.excerpts import Excerpts, Voting
from systems.files import write_whole
from systems.frontend import FrontEnd
from systems.frontend.scale import By, Scale
from systems.listening import Activation, Heard, Hearing, Model
from systems.postprocessing.decoding import Decoding, decode
from systems.postprocessing.refinement import Refined, Refinement, refine
from systems.predictions import Predictions
from systems.system import Input, Sounds
from systems.tracks import any_of, each
from systems.training.history import History
from systems.training.losses import LossTerm
from systems.training.mixing import Augmentation
from systems.training.probe import Probe, probe
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit

UNDECIDED = Refinement(on="none")  # nothing is adapted
Labelling = Callable[[TrainingData, Context], TrainingData]


class NetworkSystem:
    """Front ends, excerpts, a network, loss terms, a training and a decision.

    Args:
        front_end: settings of the front end, or of several by name.
        network: (shape, outputs) -> network, features [B, C, F, T] -> :class:`Outputs`. The shape
            is (C, F, T) of an excerpt's features, of several front ends one by name. Of a decision
            that is adapted it also takes ``lengths`` [B] in frames.
        loss: the terms of the loss.
        training: how long and on what.
        excerpts: how much is heard at once.
        decision: what the thresholds are adapted on, or how windows vote.
        frames: whether the network gives frames. Else it gives the clip's alone, and the system
            tells of no events.
        step: s from frame to frame of the network, where it is not the front end's.
        activation: what makes scores of the outputs.
        scale: over what features are standardised.
        prepare: what is left of a clip's sound.
        augment: changes of a training batch.
        labelling: changes of what is trained on, in order.
        start: changes of a fresh network before its training, such as weights from a file.
        frozen: prefixes of the network's parameters that are not trained.

    Raises:
        ValueError: a decision that is adapted without frames.
    """

    def __init__(
        self,
        *,
        front_end: FrontEnd | Mapping[str, FrontEnd],
        network: Callable[[Any, int], nn.Module],
        loss: Sequence[LossTerm],
        training: Training,
        excerpts: Excerpts,
        decision: Refinement | Voting = UNDECIDED,
        frames: bool = True,
        step: float | None = None,
        activation: Activation = "none",
        scale: By = "band",
        prepare: Prepare | None = None,
        augment: Sequence[Augmentation] = (),
        labelling: Sequence[Labelling] = (),
        start: Callable[[nn.Module, Context], None] | None = None,
        frozen: Sequence[str] = (),
    ) -> None:
        if not frames and decision.on != "none":
            raise ValueError("a decision is adapted on frames, which this network does not give")
        self.front_end = front_end
        self.recipe = Recipe(loss, training, augment)
        self.training = training
        self.excerpts = excerpts
        if isinstance(decision, Voting):
            self.excerpts = replace(excerpts, mean=decision.mean)
        self.decision = decision
        self.frames = frames
        self.step = step
        self.activation = activation
        self.scale = scale
        self.prepare = prepare
        self.labelling = labelling
        self.start = start
        self.frozen = frozen
        self._network = network

    @property
    def rate(self) -> int:
        """The sound's rate in Hz."""
        return int(any_of(self.front_end).rate)

    @property
    def unit(self) -> float:
        """s from sample to sample, or of features from frame to frame."""
        hop: float = any_of(self.front_end).hop_seconds
        return hop if self.excerpts.of_features else 1 / self.rate

    @property
    def frame_hop(self) -> float | None:
        """s from frame to frame of what is said about time; ``None`` where nothing is."""
        if self.frames:
            hop: float = any_of(self.front_end).hop_seconds
            return self.step or hop
        if self.excerpts.predict == "windows":
            return self.excerpts.hop * self.length * self.unit
        return None

    @property
    def length(self) -> int:
        """The length of an excerpt in units."""
        return self.excerpts.frames or round(self.excerpts.seconds * self.rate)

    @property
    def selects(self) -> str | None:
        return "validation_loss" if self.training.keep.on == "loss" else None

    @property
    def keeps(self) -> int:
        return self.training.keep.count

    def inputs(self) -> dict[str, Input]:
        unlabelled = self.training.unlabelled or self.decision.on == "unlabelled"
        roles = ("labelled", "unlabelled") if unlabelled else ("labelled",)
        return {"audio": Input(roles, self.rate, self.prepare)}

    def network(self, classes: int) -> nn.Module:
        return self._network(self.shape(self.length), classes)

    def shape(self, length: int) -> Any:
        """The shape (C, F, T) of an excerpt's features, of several front ends by name."""
        return each(lambda front_end: self._shape(front_end, length), self.front_end)

    def _shape(self, front_end: FrontEnd, length: int) -> tuple[int, ...]:
        if not self.excerpts.of_features:
            return front_end.shape(length)
        second = front_end.shape(front_end.rate)
        return (*second[:-1], length + self.excerpts.overhang)

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedNetwork:
        """Train from scratch or from the context's checkpoint, then adapt the decision."""
        for change in self.labelling:
            data = change(data, context)
        model, hearing = self._begin(data, sounds, context)
        plain = Decoding.plain(len(data.classes))
        fitted = FittedNetwork(
            self, model, (), data.classes, hearing.length, data.label_hop, plain, History()
        )
        timed = fitted.timed if self.frames else None
        history, states = fit(model, self.recipe, hearing, data, context, timed)
        model.load_state_dict(states[0])
        fitted = replace(fitted, states=tuple(states), history=history)
        if self.decision.on == "labelled":
            return fitted.adapt(self.decision, data.labelled.clip_ids, sounds, context)
        if self.decision.on == "unlabelled":
            ids = data.unlabelled["unlabelled"].clip_ids
            return fitted.adapt(self.decision, ids, sounds, context)
        return fitted

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> Probe:
        """The cost of a step, from two of them on some of the data."""
        model, hearing = self._begin(data, sounds, context)
        frames_per_second = 1 / self.frame_hop if self.frame_hop else 0.0
        return probe(model, self.recipe, hearing, data, frames_per_second, context)

    def load(self, folder: Path) -> FittedNetwork:
        """What :meth:`FittedNetwork.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        classes = tuple(about["classes"])
        model = self._model(len(classes), about["length"])
        states = [load_file(folder / name) for name in _files(about["kept"])]
        model.load_state_dict(states[0])
        decoding = Decoding(tuple(about["thresholds"]), tuple(about["medians"]))
        return FittedNetwork(
            self, model, tuple(states), classes, about["length"], about["label_hop"], decoding,
            History(),
        )  # fmt: skip

    def hearing(self, sounds: Sounds, length: int, label_hop: float) -> Hearing:
        """The sound under this system's excerpts."""
        step = label_hop or (self.step or 0.0 if self.excerpts.mean == "overlap" else 0.0)
        grid = max(1, round(step / self.unit)) if step else 1
        batch = max(1, 2 * self.training.labelled)
        return Hearing(sounds["audio"], self.excerpts, length, self.unit, grid, batch)

    def _begin(self, data: TrainingData, sounds: Sounds, context: Context) -> tuple[Model, Hearing]:
        """A fresh model, and what it hears: no excerpt is longer than the longest training clip."""
        torch.manual_seed(context.seed)
        longest = max(
            len(part) for i in data.labelled.clip_ids for part in sounds["audio"].parts(i)
        )
        hearing = self.hearing(sounds, self.length, data.label_hop)
        if self.excerpts.train == "random" or self.excerpts.mean == "overlap":
            units = (
                longest if not self.excerpts.of_features else round(longest / self.rate / self.unit)
            )
            length = min(self.length, units // hearing.grid * hearing.grid)
            hearing = replace(hearing, length=length)
        model = self._model(len(data.classes), hearing.length)
        if self.start is not None:
            self.start(model.network, context)
        return model.to(context.device), hearing

    def _model(self, classes: int, length: int) -> Model:
        shape = self.shape(length)
        front_end: Any = each(lambda one: one.build(), self.front_end)
        scale: Any = each(lambda one: Scale(one, self.scale), shape)
        if isinstance(front_end, dict):
            front_end, scale = _ByName(front_end), nn.ModuleDict(scale)
        network = self._network(shape, classes)
        return Model(
            front_end, scale, network, self.activation, self.excerpts.of_features, self.frozen
        )


class _ByName(nn.Module):
    """Several front ends of the same sound."""

    def __init__(self, front_ends: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.of = nn.ModuleDict(front_ends)

    def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
        return {name: front_end(waveforms) for name, front_end in self.of.items()}


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network with its decision.

    ``states``: weights of the epochs that predict, the mean of whose scores is the system's.
    ``length``: of an excerpt in units. ``label_hop``: s from step to step of a series, else 0.
    """

    system: NetworkSystem
    model: Model
    states: tuple[dict[str, Tensor], ...]
    classes: tuple[str, ...]
    length: int
    label_hop: float
    decoding: Decoding
    history: History
    refined: Refined | None = None
    voting: Voting | None = None

    @property
    def rate(self) -> int:
        return self.system.rate

    @property
    def samples(self) -> int | None:
        return self.length if self.system.excerpts.predict == "whole" else None

    @property
    def frame_hop(self) -> float | None:
        return self.label_hop or self.system.frame_hop

    @property
    def tells_events(self) -> bool:
        """Whether frames are the network's own, which hold events."""
        return self.system.frames and not self.label_hop

    def listen(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> Iterator[Heard]:
        """What is said of each clip: the mean over the kept epochs."""
        hearing = self.system.hearing(sounds, self.length, self.label_hop)
        if self.voting is not None:
            hearing = replace(hearing, excerpts=replace(hearing.excerpts, mean=self.voting.mean))
        self.model.to(context.device)
        track = hearing.track(self.model, clip_ids, context)
        said = []
        for state in self.states:
            if len(self.states) > 1:
                self.model.load_state_dict(state)
            heard = hearing.listen(self.model, track, context)
            if len(self.states) == 1:
                yield from heard
                return
            said.append(list(heard))
        yield from (_mean(each) for each in zip(*said, strict=True))

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """Clip scores of some clips, and what is said about time: of series their values, of events
        frame scores and events, of windows the scores of each."""
        clips: list[np.ndarray] = []
        frames: list[np.ndarray] = []
        events: list[tuple[Event, ...] | None] = []
        for clip_id, heard in zip(clip_ids, self.listen(clip_ids, sounds, context), strict=True):
            if heard.clip is not None:
                clips.append(heard.clip.numpy())
            if heard.frames is None:
                continue
            scores = heard.frames.numpy()
            scores, found = self.timed(scores, sounds["audio"].duration(clip_id))
            events.append(found)
            frames.append(scores)
        kinds: dict[str, Any] = {}
        if clips:
            kinds["clip_scores"] = np.stack(clips)
        if frames:
            kinds["frame_values" if self.label_hop else "frame_scores"] = tuple(frames)
            kinds["frame_hop"] = self.frame_hop
        if frames and self.tells_events:
            kinds["events"] = tuple(events)
        return Predictions.of(clip_ids, self.classes, fold, **kinds)

    def score(
        self, waveforms: Sequence[np.ndarray], context: Context
    ) -> tuple[np.ndarray | None, list[np.ndarray] | None]:
        """Clip scores [B, K] of waveforms [S] that are in no store, and frames [T, K] of each."""
        named = {str(place): waveform for place, waveform in enumerate(waveforms)}
        sounds = {"audio": Waveforms(self.rate, named, self.system.prepare)}
        heard = list(self.listen(tuple(named), sounds, context))
        clips = [one.clip.numpy() for one in heard if one.clip is not None]
        frames = [one.frames.numpy() for one in heard if one.frames is not None]
        return np.stack(clips) if clips else None, frames or None

    def timed(
        self, frame_scores: np.ndarray, duration: float
    ) -> tuple[np.ndarray, tuple[Event, ...] | None]:
        """Frame scores [T, K] of a clip up to its end (in seconds), and the events they hold."""
        assert self.frame_hop is not None
        if not self.tells_events:
            return frame_scores, None
        kept = frame_scores[: max(1, int(np.ceil(duration / self.frame_hop)))]
        return kept, decode(kept, self.decoding, self.classes, self.frame_hop, duration)

    def adapt(
        self, settings: Refinement | Voting, clip_ids: Sequence[str], sounds: Sounds,
        context: Context,
    ) -> FittedNetwork:  # fmt: skip
        """Self-adaptive label refinement on some clips (their sound alone); or another vote."""
        if isinstance(settings, Voting):
            return replace(self, voting=settings)
        if settings.on == "none":
            plain = Decoding.plain(len(self.classes))
            return replace(self, decoding=plain, refined=None)
        predicted = self.predict(clip_ids, sounds, context)
        assert predicted.clip_scores is not None
        assert predicted.frame_scores is not None

        def weak(samples: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
            return self._weak_on_cuts(samples, clip_ids, sounds, context)

        refined = refine(predicted.clip_scores, predicted.frame_scores, weak, settings)
        return replace(self, decoding=refined.decoding, refined=refined)

    def _weak_on_cuts(
        self, samples: Sequence[tuple[int, np.ndarray]], clip_ids: Sequence[str], sounds: Sounds,
        context: Context,
    ) -> np.ndarray:  # fmt: skip
        """Clip posteriors [S, K] of spectrogram cuts (clip index, frame indices)."""
        features: dict[int, Tensor] = {}
        for clip in {clip for clip, _ in samples}:
            waveform = torch.from_numpy(np.array(sounds["audio"][clip_ids[clip]]))
            padded = nn.functional.pad(waveform, (0, max(0, self.length - len(waveform))))
            features[clip] = self.model.features(padded[None], context.device)[0]
        order = sorted(range(len(samples)), key=lambda i: len(samples[i][1]))
        out = np.zeros((len(samples), len(self.classes)), np.float32)
        self.model.eval()
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            lengths = torch.tensor([len(samples[i][1]) for i in rows], device=context.device)
            batch = torch.zeros(len(rows), *next(iter(features.values())).shape[:2],
                                int(lengths.max()), device=context.device)  # fmt: skip
            for row, i in enumerate(rows):
                clip, frames = samples[i]
                batch[row, :, :, : len(frames)] = features[clip][:, :, torch.from_numpy(frames)]
            with torch.inference_mode():
                said = self.model.scores(self.model.network(batch, lengths))
            assert said.clip is not None
            out[rows] = said.clip.cpu().numpy()
        return out

    def decision(self) -> dict[str, Any] | None:
        """The refined decoders by class, or how windows vote; ``None`` where nothing is adapted."""
        if self.voting is not None:
            return {"voting": self.voting.mean}
        if self.refined is None:
            return None
        return {
            "thresholds": list(self.decoding.thresholds),
            "medians": list(self.decoding.medians),
            "losses": list(self.refined.losses),
            "without_clips": [self.classes[k] for k in self.refined.without_clips],
            "whole_clip_wins": [self.classes[k] for k in self.refined.whole_clip_wins],
        }

    def with_decision(self, decision: dict[str, Any] | None) -> FittedNetwork:
        """The same network with thresholds and medians of a :meth:`decision`."""
        if decision is None:
            return replace(self, decoding=Decoding.plain(len(self.classes)), refined=None)
        if "voting" in decision:
            return replace(self, voting=Voting(decision["voting"]))
        decoding = Decoding(tuple(decision["thresholds"]), tuple(decision["medians"]))
        return replace(self, decoding=decoding, refined=None)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, the rest as JSON."""
        for name, state in zip(_files(len(self.states)), self.states, strict=True):
            # Through memory: safetensors' own writer hides from us that a disk is full.
            write_whole(folder / name, save({k: v.contiguous() for k, v in state.items()}))
        about = {
            "classes": self.classes,
            "length": self.length,
            "label_hop": self.label_hop,
            "kept": len(self.states),
            "thresholds": self.decoding.thresholds,
            "medians": self.decoding.medians,
        }
        write_whole(folder / "model.json", json.dumps(about, indent=1))  # where it is, all is


def _files(kept: int) -> list[str]:
    """Names of the weights of so many epochs, the best first."""
    return ["model.safetensors", *(f"model_{place}.safetensors" for place in range(1, kept))]


def _mean(heard: Sequence[Heard]) -> Heard:
    """The mean of what several epochs say of a clip."""

    def mean(values: Sequence[Tensor | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        return torch.stack(there).mean(0) if there else None

    return Heard(mean([one.clip for one in heard]), mean([one.frames for one in heard]))
