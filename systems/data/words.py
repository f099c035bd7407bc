"""Written words as systems take them: the codes of a word's symbols, in place of samples.

A word goes the way of sound: the source gives its codes as samples, at :data:`RATE` symbols a
second, and a store keeps them. So folds, workers and bundles need to know nothing of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from systems.data.dataset import Source

RATE = 100  # symbols a second: no clip is longer as a word, or shorter, than one symbol
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# Phonemes of RWCP-SSD-Onomatopoeia: vowels, consonants, the moraic nasal, a stop, a long vowel.
PHONEMES = (*"aiueo", *"kgsztdnhfbpmyrwjv", "ky", "sh", "ch", "ts", "N", "q", ":")
SYMBOLS = (BEGIN, END, UNKNOWN, *PHONEMES)
PLACES = {symbol: place for place, symbol in enumerate(SYMBOLS)}


def symbols(text: str) -> tuple[str, ...]:
    """The symbols of phonemes that blanks part (``k a: N``); what is no phoneme is unknown."""
    parts = text.replace(":", " : ").split()
    return tuple(part if part in PHONEMES else UNKNOWN for part in parts)


def coded(text: str) -> np.ndarray:
    """The codes of a word [L + 2], from its begin to its end."""
    word = (BEGIN, *symbols(text), END)
    return np.array([PLACES[symbol] for symbol in word], np.float32)


def word_of(codes: Iterable[float]) -> tuple[str, ...]:
    """The symbols of a word's codes, up to its end."""
    found = []
    for code in codes:
        symbol = SYMBOLS[int(code)]
        if symbol == END:
            break
        if symbol != BEGIN:
            found.append(symbol)
    return tuple(found)


def seconds(text: str) -> float:
    """How long a word is as a clip."""
    return (2 + len(symbols(text))) / RATE


@dataclass(frozen=True)
class WordsAndSounds:
    """A source of sounds, and of words (clip id -> phonemes)."""

    sounds: Source
    words: Mapping[str, str]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        """Samples [C, S] and their rate; of a word its codes [1, L + 2]."""
        if clip_id in self.words:
            return coded(self.words[clip_id])[None], RATE
        return self.sounds.read(clip_id, track)

    def identity(self) -> Iterable[str]:
        yield from self.sounds.identity()
        for clip_id, word in self.words.items():
            yield f"{clip_id}|{word}"

    def where(self, clip_id: str) -> str:
        return clip_id if clip_id in self.words else self.sounds.where(clip_id)


def same_words(words: Sequence[np.ndarray]) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """The distinct words among some (their codes), and which of them each is [N]."""
    codes = [tuple(int(code) for code in word) for word in words]
    distinct = list(dict.fromkeys(codes))
    place = {word: k for k, word in enumerate(distinct)}
    return distinct, np.array([place[word] for word in codes])
