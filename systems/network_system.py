"""A system that is a network: most of the papers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from systems.context import Context
from systems.data.changed import Change, applied
from systems.data.prepare import Prepare, Waveforms
from systems.data.splits import TrainingData
from systems.data.store import Channels
from systems.errors import UserError
from systems.excerpts import Excerpts, Voting
from systems.fitted_network import FittedNetwork, load_states
from systems.frontend import FrontEnd, built, channels_of, is_stored, least_seconds
from systems.frontend.scale import By, Scale
from systems.listening import Activation, Hearing, Model
from systems.postprocessing.decoding import Decoding
from systems.postprocessing.refinement import Refinement
from systems.system import LAST, Column, Input, Sounds
from systems.tracks import any_of, each
from systems.training.batches import Batches, Passes, Shuffled, Streams, Unlabelled
from systems.training.copies import ChangedCopy, Copies
from systems.training.history import History
from systems.training.labelling import Hidden, Labelling, Only
from systems.training.losses import LossTerm
from systems.training.mixing import Augmentation
from systems.training.probe import Probe, probe
from systems.training.procedure import Procedure
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit
from systems.training.views import TwoViews

UNDECIDED = Refinement(on="none")  # nothing is adapted
PASSES, SHUFFLED = Passes(), Shuffled()
HEARD: set[str] = set()  # shapes of excerpts, and of networks that take them


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
        embeddings: whether predictions hold the network's embeddings too.
        step: s from frame to frame of the network, where it is not the front end's.
        activation: what makes scores of the outputs.
        scale: over what features are standardised.
        scale_also: roles over whose clips the scale is fitted too.
        prepare: what is left of a clip's sound.
        change: what takes the place of a clip's sound before that.
        augment: changes of a training batch.
        views: of the unlabelled examples, for a loss of how they agree.
        labelling: changes of what is trained on, in order.
        copies: derived clips that train beside the labelled ones.
        start: changes of a fresh network before its training, such as weights from a file.
        frozen: prefixes of the network's parameters that are not trained.
        begins_as: the name of a required fitted network of the same shapes, with whose weights the
            training begins, and on whose scale it stays.
        batches: what batches of labelled clips are made of: excerpts, or whole clips.
        unlabelled: how batches draw from the clips without labels.
        procedure: how the loss of a batch comes about; without one by the terms of the loss.
        lr_scales: prefix -> what the learning rate of parameters below it is times the training's.
        activation_maps: whether the network gives class activation maps (``class_maps``) over an
            image whose rows the front end knows in Hz (``band_edges``); reports show them.

    Raises:
        ValueError: a decision that is adapted without frames; stored features that are not cut.
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
        embeddings: bool = False,
        step: float | None = None,
        activation: Activation = "none",
        scale: By = "band",
        scale_also: Sequence[str] = (),
        prepare: Prepare | None = None,
        change: Change | None = None,
        augment: Sequence[Augmentation] = (),
        views: TwoViews | None = None,
        labelling: Sequence[Labelling] = (),
        copies: Sequence[Copies] = (),
        start: Callable[[nn.Module, Context], None] | None = None,
        frozen: Sequence[str] = (),
        begins_as: str | None = None,
        batches: Batches = SHUFFLED,
        unlabelled: Unlabelled = PASSES,
        procedure: Procedure | None = None,
        lr_scales: Mapping[str, float] | None = None,
        activation_maps: bool = False,
    ) -> None:
        as_it_is = excerpts.of_features and not excerpts.mirror and not excerpts.made_of
        if is_stored(front_end) and not as_it_is:
            raise ValueError("stored features are of whole parts as they are, cut by frames")
        if getattr(front_end, "column", "") and not excerpts.of_features:
            raise ValueError("a front end that asks for a column hears whole parts, cut by frames")
        if not frames and decision.on != "none":
            raise ValueError("a decision is adapted on frames, which this network does not give")
        self.front_end = front_end
        self.recipe = Recipe(
            loss, training, augment, batches=batches, unlabelled=unlabelled, views=views,
            procedure=procedure, scale_also=scale_also,
        )  # fmt: skip
        self.training = training
        self.excerpts = excerpts
        if isinstance(decision, Voting):
            self.excerpts = replace(excerpts, mean=decision.mean)
        self.decision = decision
        self.frames = frames
        self.embeddings = embeddings
        self.step = step
        self.activation = activation
        self.scale = scale
        self.prepare, self.change = prepare, change
        self.labelling = labelling
        self.copies = copies
        self.start = start
        self.frozen = frozen
        self.begins_as = begins_as
        self.lr_scales = lr_scales
        self.activation_maps = activation_maps
        self._network = network

    @property
    def rate(self) -> int:
        """The sound's rate in Hz."""
        return int(any_of(self.front_end).rate)

    @property
    def channels(self) -> Channels:
        """Mono or stereo sound."""
        return channels_of(self.front_end)

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
    def frame_start(self) -> float:
        """s at which the first of the network's frames begins to stand for the sound."""
        start: float = any_of(self.front_end).frame_start
        return start if self.frames else 0.0

    @property
    def length(self) -> int:
        """The length of an excerpt in units."""
        return self.excerpts.frames or round(self.excerpts.seconds * self.rate)

    @property
    def selects(self) -> str | None:
        keep = self.training.keep
        if keep.what == "last":
            return LAST
        return "validation_loss" if keep.on == "loss" else None

    @property
    def keeps(self) -> int:
        return self.training.keep.count

    def inputs(self) -> dict[str, Input]:
        unlabelled = self.training.unlabelled or self.decision.on == "unlabelled"
        roles = ("labelled", *(("unlabelled",) if unlabelled else ()), *self.recipe.scale_also)
        features = self.front_end if is_stored(self.front_end) else None
        beside = tuple(copy.change for copy in self.copies if isinstance(copy, ChangedCopy))
        return {"audio": Input(
            roles, self.rate, self.prepare, self.channels, features, change=self.change,
            beside=beside, column=getattr(self.front_end, "column", ""),
        )}  # fmt: skip

    def sound_of(self, waveforms: Sequence[np.ndarray]) -> Waveforms:
        """Sound that is in no store as it is heard, by place: changed, and prepared."""
        named = {str(place): waveform for place, waveform in enumerate(waveforms)}
        if self.change is not None:
            named = {n: applied(self.change, one, self.rate, n) for n, one in named.items()}
        return Waveforms(self.rate, named, self.prepare)

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

    @property
    def least_seconds(self) -> float:
        """s of sound that a frame of the front ends takes at least."""
        return least_seconds(self.front_end)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Free columns of the clips that their labelling, and their streams, read."""
        read = [
            Column(change.column, change.values if isinstance(change, Only) else ())
            for change in self.labelling
            if change.column
        ]
        if isinstance(streams := self.recipe.unlabelled, Streams):
            read.append(Column(streams.column, streams.values))
        if column := getattr(self.front_end, "column", ""):
            read.append(Column(column, (getattr(self.front_end, "target", ""),)))
        return tuple(dict.fromkeys(read))

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Why clips cannot be heard of which the longest to train on, and the shortest of all, have
        such lengths in s; or an empty text."""
        least = self.least_seconds
        if why := self.excerpts.too_short(shortest, least):
            return why
        length = self._cut_to(round(longest * self.rate))
        if any_of(self.shape(length))[-1] < 1:
            return (
                f"the longest clip that trains has {longest:.4g} s, of which excerpts are "
                f"{length * self.unit:.4g} s; a window takes {least:.4g} s"
            )
        if length == self.length:
            return ""
        why = self._refusal(length, classes)
        if not why:
            return ""
        return (
            f"the longest clip that trains has {longest:.4g} s, and the network takes no excerpt "
            f"as short as that ({why.splitlines()[0]})"
        )

    def _refusal(self, length: int, classes: int) -> str:
        """The error of a network that hears excerpts of a length. Of equal ones one is tried."""
        shape = self.shape(length)
        try:
            with torch.device("meta"):
                network = self._network(shape, classes)
            key = repr((shape, [(n, p.shape) for n, p in network.named_parameters()]))
            if key not in HEARD:
                with torch.inference_mode():
                    made = each(lambda one: torch.zeros(1, *one), shape)
                    self._network(shape, classes).eval()(made)
                HEARD.add(key)
        except (RuntimeError, ValueError, UserError) as error:
            return str(error) or type(error).__name__
        return ""

    def _cut_to(self, longest: int, grid: int = 1) -> int:
        """The length of an excerpt in units, where the longest clip has so many samples."""
        if self.excerpts.train != "random" and self.excerpts.mean != "overlap":
            return self.length
        units = longest if not self.excerpts.of_features else round(longest / self.rate / self.unit)
        return min(self.length, units // grid * grid)

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedNetwork:
        """Train from scratch or from the context's checkpoint, then adapt the decision."""
        for change in self.labelling:
            data = change(data, context)
        labelled = data.labelled
        heard = sounds
        for copy in self.copies:
            data, heard = copy(data, heard, context)
        model, hearing = self._begin(data, heard, context)
        plain = Decoding.plain(len(data.classes))
        fitted = FittedNetwork(
            self, model, (), data.classes, hearing.length, data.label_hop, plain, History()
        )
        timed = fitted.timed if self.frames else None
        history, states = fit(model, self.recipe, hearing, data, context, timed)
        model.load_state_dict(states[0])
        fitted = replace(fitted, states=tuple(states), history=history)
        if self.decision.on == "labelled":
            return fitted.adapt(self.decision, labelled.clip_ids, sounds, context)
        if self.decision.on == "unlabelled":
            ids = data.unlabelled["unlabelled"].clip_ids
            return fitted.adapt(self.decision, ids, sounds, context)
        return fitted

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> Probe:
        """The cost of a step, from two of them on some of the data."""
        clips = len(data.labelled)
        for change in self.labelling:
            if isinstance(change, Hidden):  # what others do needs teachers, and costs no time
                data = change(data, context)
        for copy in self.copies:
            data, sounds = copy(data, sounds, context)
        model, hearing = self._begin(data, sounds, context)
        frames_per_second = 1 / self.frame_hop if self.frame_hop else 0.0
        return probe(model, self.recipe, hearing, data, clips, frames_per_second, context)

    def load(self, folder: Path) -> FittedNetwork:
        """What :meth:`FittedNetwork.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        front_end: Any = self.front_end
        if hasattr(front_end, "restored"):
            front_end = front_end.restored(about["teachers"])
        fitted = self.untrained(
            tuple(about["classes"]), about["length"], about["label_hop"], front_end
        )
        states = load_states(folder, about["kept"])
        fitted.model.load_state_dict(states[0])
        learnt = fitted.model.learnt().keys()  # the first state is whole
        states = tuple({name: state[name] for name in learnt} for state in states)
        decoding = Decoding(tuple(about["thresholds"]), tuple(about["medians"]))
        return replace(fitted, states=states, decoding=decoding)

    def untrained(
        self, classes: tuple[str, ...], length: int, label_hop: float, front_end: Any = None
    ) -> FittedNetwork:
        """A network of its shapes before any weights are loaded."""
        model = self._model(len(classes), length, front_end or self.front_end)
        plain = Decoding.plain(len(classes))
        states = (model.learnt(),)
        return FittedNetwork(self, model, states, classes, length, label_hop, plain, History())

    def hearing(self, sounds: Sounds, length: int, label_hop: float) -> Hearing:
        """The sound under this system's excerpts."""
        step = label_hop or (self.step or 0.0 if self.excerpts.mean == "overlap" else 0.0)
        grid = max(1, round(step / self.unit)) if step else 1
        batch = max(1, 2 * self.training.labelled)
        frame, step = self._windows(length, grid if label_hop else 0)
        return Hearing(sounds["audio"], self.excerpts, length, self.unit, grid, batch, frame, step)

    def _windows(self, length: int, step: int) -> tuple[int, int]:
        """Units from frame to frame of the network (``step``, or as the front end has them), and
        from window to window of what is too long for one: half of an excerpt's frames."""
        front_end: Any = any_of(self.front_end)
        hop = (self.step if self.frames else None) or front_end.hop_seconds
        frame = step or max(1, round(hop / self.unit))
        heard = any_of(self.shape(length))[-1] * front_end.hop_seconds / self.unit
        return frame, max(1, round(heard) // 2 // frame) * frame

    def _begin(self, data: TrainingData, sounds: Sounds, context: Context) -> tuple[Model, Hearing]:
        """A fresh model, and what it hears: no excerpt is longer than the longest training clip."""
        torch.manual_seed(context.seed)
        longest = max(
            part.shape[-1] for i in data.labelled.clip_ids for part in sounds["audio"].parts(i)
        )
        hearing = self.hearing(sounds, self.length, data.label_hop)
        hearing = replace(hearing, length=self._cut_to(longest, hearing.grid))
        front_end: Any = self.front_end
        if hasattr(front_end, "taught"):
            front_end = front_end.taught(data, sounds, context)
        model = self._model(len(data.classes), hearing.length, front_end)
        if self.start is not None:
            self.start(model.network, context)
        if self.begins_as is not None:
            model.begin_as(context.required(self.begins_as).model)
        return model.to(context.device), hearing

    def _model(self, classes: int, length: int, front_ends: Any) -> Model:
        shape = each(lambda one: self._shape(one, length), front_ends)
        front_end = built(front_ends)
        scale: Any = each(lambda one: Scale(one, self.scale), shape)
        if isinstance(scale, dict):
            scale = nn.ModuleDict(scale)
        network = self._network(shape, classes)
        return Model(
            front_end, scale, network, self.activation, self.excerpts.of_features, self.frozen,
            self.lr_scales,
        )  # fmt: skip
