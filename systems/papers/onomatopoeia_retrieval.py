"""Search for sounds by an onomatopoeic word: a network writes words of sounds, another reads them.

Source: Ikawa and Kashino, DCASE 2018 Workshop. What the paper leaves open is settled in
docs/papers/onomatopoeia_retrieval.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from systems.frontend.log_mel import LogMel, Mfcc
from systems.registry import Requirement, register
from systems.tagged_search import TaggedSearch
from systems.training.settings import Training
from systems.word_search import SoundToWord, WordSearch, WordToLatent

BIBTEX = """
@inproceedings{ikawa2018acoustic,
  author    = {Ikawa, Shota and Kashino, Kunio},
  title     = {Acoustic Event Search with an Onomatopoeic Query: Measuring Distance Between
               Onomatopoeic Words and Sounds},
  booktitle = {Detection and Classification of Acoustic Scenes and Events Workshop (DCASE)},
  year      = {2018},
}
"""
PAPER = "onomatopoeia_retrieval"
MFCC = Mfcc(LogMel(rate=48_000, window=2048, hop=512, bands=128), count=20, deltas=0)
TRAINING = Training(epochs=34, labelled=256, unlabelled=0, patience=None)


@dataclass(frozen=True)
class Config:
    """LSTMs of ``cells`` a direction, and the latent vector between them (Section 4.2)."""

    mfcc: Mfcc = MFCC
    seconds: float = 10.0  # of a sound that are heard at most
    cells: int = 512
    latent: int = 128
    training: Training = TRAINING


@dataclass(frozen=True)
class NoConfig:
    """Nothing is to be set."""


COMMON: dict[str, Any] = {
    "task": "onomatopoeia_search", "dataset": "rwcp", "example": "synthetic_onomatopoeia",
    "labels": ("relevance",), "gives": ("ranking",),
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "config": Config(), "schedule": ("training.epochs",),
    "quick": {"cells": 64, "latent": 32, "training.labelled": 32, "training.epochs": 20,
              "training.learning_rate": 3e-3},
    "tiny": {"cells": 16, "latent": 8, "training.labelled": 8, "training.epochs": 4,
             "training.learning_rate": 1e-2},
    **COMMON,
}  # fmt: skip
S2S = {"s2s": Requirement(f"{PAPER}/onoma_s2s", "fitted", rows="same_fold")}
JUDGED = "listeners judged the nearest sounds, which no run can ask"
SUITABLE = "subjective, share of suitable answers (very + relatively)"


def latents(c: Config) -> WordSearch:
    """A word encoder that learns where the sounds of a word lie."""
    return WordSearch(
        sound=c.mfcc, seconds=c.seconds, training=c.training, teacher="s2s",
        network=lambda: WordToLatent(c.cells, c.latent),
    )  # fmt: skip


@register(
    f"{PAPER}/onoma_latent_search", requires=S2S, parameters=2_369_664,
    unmapped={SUITABLE: JUDGED,
              "preference over levenshtein_text_search; scale -2 to 2; significant at 1 %": JUDGED},
    **NETWORK,
)  # fmt: skip
def latent_search(c: Config) -> WordSearch:
    """The sounds whose latent vectors lie nearest to the word's."""
    return latents(c)


register.variant(
    f"{PAPER}/onoma_encoder", of=f"{PAPER}/onoma_latent_search", overrides={}, unmapped={},
    parameters=2_369_664, summary="The word encoder of that search, judged by what it finds.",
)  # fmt: skip


@register(
    f"{PAPER}/onoma_s2s", parameters=3_587_232,
    unmapped={"34 epochs; latent 128": "of words that are written of sounds; a run ranks sounds"},
    **NETWORK,
)  # fmt: skip
def s2s(c: Config) -> WordSearch:
    """Sequence to sequence: writes words of sounds; ranks by how likely it writes the query."""
    features = c.mfcc.count * (1 + c.mfcc.deltas)
    return WordSearch(
        sound=c.mfcc, seconds=c.seconds, training=c.training,
        network=lambda: SoundToWord(features, c.cells, c.latent),
    )  # fmt: skip


@register(f"{PAPER}/levenshtein_text_search", config=NoConfig(), **COMMON)
def levenshtein(c: NoConfig) -> TaggedSearch:
    """The sounds of which a word was written that the fewest edits part from the query."""
    return TaggedSearch()
