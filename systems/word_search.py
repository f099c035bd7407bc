"""Networks that search sounds by written words (queries, role ``labelled``; role ``gallery``).

They answer with a score of each sound of the gallery: how likely the word is written of it, or how
near the word's latent vector lies to that of the sound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from systems.context import Context
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.data.store import Channels
from systems.data.words import (
    BEGIN,
    END,
    PLACES,
    RATE,
    SYMBOLS,
    coded,
    same_words,
    symbols,
    word_of,
)
from systems.errors import UserError, shown
from systems.files import write_whole
from systems.fitted_network import load_states, save_states
from systems.frontend import FrontEnd
from systems.frontend.scale import Scale
from systems.listening import Heard, Model
from systems.nets.writing import LatentEncoder, Writer
from systems.outputs import Outputs
from systems.predictions import Predictions
from systems.system import Input, Sounds, Undecided
from systems.training.batches import index_batches
from systems.training.history import History
from systems.training.losses import NOTHING, LatentDistance, NextSymbol
from systems.training.mixing import Batch
from systems.training.probe import Probe, probe
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit

LATENTS = "latents.safetensors"
LONGEST = 40  # symbols of a word that is written
AT_ONCE = 64  # sequences that are encoded at once
QUERY = Input(("labelled",), RATE)


class SoundToWord(nn.Module):
    """Features of sounds [B, T, D] and the words [B, L] of them -> logits [B, L - 1, S]."""

    def __init__(self, features: int, cells: int, latent: int) -> None:
        super().__init__()
        self.encoder = LatentEncoder(features, cells, latent)
        self.writer = Writer(latent, cells, len(SYMBOLS))

    def forward(self, x: dict[str, Tensor]) -> Outputs:
        latent = self.encoder(x["sound"], x["frames"])
        return Outputs(frames=self.writer(latent, x["word"][:, :-1]), embedding=latent)

    def ranking(self, words: Sequence[tuple[int, ...]], items: Tensor) -> Tensor:
        """How likely each word is written of each of the latents [K, E]: the geometric mean of its
        symbols' probabilities [N, K]."""
        rows = []
        for word in words:
            codes = torch.tensor([word], device=items.device).expand(len(items), -1)
            said = self.writer(items, codes[:, :-1]).log_softmax(2)
            rows.append(said.gather(2, codes[:, 1:, None]).mean((1, 2)).exp())
        return torch.stack(rows)


class WordToLatent(nn.Module):
    """Words [B, L] of some ``symbols`` [B] -> latent vectors [B, E]."""

    def __init__(self, cells: int, latent: int) -> None:
        super().__init__()
        self.encoder = LatentEncoder(len(SYMBOLS), cells, latent)

    def forward(self, x: dict[str, Tensor]) -> Outputs:
        one_hot = nn.functional.one_hot(x["word"].long(), len(SYMBOLS)).float()
        return Outputs(self.encoder(one_hot, x["symbols"]))

    def ranking(self, words: Sequence[tuple[int, ...]], items: Tensor) -> Tensor:
        """How near each word lies to each of the latents [K, E]: 1 less L1 over the most that there
        can be [N, K]."""
        asked = [self(_words([torch.tensor(word)], items.device)).clip[0] for word in words]
        return 1 - torch.cdist(torch.stack(asked), items, p=1) / (2 * items.shape[1])


def _words(words: Sequence[Tensor], device: torch.device) -> dict[str, Tensor]:
    """Words [L] without their begin, filled to the longest, and how many symbols each has."""
    ends = [word[1:] for word in words]
    filled = nn.utils.rnn.pad_sequence(ends, batch_first=True, padding_value=PLACES[END])
    return {"word": filled.to(device), "symbols": torch.tensor([len(end) for end in ends])}


class _Model(Model):
    """A network with the front end of its sounds, whose scale is of the sounds that are trained."""

    def fit_scale(self, examples: Any, context: Context, *more: Any) -> None:
        if self.scale.fitted:
            for features in examples:
                self.scale.add(features)  # type: ignore[operator]
            self.scale.finish()  # type: ignore[operator]


@dataclass
class _Examples:
    """Pairs of a sound and a word that is written of it, as batches of a training.

    ``sounds``: features [1, 1, D, T] by item, or latents [K, E] of a trained encoder.
    """

    model: _Model
    words: Sequence[Tensor]
    items: np.ndarray
    sounds: Any
    context: Context
    heard: Sequence[Tensor] = ()

    def draw(self, generator: np.random.Generator) -> None:
        """Nothing: all pairs are in each epoch."""

    def __len__(self) -> int:
        return len(self.words)

    def rows(self, size: int, steps: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        return index_batches(len(self), size, steps, generator, full=False)

    def batch(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        device, words = self.context.device, [self.words[row] for row in rows]
        if isinstance(self.sounds, Tensor):
            targets = self.sounds[torch.from_numpy(self.items[rows])].to(device)
            return Batch(_words(words, device), targets, None)
        filled = nn.utils.rnn.pad_sequence(words, batch_first=True)
        targets = nn.utils.rnn.pad_sequence(
            [word[1:] for word in words], batch_first=True, padding_value=NOTHING
        )
        sounds = _sounds(self.model, [self.sounds[item] for item in self.items[rows]], device)
        return Batch({**sounds, "word": filled.to(device)}, targets.to(device), None)


def _sounds(model: Model, features: Sequence[Tensor], device: torch.device) -> dict[str, Tensor]:
    """Scaled features [B, T, D] of sounds [1, 1, D, T], filled to the longest, and their frames."""
    rows = [model.scaled(one.to(device))[0, 0].T for one in features]
    frames = torch.tensor([len(row) for row in rows])
    return {"sound": nn.utils.rnn.pad_sequence(rows, batch_first=True), "frames": frames}


class WordSearch:
    """A network over words, or over sounds and words, and a gallery of latent vectors.

    Args:
        sound: the front end of sounds.
        seconds: of a sound that are heard at most.
        network: a fresh one, with ``ranking``.
        training: how long; ``labelled`` pairs a batch.
        teacher: name of the fitted requirement whose sound encoder is taken as it is; empty: the
            network trains its own.

    Raises:
        ValueError: several epochs are to predict, or the loss is to decide something.
    """

    selects = None
    keeps = 1
    least_seconds = 0.0
    columns = ()

    def __init__(
        self, *, sound: FrontEnd, seconds: float, network: Callable[[], nn.Module],
        training: Training, teacher: str = "",
    ) -> None:  # fmt: skip
        if training.keep.count != 1 or training.watches_loss:
            raise ValueError("one epoch predicts, which the metric chooses")
        self.sound, self.seconds, self.teacher = sound, seconds, teacher
        self.training, self._network = training, network
        term: Any = LatentDistance() if teacher else NextSymbol()
        self.recipe = Recipe([term], training, batches=cast(Any, self))

    def too_short(self, longest: float, shortest: float, classes: int) -> str:
        """Nothing is."""
        return ""

    def inputs(self) -> dict[str, Input]:
        return {"query": QUERY, "gallery": Input(("gallery",), self.sound.rate)}

    def network(self, classes: int) -> nn.Module:
        return self._network()

    def source(self, model: Any, hearing: Any, data: TrainingData, context: Context) -> _Examples:
        """The pairs that train: a word, and the sound that it was written of."""
        assert data.labelled.targets is not None
        items = data.labelled.targets.argmax(1)
        words = [torch.from_numpy(word).long() for word in hearing.words(data.labelled.clip_ids)]
        if self.teacher:
            return _Examples(model, words, items, hearing.latents(), context)
        sounds = hearing.features(model)
        heard = [sounds[item] for item in np.unique(items)]
        return _Examples(model, words, items, sounds, context, heard)

    def train(self, data: TrainingData, sounds: Sounds, context: Context) -> FittedWordSearch:
        """Train from scratch or from the context's checkpoint, then encode the gallery."""
        model, hearing = self._begin(data, sounds, context)
        history, states = fit(model, self.recipe, hearing, data, context)
        model.load_state_dict(states[0])
        items = hearing.encoded(model, context).cpu()
        return FittedWordSearch(self, model, data.classes, items, history)

    def probe(self, data: TrainingData, sounds: Sounds, context: Context) -> Probe:
        """The cost of a step, from two of them on some of the data."""
        model, hearing = self._begin(data, sounds, context)
        return probe(model, self.recipe, hearing, data, len(data.labelled), 0.0, context)

    def untrained(self) -> _Model:
        """A fresh model."""
        scale = Scale(self.sound.shape(self.sound.rate), "none" if self.teacher else "band")
        return _Model(self.sound.build(), scale, self._network())

    def _begin(
        self, data: TrainingData, sounds: Sounds, context: Context
    ) -> tuple[_Model, Searched]:
        torch.manual_seed(context.seed)
        model = self.untrained().to(context.device)
        teacher = context.required(self.teacher) if self.teacher else None
        return model, Searched(self, sounds, data.classes, teacher, context)

    def load(self, folder: Path) -> FittedWordSearch:
        """What :meth:`FittedWordSearch.save` wrote."""
        about = json.loads((folder / "model.json").read_text())
        model = self.untrained()
        model.load_state_dict(load_states(folder, 1)[0])
        items = load_file(folder / LATENTS)["items"]
        return FittedWordSearch(self, model, tuple(about["classes"]), items, History())


class Searched:
    """Words and the gallery that they search, as the loop of a training hears them."""

    grid = 1

    def __init__(
        self, system: WordSearch, sounds: Sounds, items: Sequence[str], teacher: Any,
        context: Context,
    ) -> None:  # fmt: skip
        self.system, self.sounds, self.items = system, sounds, tuple(items)
        self.teacher, self.context = teacher, context
        self._features: list[Tensor] | None = None
        self._latents: Tensor | None = None

    def words(self, clip_ids: Sequence[str]) -> list[np.ndarray]:
        """The codes of some queries."""
        return [np.array(self.sounds["query"][clip_id]) for clip_id in clip_ids]

    def features(self, model: Model) -> list[Tensor]:
        """Unscaled features [1, 1, D, T] of each sound of the gallery, made once."""
        if self._features is None:
            self._features = []
            most = round(self.system.seconds * self.system.sound.rate)
            for item in self.items:
                waveform = torch.from_numpy(np.array(self.sounds["gallery"][item])[:most])
                with torch.no_grad():
                    self._features.append(model.raw(waveform[None], self.context.device))
        return self._features

    def latents(self) -> Tensor:
        """The teacher's latent vectors of the gallery [K, E]."""
        if self._latents is None:
            self._latents = self.teacher.latents(self.items, self.sounds, self.context)
        return self._latents

    def encoded(self, model: Any, context: Context) -> Tensor:
        """The latent vectors of the gallery [K, E] as they are now."""
        if self.teacher is not None:
            return self.latents().to(context.device)
        features = self.features(model)
        parts = []
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(features), AT_ONCE):
                some = _sounds(model, features[start : start + AT_ONCE], context.device)
                parts.append(model.network.encoder(some["sound"], some["frames"]))
        return torch.cat(parts)

    def track(self, model: Model, clip_ids: Sequence[str], context: Context) -> tuple[str, ...]:
        """What is listened to: the queries."""
        return tuple(clip_ids)

    def listen(
        self, model: Any, track: Sequence[str], context: Context, tap: Any = None
    ) -> Iterator[Heard]:
        """The scores [K] of all sounds for each query, in order."""
        for row in ranked(model, self.words(track), self.encoded(model, context)):
            yield Heard(row, None)


def ranked(model: Any, words: Sequence[np.ndarray], items: Tensor) -> Tensor:
    """How well items of latents [K, E] answer words [N, K], on the CPU; of equal words one is
    looked at."""
    distinct, which = same_words(words)
    model.eval()
    with torch.inference_mode():
        said = model.network.ranking(distinct, items).float().cpu()
    return said[torch.from_numpy(which)].clone()


class AskedByWords(Undecided):
    """What searches the sounds that it knows, by written words."""

    frame_hop = None
    frame_start = 0.0
    rate = RATE
    channels: Channels = "mono"

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """The scores of all sounds for some words."""
        raise NotImplementedError

    def answer(self, words: Sequence[str], context: Context) -> Predictions:
        """The same for words that are in no store, by their phonemes (``k a: N``).

        Raises:
            UserError: a word without phonemes.
        """
        empty = [word for word in words if not symbols(word)]
        if empty:
            raise UserError(f"{shown(empty[0])} holds no phonemes: write them apart, as 'k a: N'.")
        named = {str(place): coded(word) for place, word in enumerate(words)}
        return self.predict(tuple(named), {"query": Waveforms(RATE, named)}, context)

    def score(self, waveforms: Sequence[np.ndarray], context: Context) -> Any:
        """Queries are words."""
        raise UserError(
            "this run is asked by written words: soundsweep search RUN 'k a: N' ranks the sounds "
            "that it knows."
        )


@dataclass(frozen=True)
class FittedWordSearch(AskedByWords):
    """A trained network over words and a gallery: ``items`` are the latents [K, E] of its sounds,
    the ``classes``."""

    system: WordSearch
    model: Any
    classes: tuple[str, ...]
    items: Tensor
    history: History

    def latents(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> Tensor:
        """The latent vectors [N, E] of some sounds of the gallery, on the CPU."""
        searched = Searched(self.system, sounds, clip_ids, None, context)
        return searched.encoded(self.model.to(context.device), context).cpu().clone()

    def written(self, clip_ids: Sequence[str], sounds: Sounds, context: Context) -> list[str]:
        """The likeliest word of each of some sounds, symbol by symbol."""
        latents = self.latents(clip_ids, sounds, context).to(context.device)
        with torch.inference_mode():
            rows = self.model.network.writer.write(latents, PLACES[BEGIN], PLACES[END], LONGEST)
        return [" ".join(word_of(row)) for row in rows]

    def predict(
        self, clip_ids: Sequence[str], sounds: Sounds, context: Context, fold: int = 0
    ) -> Predictions:
        """The scores of all sounds for some words."""
        words = [np.array(sounds["query"][clip_id]) for clip_id in clip_ids]
        self.model.to(context.device)
        ranking = ranked(self.model, words, self.items.to(context.device)).numpy()
        return Predictions.of(clip_ids, self.classes, fold, ranking=ranking)

    def save(self, folder: Path) -> None:
        """Weights and the gallery's latents as safetensors, the rest as JSON."""
        save_states(folder, (self.model.state_dict(),))
        write_whole(folder / LATENTS, save({"items": self.items.contiguous()}))
        write_whole(folder / "model.json", json.dumps({"classes": self.classes}, indent=1))
