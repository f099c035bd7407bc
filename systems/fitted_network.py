"""A trained network with its decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Event
from systems.data.store import Channels
from systems.excerpts import Voting
from systems.files import write_whole
from systems.listening import Heard, Model
from systems.postprocessing.decoding import Decoding, decode
from systems.postprocessing.refinement import Refined, Refinement, refine
from systems.predictions import Predictions
from systems.system import Input, Sounds
from systems.tracks import any_of
from systems.training.history import History

if TYPE_CHECKING:
    from systems.network_system import NetworkSystem

CUTS = 64  # cuts of a training excerpt's length at most that are heard at once


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
    def channels(self) -> Channels:
        return self.system.channels

    @property
    def tracks(self) -> dict[str, Input]:
        """None: it hears clips themselves."""
        return {}

    @property
    def frame_hop(self) -> float | None:
        return self.label_hop or self.system.frame_hop

    @property
    def frame_start(self) -> float:
        """s at which the first frame begins; the steps of a series begin with the clip."""
        return self.system.frame_start if self.tells_events else 0.0

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
        frame scores and events, of windows the scores of each. Embeddings where the system says."""
        clips: list[np.ndarray] = []
        frames: list[np.ndarray] = []
        events: list[tuple[Event, ...] | None] = []
        embeddings: dict[str, list[np.ndarray]] = {}
        for clip_id, heard in zip(clip_ids, self.listen(clip_ids, sounds, context), strict=True):
            if heard.clip is not None:
                clips.append(heard.clip.numpy())
            for name, one in (("clip_embeddings", heard.embedding),
                              ("frame_embeddings", heard.frame_embedding)):  # fmt: skip
                if self.system.embeddings and one is not None:
                    embeddings.setdefault(name, []).append(one.numpy())
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
            kinds |= {"frame_hop": self.frame_hop, "frame_start": self.frame_start}
        if frames and self.tells_events:
            kinds["events"] = tuple(events)
        for name, found_of in embeddings.items():
            kinds[name] = np.stack(found_of) if name == "clip_embeddings" else tuple(found_of)
        return Predictions.of(clip_ids, self.classes, fold, **kinds)

    def score(
        self, waveforms: Sequence[np.ndarray], context: Context
    ) -> tuple[np.ndarray | None, list[np.ndarray] | None]:
        """Clip scores [B, K] of waveforms that are in no store, and frames [T, K] of each."""
        sounds = {"audio": self.system.sound_of(waveforms)}
        named = sounds["audio"].waveforms
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
        frames = int(np.ceil((duration - self.frame_start) / self.frame_hop))
        kept, start = frame_scores[: max(1, frames)], self.frame_start
        return kept, decode(kept, self.decoding, self.classes, self.frame_hop, duration, start)

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
            padded = nn.functional.pad(waveform, (0, max(0, self.length - waveform.shape[-1])))
            features[clip] = self.model.features(padded[None], context.device)[0]
        order = sorted(range(len(samples)), key=lambda i: len(samples[i][1]))
        out = np.zeros((len(samples), len(self.classes)), np.float32)
        self.model.eval()
        most = CUTS * any_of(self.system.shape(self.length))[-1]  # frames that are heard at once
        while order:
            fits = range(1, min(CUTS, len(order)) + 1)
            count = max((n for n in fits if n * len(samples[order[n - 1]][1]) <= most), default=1)
            rows, order = order[:count], order[count:]
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
        whole = {**self.model.state_dict(), **self.states[0]}
        save_states(folder, (whole, *self.states[1:]))
        about = {
            "classes": self.classes,
            "length": self.length,
            "label_hop": self.label_hop,
            "kept": len(self.states),
            "thresholds": self.decoding.thresholds,
            "medians": self.decoding.medians,
            "teachers": getattr(self.model.front_end, "about", {}),
        }
        write_whole(folder / "model.json", json.dumps(about, indent=1))  # where it is, all is


def save_states(folder: Path, states: Sequence[Mapping[str, Tensor]]) -> None:
    """The weights of kept epochs as safetensors, the best first."""
    for name, state in zip(files_of(len(states)), states, strict=True):
        # Through memory: safetensors' own writer hides from us that a disk is full.
        write_whole(folder / name, save({k: v.contiguous() for k, v in state.items()}))


def load_states(folder: Path, kept: int) -> tuple[dict[str, Tensor], ...]:
    """What :func:`save_states` wrote of so many epochs."""
    return tuple(load_file(folder / name) for name in files_of(kept))


def files_of(kept: int) -> list[str]:
    """Names of the weights of so many epochs, the best first."""
    return ["model.safetensors", *(f"model_{place}.safetensors" for place in range(1, kept))]


def _mean(heard: Sequence[Heard]) -> Heard:
    """The mean of what several epochs say of a clip."""

    def mean(values: Sequence[Tensor | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        return torch.stack(there).mean(0) if there else None

    return Heard(mean([one.clip for one in heard]), mean([one.frames for one in heard]))
