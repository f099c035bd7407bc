"""Scenes of a city, a track a source, and what listeners said of them: what two readers share.

What is known of a scene goes the way of sound: it is a track too. ``SOURCE/events`` is 1 where an
annotated event of the source lies (:data:`EVENT_RATE` Hz), ``perceived/QUESTION`` is the mean
answer all along (:data:`ANSWER_RATE` Hz). So stores, folds and workers need to know nothing of
either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from systems.data.dataset import AUDIO, Clip, Dataset, Event, Labels, Source
from systems.data.ratings import Answers, careless, explained, means

TASK = "soundscape_perception"
# Sources by their letters, and the tracks that they are.
SOURCES = {"T": "traffic", "B": "birds", "H": "horns_sirens", "V": "voices", "F": "footsteps"}
MIX = "mix"
OVERALL = ("OL", "I", "L", "C")  # overall loudness, interest, liveliness, calmness
TIMES, LEVELS = (
    tuple(f"{what}_{s}" for s in SOURCES) for what in "TL"
)  # times of presence, levels
QUESTIONS = (*OVERALL, *(q for pair in zip(TIMES, LEVELS, strict=True) for q in pair))
PLEASANTNESS = "pleasantness"
SCALE = 10.0  # answers are from 0 to 10; labels are the share of it
EVENT_RATE, ANSWER_RATE = 1000, 100  # Hz
EVENTS, PERCEIVED = "/events", "perceived/"
METRICS = ("pearson_r", "pcc")
# What the papers' tables call the outputs: "T_B,p" is what is perceived, our T_B.
LABELS = {f"{name},p": name for name in (*TIMES, *LEVELS)}


@dataclass(frozen=True)
class Scenes:
    """A source of scenes, whose sound ``sounds`` reads by track, and of what is known of them.

    ``seconds``, ``events`` (labels are tracks) and ``perceived`` (question -> answer, 0 to 1) by
    scene.
    """

    sounds: Source
    seconds: Mapping[str, float]
    events: Mapping[str, tuple[Event, ...]]
    perceived: Mapping[str, Mapping[str, float]]

    def read(self, clip_id: str, track: str = AUDIO) -> tuple[np.ndarray, int]:
        """Samples [C, S] and their rate; of a scene itself those of its mix."""
        seconds = self.seconds[clip_id]
        if track.startswith(PERCEIVED):
            value = self.perceived[clip_id][track.removeprefix(PERCEIVED)]
            return np.full((1, round(seconds * ANSWER_RATE)), value, np.float32), ANSWER_RATE
        if track.endswith(EVENTS):
            source = track.removesuffix(EVENTS)
            return active(seconds, (e for e in self.events[clip_id] if e.label == source))
        return self.sounds.read(clip_id, MIX if track == AUDIO else track)

    def identity(self) -> Iterable[str]:
        yield from self.sounds.identity()
        for clip_id in self.seconds:
            yield f"{clip_id}|{self.events[clip_id]}|{sorted(self.perceived[clip_id].items())}"

    def where(self, clip_id: str) -> str:
        return self.sounds.where(clip_id)


def active(seconds: float, events: Iterable[Event]) -> tuple[np.ndarray, int]:
    """1 where an event lies, else 0 [1, S], and the rate."""
    found = np.zeros((1, round(seconds * EVENT_RATE)), np.float32)
    for event in events:
        found[:, round(event.onset * EVENT_RATE) : round(event.offset * EVENT_RATE)] = 1.0
    return found, EVENT_RATE


def soundscapes(
    name: str, kinds: Mapping[str, str], sounds: Source, seconds: Mapping[str, float],
    events: Mapping[str, tuple[Event, ...]], answers: Answers,
    pleasantness: Mapping[str, float] | None = None, *, calibration: float | None,
    tables: Sequence[str] = (), skipped: Sequence[tuple[str, str]] = (),
) -> Dataset:  # fmt: skip
    """The data set of scenes, each a group and a fold of its own, without a test part.

    Args:
        name: of the data set.
        kinds: scene -> what place it is.
        sounds: of the scenes by track.
        seconds: of each scene.
        events: of each scene, the labels being tracks.
        answers: of the listening test, 0 to 10; those of careless subjects do not count.
        pleasantness: of each scene, 0 to 10, where no question of the test is of it.
        calibration: dB SPL of an RMS of 1.
        tables: lines of the fingerprint.
        skipped: files that were left out.
    """
    left_out = careless(answers)
    perceived = means(answers, left_out)
    if pleasantness is not None:
        perceived = {s: {**of, PLEASANTNESS: pleasantness[s]} for s, of in perceived.items()}
    perceived = {scene: {q: v / SCALE for q, v in perceived[scene].items()} for scene in kinds}
    outputs = tuple(next(iter(perceived.values())))
    subjects = dict.fromkeys(answers.subjects)
    note = f"{len(subjects) - len(left_out)} of {len(subjects)} subjects count"
    if left_out:
        note += f"; more than 10 % of the answers of {', '.join(left_out)} are outliers"
    notes = [note]
    if len(kinds) > 2:
        first, second = 100 * explained(tuple(perceived.values()), OVERALL)[:2]
        notes.append(
            f"principal components of {', '.join(OVERALL)} over {len(kinds)} scenes: the first two "
            f"hold {first:.1f} % and {second:.1f} % of the variance"
        )
    return Dataset(
        name=name,
        task=TASK,
        classes=outputs,
        clips=tuple(
            Clip(scene, "train", "labelled", scene, seconds[scene], {"type": kind})
            for scene, kind in kinds.items()
        ),
        labels={"train": Labels("values", {s: tuple(of.values()) for s, of in perceived.items()})},
        sealed={},
        sealed_kind={},
        source=Scenes(sounds, {s: seconds[s] for s in kinds}, events, perceived),
        test_part=None,
        tables=tuple(tables),
        folds={scene: scene for scene in kinds},
        calibration=calibration,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )
