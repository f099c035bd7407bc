"""What a system is: something that trains on data, predicts, saves and loads.

A paper module composes one, usually a :class:`NetworkSystem`; nothing here knows a paper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Event
from systems.data.splits import TrainingData
from systems.data.store import WaveformStore
from systems.files import write_whole
from systems.frontend.log_mel import LogMel, LogMelFrontEnd, Standardise
from systems.postprocessing.decoding import Decoding, decode
from systems.postprocessing.refinement import Refined, Refinement, refine
from systems.predictions import Predictions
from systems.training.history import History
from systems.training.losses import LossTerm
from systems.training.probe import Probe, probe
from systems.training.supervised import Model, Training, fit, network_outputs


@dataclass(frozen=True)
class Input:
    """Sound that a system takes: the roles it needs and at what rate in Hz, mixed to mono."""

    roles: tuple[str, ...]
    rate: int


class Fitted(Protocol):
    """A trained system.

    ``rate`` in Hz; ``samples``: length of a training clip; ``frame_hop`` in seconds, ``None`` of a
    system that says nothing about time: it gives clip scores alone.
    """

    history: History

    @property
    def rate(self) -> int: ...

    @property
    def samples(self) -> int: ...

    @property
    def frame_hop(self) -> float | None: ...

    def score(
        self, waveforms: Sequence[np.ndarray], context: Context
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Clip scores [B, K] of mono waveforms [S], S <= samples, and their frame scores
        [B, T, K], if it gives any."""
        ...

    def timed(
        self, frame_scores: np.ndarray, duration: float
    ) -> tuple[np.ndarray, tuple[Event, ...]]:
        """Frame scores [T, K] of a clip up to its end, and the events that they hold.

        Only where there is a ``frame_hop``.
        """
        ...

    def predict(
        self, clip_ids: Sequence[str], waveforms: WaveformStore, context: Context, fold: int = 0
    ) -> Predictions: ...

    def adapt(
        self,
        settings: Refinement,
        clip_ids: Sequence[str],
        waveforms: WaveformStore,
        context: Context,
    ) -> Fitted:
        """The same system with its decisions adapted on the sound of some clips, without labels."""
        ...

    def decision(self) -> dict[str, Any] | None:
        """Thresholds and filters by class, and what a reader should know of how they came about."""
        ...

    def with_decision(self, decision: dict[str, Any] | None) -> Fitted:
        """The same system with a decision that :meth:`decision` gave; ``None``: nothing adapted."""
        ...

    def save(self, folder: Path) -> None: ...


class System(Protocol):
    """A configured system, not yet trained."""

    def inputs(self) -> dict[str, Input]: ...

    def train(self, data: TrainingData, waveforms: WaveformStore, context: Context) -> Fitted: ...

    def load(self, folder: Path) -> Fitted: ...

    def probe(self, data: TrainingData, waveforms: WaveformStore, context: Context) -> Probe | None:
        """What one training step costs on this device; ``None`` without steps."""
        ...

    def network(self, classes: int) -> nn.Module | None:
        """The bare network for shapes and parameter counts; ``None`` without gradients."""
        ...


UNDECIDED = Refinement(on="none")  # nothing is adapted


class NetworkSystem:
    """A front end, a network, a loss, a training and a decision: most of the papers.

    Args:
        front_end: settings of the front end.
        network: (bands, classes) -> network, features [B, 1, F, T] -> (clip posterior [B, K],
            frame posterior [B, T, K], ...); it also takes ``lengths`` [B] in frames where a
            decision is adapted.
        loss: the terms of the loss.
        training: how long and on what.
        decision: what the thresholds are adapted on.
        clip_seconds: clips are padded or cut to this in training, or to the longest training clip
            where that is shorter.
        frames: whether the network gives frame posteriors; else it gives the clip's alone,
            ``(clip posterior, ...)``, and the system tells of no events.

    Raises:
        ValueError: a decision that is adapted without frames.
    """

    def __init__(
        self,
        *,
        front_end: LogMel,
        network: Callable[[int, int], nn.Module],
        loss: Sequence[LossTerm],
        training: Training,
        clip_seconds: float,
        decision: Refinement = UNDECIDED,
        frames: bool = True,
    ) -> None:
        if not frames and decision.on != "none":
            raise ValueError("a decision is adapted on frames, which this network does not give")
        self.front_end = front_end
        self.loss = loss
        self.training = training
        self.decision = decision
        self.clip_seconds = clip_seconds
        self.frames = frames
        self._network = network

    def inputs(self) -> dict[str, Input]:
        unlabelled = self.training.unlabelled or self.decision.on == "unlabelled"
        roles = ("labelled", "unlabelled") if unlabelled else ("labelled",)
        return {"audio": Input(roles, self.front_end.rate)}

    def network(self, classes: int) -> nn.Module:
        return self._network(self.front_end.bands, classes)

    def train(
        self, data: TrainingData, waveforms: WaveformStore, context: Context
    ) -> FittedNetwork:
        """Train from scratch or from the context's checkpoint, then adapt the decision."""
        model, samples = self._start(data, waveforms, context)
        plain = Decoding.plain(len(data.classes))
        fitted = FittedNetwork(self, model, data.classes, samples, plain, History())
        timed = fitted.timed if self.frames else None
        history = fit(model, self.loss, data, waveforms, self.training, samples, context, timed)
        fitted = replace(fitted, history=history)
        if self.decision.on == "labelled":
            return fitted.adapt(self.decision, data.labelled.clip_ids, waveforms, context)
        if self.decision.on == "unlabelled":
            ids = data.unlabelled["unlabelled"].clip_ids
            return fitted.adapt(self.decision, ids, waveforms, context)
        return fitted

    def probe(self, data: TrainingData, waveforms: WaveformStore, context: Context) -> Probe:
        """The cost of a step, from two of them on some of the data."""
        model, samples = self._start(data, waveforms, context)
        frames_per_second = 1 / self.front_end.hop_seconds if self.frames else 0.0
        return probe(
            model, self.loss, data, waveforms, self.training, samples, frames_per_second, context
        )

    def load(self, folder: Path) -> FittedNetwork:
        """What :meth:`FittedNetwork.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        model = self._model(len(about["classes"]))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        decoding = Decoding(tuple(about["thresholds"]), tuple(about["medians"]))
        classes = tuple(about["classes"])
        return FittedNetwork(self, model, classes, about["samples"], decoding, History())

    def _start(
        self, data: TrainingData, waveforms: WaveformStore, context: Context
    ) -> tuple[Model, int]:
        """A fresh model, and the length of a training clip in samples."""
        torch.manual_seed(context.seed)
        model = self._model(len(data.classes)).to(context.device)
        longest = max(len(waveforms[i]) for i in data.labelled.clip_ids)
        return model, min(round(self.clip_seconds * self.front_end.rate), longest)

    def _model(self, classes: int) -> Model:
        front_end = LogMelFrontEnd(self.front_end)
        standardise = Standardise(self.front_end.bands)
        return Model(front_end, standardise, self.network(classes), self.frames)


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network with its decision."""

    system: NetworkSystem
    model: Model
    classes: tuple[str, ...]
    samples: int
    decoding: Decoding
    history: History
    refined: Refined | None = None

    @property
    def rate(self) -> int:
        return self.system.front_end.rate

    @property
    def frame_hop(self) -> float | None:
        return self.system.front_end.hop_seconds if self.system.frames else None

    def predict(
        self, clip_ids: Sequence[str], waveforms: WaveformStore, context: Context, fold: int = 0
    ) -> Predictions:
        """Clip scores of some clips, and their frame scores and events where there are frames."""
        self.model.to(context.device)
        clips: list[np.ndarray] = []
        timed: list[tuple[np.ndarray, tuple[Event, ...]]] = []
        for clip, frames in network_outputs(self.model, waveforms, clip_ids, self.samples, context):
            clips.append(clip.numpy())
            for scores in () if frames is None else frames.numpy():
                timed.append(self.timed(scores, waveforms.duration(clip_ids[len(timed)])))
        kinds: dict[str, Any] = {}
        if self.frame_hop is not None:
            kinds = {
                "frame_scores": tuple(kept for kept, _ in timed),
                "events": tuple(events for _, events in timed),
                "frame_hop": self.frame_hop,
            }
        scores = np.concatenate(clips)
        return Predictions.of(clip_ids, self.classes, fold, clip_scores=scores, **kinds)

    def score(
        self, waveforms: Sequence[np.ndarray], context: Context
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Clip scores [B, K] of waveforms [S] that are in no store, and frame scores [B, T, K].

        Shorter ones are padded to ``samples``, as :meth:`predict` does it; none may be longer.
        """
        batch = np.zeros((len(waveforms), self.samples), np.float32)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        self.model.to(context.device).eval()
        with torch.inference_mode():
            clips, frames = self.model(torch.from_numpy(batch).to(context.device))
        return clips.cpu().numpy(), None if frames is None else frames.cpu().numpy()

    def timed(
        self, frame_scores: np.ndarray, duration: float
    ) -> tuple[np.ndarray, tuple[Event, ...]]:
        """Frame scores [T, K] of a clip up to its end (in seconds), and the events they hold."""
        assert self.frame_hop is not None
        kept = frame_scores[: max(1, int(np.ceil(duration / self.frame_hop)))]
        return kept, decode(kept, self.decoding, self.classes, self.frame_hop, duration)

    def adapt(
        self,
        settings: Refinement,
        clip_ids: Sequence[str],
        waveforms: WaveformStore,
        context: Context,
    ) -> FittedNetwork:
        """Self-adaptive label refinement on some clips (their sound alone)."""
        if settings.on == "none":
            plain = Decoding.plain(len(self.classes))
            return replace(self, decoding=plain, refined=None)
        predicted = self.predict(clip_ids, waveforms, context)
        assert predicted.clip_scores is not None
        assert predicted.frame_scores is not None

        def weak(samples: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
            return self._weak_on_cuts(samples, clip_ids, waveforms, context)

        refined = refine(predicted.clip_scores, predicted.frame_scores, weak, settings)
        return replace(self, decoding=refined.decoding, refined=refined)

    def _weak_on_cuts(
        self,
        samples: Sequence[tuple[int, np.ndarray]],
        clip_ids: Sequence[str],
        waveforms: WaveformStore,
        context: Context,
    ) -> np.ndarray:
        """Clip posteriors [S, K] of spectrogram cuts (clip index, frame indices)."""
        features: dict[int, Tensor] = {}
        for clip in {clip for clip, _ in samples}:
            waveform = torch.from_numpy(np.array(waveforms[clip_ids[clip]]))
            padded = nn.functional.pad(waveform, (0, max(0, self.samples - len(waveform))))
            features[clip] = self.model.features(padded[None].to(context.device))[0]
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
                out[rows] = self.model.network(batch, lengths)[0].cpu().numpy()
        return out

    def decision(self) -> dict[str, Any] | None:
        """The refined decoders by class; ``None`` where nothing was adapted."""
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
        decoding = Decoding(tuple(decision["thresholds"]), tuple(decision["medians"]))
        return replace(self, decoding=decoding, refined=None)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, the rest as JSON."""
        tensors = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        # Through memory: safetensors' own writer hides from us that a disk is full.
        write_whole(folder / "model.safetensors", save(tensors))
        about = {
            "classes": self.classes,
            "samples": self.samples,
            "thresholds": self.decoding.thresholds,
            "medians": self.decoding.medians,
        }
        write_whole(folder / "model.json", json.dumps(about, indent=1))  # where it is, all is
