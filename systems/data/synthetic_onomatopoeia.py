"""The embedded data set ``synthetic_onomatopoeia``: sounds, and words that listeners write of them.

It has what the RWCP sounds with their words have: a gallery (column ``class``), and words as
queries, each of which should find the sound that it was written of. A word tells the class by its
syllables, and whether the sound is long by how it ends; each listener has habits, and errs.
"""

from __future__ import annotations

import numpy as np

from systems.data.dataset import Clip, Dataset, Labels
from systems.data.rendering import LAYOUT, Rendering, takes_no_folder
from systems.data.synthetic_sounds import RATE, background, rms, seeded, sounding, within
from systems.data.words import WordsAndSounds, seconds

__all__ = ["CLIPS", "LAYOUT", "NAME", "TASK", "read"]

NAME = "synthetic_onomatopoeia"
TASK = "any"

SYLLABLES = {  # class -> what is written of it, the commoner first
    "Alarm_bell_ringing": ("r i", "j i"),
    "Dishes": ("k a ch a", "g a ch a"),
    "Dog": ("w a", "b a"),
    "Frying": ("j u", "sh u"),
    "Running_water": ("z a", "j a"),
    "Vacuum_cleaner": ("g o", "b u"),
}
EACH = 5  # sounds of a class
LISTENERS = 10
HEARD = 6  # listeners of a sound
CLIPS = {"gallery": EACH * len(SYLLABLES), "train": EACH * len(SYLLABLES) * HEARD}
SECONDS = (0.25, 1.0)
LONG = 0.6  # s: a longer sound is drawn out
ERRS = 0.15  # share of words


def read(folder: str | None = None, skip_broken: bool = False) -> Dataset:
    """The data set; no rendering is ever broken.

    Raises:
        UserError: a folder is given: nothing of the set lies on disk.
    """
    takes_no_folder(NAME, folder)
    sounds = tuple(f"gallery/{name}-{k}" for name in SYLLABLES for k in range(EACH))
    said = {f"word/{sound.rpartition('/')[2]}-{listener:02d}": (sound, listener)
            for sound in sounds for listener in _listeners(sound)}  # fmt: skip
    words = {clip_id: written(*heard) for clip_id, heard in said.items()}
    gallery = [Clip(sound, "gallery", "gallery", sound, length(sound), {"class": _class(sound)})
               for sound in sounds]  # fmt: skip
    queries = [
        Clip(clip_id, "train", "labelled", f"listener_{listener:02d}", seconds(words[clip_id]),
             {"class": _class(sound)})
        for clip_id, (sound, listener) in said.items()
    ]  # fmt: skip
    return Dataset(
        name=NAME,
        task=TASK,
        classes=sounds,
        clips=(*gallery, *queries),
        labels={"train": Labels("relevance", {i: (sound,) for i, (sound, _) in said.items()})},
        sealed={},
        sealed_kind={},
        source=WordsAndSounds(Rendering(sounds, render), words),
        test_part=None,
    )


def _class(sound: str) -> str:
    return sound.rpartition("/")[2].partition("-")[0]


def _listeners(sound: str) -> list[int]:
    rng = seeded(NAME, "listeners", sound)
    return sorted(int(k) for k in rng.choice(LISTENERS, HEARD, replace=False))


def length(sound: str) -> float:
    """The length of a sound in s."""
    return round(float(seeded(NAME, "length", sound).uniform(*SECONDS)), 3)


def written(sound: str, listener: int) -> str:
    """The phonemes of what a listener writes of a sound."""
    rng = seeded(NAME, "word", sound, str(listener))
    person = seeded(NAME, "listener", str(listener))
    common, rare = SYLLABLES[_class(sound)]
    syllables = rare if rng.random() < person.uniform(0.1, 0.6) else common
    drawn_out = (length(sound) > LONG) != (rng.random() < ERRS)
    end = str(person.choice([": N", ": q"] if drawn_out else ["N", "q"]))
    return f"{syllables} {end}"


def render(sound: str) -> np.ndarray:
    """A sound [S] over a soft background."""
    rng = seeded(NAME, "sound", sound)
    name, _, source = sound.rpartition("/")[2].partition("-")
    made = sounding(name, int(source), round(length(sound) * RATE), rng)
    mix = background(len(made), rng)
    return within(mix + 20 * rms(mix) / rms(made) * made)
