"""From sound to what a network says of a clip: front end, scale, network, and the excerpts' policy.

Validation, prediction and files all go through :meth:`Hearing.listen`, which hears a clip alike
whatever lies beside it: no excerpt is longer or shorter than those of the training.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.prepare import Sound
from systems.errors import UserError
from systems.excerpts import Excerpts, blended, covering, joined, overlapped
from systems.kinds import kind
from systems.outputs import Outputs
from systems.tracks import Examples, FeatureTrack, Part, WaveformTrack, batches, each

Activation = Literal["softmax", "sigmoid", "none"]
BATCH = 30  # whole clips that are heard at once
Tap = Callable[[Any, Outputs, Sequence[int], np.ndarray], None]


class Model(nn.Module):
    """Front end(s), scale(s) and network: sound -> outputs whose clip and frames are scores.

    ``front_end``: waveforms [B, S] -> features [B, C, F, T], one or several by name.
    ``activation``: what makes scores of the network's outputs. ``made_once``: whether features are
    made of whole parts before they are cut. ``frozen``: prefixes of the network's parameters that
    are not trained; modules below them stay in evaluation mode. ``lr_scales``: prefix -> what the
    learning rate of the parameters below it is times the training's.

    Raises:
        ValueError: a prefix that no module of the network has.
    """

    def __init__(
        self, front_end: nn.Module, scale: nn.Module, network: nn.Module,
        activation: Activation = "none", made_once: bool = False, frozen: Sequence[str] = (),
        lr_scales: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.front_end = front_end
        self.scale = scale
        self.network = network
        self.activation = activation
        self.made_once = made_once
        self.lr_scales = lr_scales or {}
        missing = {*frozen, *self.lr_scales} - {name for name, _ in network.named_modules()}
        if missing:
            raise ValueError(f"the network has no {', '.join(sorted(missing))}")
        self._frozen = [
            module for name, module in network.named_modules()
            if any(name == prefix or name.startswith(prefix + ".") for prefix in frozen)
        ]  # fmt: skip
        for module in self._frozen:
            module.requires_grad_(False)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that the optimiser changes."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def groups(self) -> list[dict[str, Any]]:
        """These parameters (``params``) by how fast they learn (``lr_scale``), the others first."""
        found: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in self.network.named_parameters():
            below = (s for prefix, s in self.lr_scales.items() if name.startswith(f"{prefix}."))
            if parameter.requires_grad:
                found.setdefault(next(below, 1.0), []).append(parameter)
        return [{"params": own, "lr_scale": scale} for scale, own in found.items() if own]

    def start_training(self) -> None:
        """Into training mode, but for what is frozen."""
        self.train()
        self.front_end.eval()
        for module in self._frozen:
            module.eval()

    def raw(self, cut: Any, device: torch.device) -> Any:
        """Unscaled features of excerpts: of sound [B, S] they are made now."""
        moved = each(lambda one: one.to(device), cut)
        return moved if self.made_once else self.front_end(moved)

    def features(self, cut: Any, device: torch.device) -> Any:
        """Scaled features [B, C, F, T] of excerpts of sound [B, S] or of features."""
        with torch.no_grad():
            return self.scaled(self.raw(cut, device))

    def scaled(self, features: Any) -> Any:
        """Features under the scale of what was trained."""
        if isinstance(features, Mapping):
            assert isinstance(self.scale, nn.ModuleDict)
            return {name: self.scale[name](one) for name, one in features.items()}
        return self.scale(features)

    def fit_scale(self, examples: Examples, context: Context, *more: Examples) -> None:
        """Set the scale's statistics over the training parts, and over ``more``."""
        scales = self._each_scale()
        if not any(scale.fitted for scale in scales):
            return
        with torch.no_grad():
            for some in (examples, *more):
                for features in self._of_training(some, context):
                    each(lambda scale, one: scale.add(one), self._scales(), features)
        for scale in scales:
            scale.finish()

    def learnt(self) -> dict[str, Tensor]:
        """The state that a training changes: all but the front end's, which may hold other trained
        networks (:class:`systems.frontend.embeddings.FrameEmbeddings`)."""
        return {n: v for n, v in self.state_dict().items() if not n.startswith("front_end.")}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state that is whole, or without the front end's, which then stays as it is."""
        own = {f"front_end.{name}": value for name, value in self.front_end.state_dict().items()}
        return super().load_state_dict({**own, **state}, strict, assign)

    def begin_as(self, other: Model) -> None:
        """Begin with another model's weights, and stay on its scale.

        Raises:
            UserError: it is of other shapes.
        """
        try:
            self.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise UserError(
                "a training cannot begin with the weights of another network that has other "
                f"shapes: set the same for both ({str(error).splitlines()[-1].strip()})"
            ) from error
        for scale in self._each_scale():
            scale.fitted = False

    def _each_scale(self) -> list[Any]:
        return list(self.scale.values() if isinstance(self.scale, nn.ModuleDict) else [self.scale])

    def _scales(self) -> Any:
        return dict(self.scale.items()) if isinstance(self.scale, nn.ModuleDict) else self.scale

    def _of_training(self, examples: Examples, context: Context) -> Iterator[Any]:
        track = examples.track
        if isinstance(track, FeatureTrack):
            for part in range(len(track.parts)):
                made = track.features(part)
                yield each(lambda one: torch.from_numpy(np.array(one))[None], made)
            return
        for rows in batches(len(track.parts), BATCH):
            places = [(row, 0, examples.length) for row in rows]
            yield self.raw(track.cut(places), context.device)

    def forward(self, features: Any) -> Outputs:
        """The network's outputs for scaled features, as scores."""
        return self.scores(self.network(features))

    def scores(self, outputs: Outputs) -> Outputs:
        """Clip and frame scores of a network's outputs."""
        clip, frames = self.activated(outputs.clip), self.activated(outputs.frames)
        return replace(outputs, clip=clip, frames=frames)

    def activated(self, x: Tensor | None) -> Tensor | None:
        """Scores of what a network gives."""
        if x is None or self.activation == "none":
            return x
        return x.softmax(-1) if self.activation == "softmax" else x.sigmoid()


@dataclass(frozen=True)
class Heard:
    """What a system says of one clip: scores [K], frames [T, K], embeddings; on the CPU. Of a clip
    that is heard in windows a frame is a window."""

    clip: Tensor | None
    frames: Tensor | None
    embedding: Tensor | None = None
    frame_embedding: Tensor | None = None

    def answer(self, labels: Any) -> Tensor:
        """The rows that answer labels of a kind: one [1, K], of a series its steps [T, D]."""
        if kind(labels).ragged:
            assert self.frames is not None
            return self.frames
        assert self.clip is not None
        return self.clip[None]


@dataclass(frozen=True)
class Hearing:
    """Some sound under a policy of excerpts.

    ``length``: of an excerpt, in samples or frames. ``grid``: units of a step of a series, on which
    excerpts begin; 1 where labels are of whole clips. ``hop``: s of a unit. ``batch``: windows
    that are heard at once. ``frame``: units from frame to frame of the network, ``step`` from
    window to window of a whole part that is too long for one (0: half an excerpt).
    """

    sound: Sound
    excerpts: Excerpts
    length: int
    hop: float
    grid: int = 1
    batch: int = BATCH
    frame: int = 1
    step: int = 0

    def track(self, model: Model, clip_ids: Sequence[str], context: Context) -> Any:
        """What excerpts of some clips are cut from."""
        track: Any
        if self.excerpts.of_features:
            model.front_end.to(context.device).eval()
            track = FeatureTrack(self.sound, clip_ids, model.front_end, self.excerpts, context)
        else:
            track = WaveformTrack(self.sound, clip_ids)
        if self.excerpts.mean == "overlap":  # no window goes beyond the last step
            track.parts = [
                Part(part.clip, min(part.units, self.steps(track, part.clip) * self.grid))
                for part in track.parts
            ]
        return track

    def steps(self, track: Any, clip: int) -> int:
        """How many steps of a series a clip has."""
        return max(1, round(track.seconds[clip] / (self.hop * self.grid)))

    def examples(self, model: Model, clip_ids: Sequence[str], context: Context) -> Examples:
        """What a training draws from."""
        track = self.track(model, clip_ids, context)
        return Examples(track, self.excerpts, self.length, self.grid)

    def listen(
        self, model: Model, track: Any, context: Context, tap: Tap | None = None
    ) -> Iterator[Heard]:
        """What the model says of each clip of a track, in order.

        ``tap`` is called with features, outputs before activation, clips and starts of each batch.
        """
        model.eval()
        places = self._places(track)
        said: list[_Said] = []
        clips = max((part.clip for part in track.parts), default=-1) + 1
        done = 0
        for rows in batches(len(places), BATCH if self.excerpts.predict == "whole" else self.batch):
            chosen = [places[row] for row in rows]
            of_clip = [track.parts[part].clip for part, _, _ in chosen]
            with torch.inference_mode():
                features = model.features(track.cut(chosen), context.device)
                outputs = model.network(features).float()
                if tap is not None:
                    tap(features, outputs, of_clip, np.array([start for _, start, _ in chosen]))
                scores = model.scores(outputs)
            said += _singles(scores, chosen)
            last = track.parts[said[-1].part].clip
            complete = clips if rows.stop == len(places) else last
            while done < complete:
                mine = [one for one in said if track.parts[one.part].clip == done]
                yield self._joined(mine, track, done, model.activation == "softmax")
                done += 1
            said = [one for one in said if track.parts[one.part].clip >= done]

    def _places(self, track: Any) -> list[tuple[int, int, int]]:
        places = []
        for place, part in enumerate(track.parts):
            if self.excerpts.predict == "whole":
                step = self.step or max(1, self.length // 2 // self.frame) * self.frame
                starts = covering(part.units, self.length, step, self.frame)
            elif self.excerpts.predict == "start":
                starts = (0,)
            else:
                starts = self.excerpts.starts(part.units, self.length, self.grid)
            places += [(place, start, self.length) for start in starts]
        return places

    def _joined(self, said: Sequence[_Said], track: Any, clip: int, exclusive: bool) -> Heard:
        """What is said of a clip, of what is said of its excerpts."""
        if self.excerpts.mean == "overlap":
            return self._series(said, self.steps(track, clip))
        outputs = [one.outputs for one in said]
        if self.excerpts.predict == "whole":
            parts = itertools.groupby(said, lambda one: one.part)
            outputs = [self._whole(list(of_part), exclusive) for _, of_part in parts]
        if len(outputs) == 1 and self.excerpts.mean != "vote":
            only = outputs[0]
            frames, of_frames = only.frames, only.frame_embedding
            if self.excerpts.predict == "windows" and only.clip is not None:  # as of several
                frames, of_frames = only.clip[None], _rows([only.embedding])
            return Heard(only.clip, frames, only.embedding, of_frames)
        rows = np.stack([one.clip.numpy() for one in outputs if one.clip is not None])
        clip_scores = torch.from_numpy(joined(rows, self.excerpts.mean).astype(np.float32))
        embeddings = [one.embedding for one in outputs]
        of_frames = _rows(embeddings) if self.excerpts.predict == "windows" else None
        return Heard(clip_scores, torch.from_numpy(rows), _mean(embeddings), of_frames)

    def _series(self, said: Sequence[_Said], steps: int) -> Heard:
        """Windows of a series as one: their mean where they overlap."""
        starts = [one.start // self.grid for one in said]

        def series(windows: Iterable[Tensor | None]) -> Tensor | None:
            there = [w.numpy() for w in windows if w is not None]
            return torch.from_numpy(overlapped(there, starts, steps)) if there else None

        return Heard(
            None, series(one.outputs.frames for one in said),
            frame_embedding=series(one.outputs.frame_embedding for one in said),
        )  # fmt: skip

    def _whole(self, said: Sequence[_Said], exclusive: bool) -> Outputs:
        """Windows of a part that is too long for one: a tag's score is its largest, a class's the
        mean; frames are :func:`blended`."""
        outputs = [one.outputs for one in said]
        if len(outputs) == 1:
            return outputs[0]
        starts = [one.start // self.frame for one in said]

        def blend(windows: Sequence[Tensor | None]) -> Tensor | None:
            there = [window.numpy() for window in windows if window is not None]
            return torch.from_numpy(blended(there, starts)) if there else None

        clips = [one.clip for one in outputs]
        return Outputs(
            _mean(clips) if exclusive else _largest(clips),
            blend([one.frames for one in outputs]),
            _mean([one.embedding for one in outputs]),
            blend([one.frame_embedding for one in outputs]),
        )


@dataclass(frozen=True)
class _Said:
    """The outputs of one excerpt: its part, and where it begins."""

    part: int
    start: int
    outputs: Outputs


def _mean(values: Sequence[Tensor | None]) -> Tensor | None:
    there = [value for value in values if value is not None]
    return torch.stack(there).mean(0) if there else None


def _rows(values: Sequence[Tensor | None]) -> Tensor | None:
    """Vectors [E] of windows as rows [N, E]."""
    there = [value for value in values if value is not None]
    return torch.stack(there) if there else None


def _largest(values: Sequence[Tensor | None]) -> Tensor | None:
    there = [value for value in values if value is not None]
    return torch.stack(there).amax(0) if there else None


def _singles(outputs: Outputs, places: Sequence[tuple[int, int, int]]) -> list[_Said]:
    """The outputs of each excerpt of a batch, on the CPU."""
    moved = {
        name: None if value is None else value.cpu().clone()
        for name, value in vars(outputs).items()
    }
    return [
        _Said(part, start, Outputs(**{n: None if v is None else v[row] for n, v in moved.items()}))
        for row, (part, start, _) in enumerate(places)
    ]
