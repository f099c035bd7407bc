"""How long each source of a street is heard, from emergence indicators of its separated tracks.

Source: Gontier et al., DCASE 2018 workshop. What the paper leaves open is settled in
docs/papers/urban_source_presence.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from systems.clip_features import OfTracks
from systems.data.protocol import Protocol
from systems.data.soundscapes import (
    ANSWER_RATE,
    EVENT_RATE,
    EVENTS,
    LEVELS,
    MIX,
    PERCEIVED,
    PLEASANTNESS,
    SOURCES,
    TASK,
    TIMES,
)
from systems.estimator_system import EstimatorSystem
from systems.figures import Figure
from systems.frontend.third_octave import ThirdOctave, a_weights, energy_sum, exceeded
from systems.presence import AsItIs, Presence, emergence, floor_of
from systems.registry import register

PAPER = "urban_source_presence"
BIBTEX = """
@inproceedings{gontier2018perceptual,
  author    = {Gontier, F{\\'e}lix and Aumond, Pierre and Lagrange, Mathieu and Lavandier,
               Catherine and Petiot, Jean-Fran{\\c{c}}ois},
  title     = {Towards Perceptual Soundscape Characterization Using Event Detection Algorithms},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""
TRACKS = tuple(SOURCES.values())
Tracks = Mapping[str, np.ndarray]
ALPHAS, BETAS = (-30.0, 10.0), (-30.0, 15.0)  # dB, the grid of T_s(alpha, beta)
BROADBAND_ALPHAS = (-60.0, 10.0)  # dB, that of T_s(alpha)


@dataclass(frozen=True)
class Bands:
    """T_s(alpha, beta) in dB. ``fit``: thresholds are chosen on the clips that train, in the
    ``grid``, or are ``given``."""

    levels: ThirdOctave = ThirdOctave()
    fit: Literal["grid", "given"] = "grid"
    alpha: float = -6.0
    beta: float = -5.0


@dataclass(frozen=True)
class Broadband:
    """T_s(alpha) in dB; ``fit`` as of :class:`Bands`."""

    levels: ThirdOctave = ThirdOctave()
    fit: Literal["grid", "given"] = "grid"
    alpha: float = -31.0


@dataclass(frozen=True)
class Activity:
    """The share of time with an annotated event has no setting."""


@dataclass(frozen=True)
class Exceeded:
    """L_s: the level of a source that is exceeded ``source`` % of the time, less the scene's that
    is exceeded ``scene`` %."""

    levels: ThirdOctave = ThirdOctave()
    source: int = 10
    scene: int = 90


@dataclass(frozen=True)
class Overall:
    """The level of the scene that is exceeded ``exceeded`` % of the time, without weighting (Z),
    weighted (A), or of the third octave at 1 kHz."""

    levels: ThirdOctave = ThirdOctave()
    weighting: Literal["Z", "A", "1kHz"] = "Z"
    exceeded: int = 50


@dataclass(frozen=True)
class Pleasantness:
    """``sources``: whose perceived time of presence it takes, beside the overall loudness."""

    sources: tuple[str, ...] = ("T", "V", "B")

    def __post_init__(self) -> None:
        if not self.sources or not {*self.sources} <= {*SOURCES}:
            raise ValueError(f"sources are some of {', '.join(SOURCES)}")


def of_source(variant: str, outputs: tuple[str, ...] = TIMES) -> tuple[Figure, ...]:
    """The rows of each source's indicator, whose variants say how significant a correlation is."""
    return tuple(
        Figure(f"source {s}; {variant}p<{p}", output=output)
        for s, output in zip(SOURCES, outputs, strict=True)
        for p in ("0.05", "0.01")
    )


NO_METRIC = "the thresholds that a training chose stand in its model: they are no metric"
CHOSEN = {"grid-search optimum": NO_METRIC}
COMMON: dict[str, Any] = {
    "task": TASK, "dataset": "grafic_scenes", "labels": ("values",), "gives": ("clip_values",),
    "protocol": Protocol(same=True),
}  # fmt: skip
TINY = {"levels.rate": 16_000}


def stacked(tracks: Tracks) -> np.ndarray:
    """The levels [S, F, T] of the sources."""
    return np.stack([tracks[track] for track in TRACKS])


def emergent(broadband: bool, tracks: Tracks, calibration: float | None) -> np.ndarray:
    """The emergence [S, F, T] of each source in each band, or [S, 1, T] of all bands together."""
    floor = floor_of(energy_sum(tracks[MIX], axis=0), calibration)
    levels = stacked(tracks)
    if broadband:
        levels = energy_sum(levels, axis=1)[:, None]
    return emergence(levels, floor)


def heard(levels: ThirdOctave, *, broadband: bool, **thresholds: Any) -> EstimatorSystem:
    """Shares of frames in which each source is heard, by thresholds that are given or ranges."""
    return EstimatorSystem(
        features=OfTracks((MIX, *TRACKS), partial(emergent, broadband), levels),
        estimator=lambda seed: Presence(**thresholds),
    )


@register(
    f"{PAPER}/presence_bands", config=Bands(), outputs=TIMES, tiny=TINY,
    figures=of_source("alpha=-6 dB; beta=-5 dB; "), unmapped=CHOSEN, **COMMON,
)  # fmt: skip
def presence_bands(config: Bands) -> EstimatorSystem:
    """Time of presence of each source by its emergence in third octaves, with two thresholds."""
    given = config.fit == "given"
    return heard(
        config.levels, broadband=False, alpha=config.alpha if given else ALPHAS,
        beta=config.beta if given else BETAS,
    )  # fmt: skip


@register(
    f"{PAPER}/presence_broadband", config=Broadband(), outputs=TIMES, tiny=TINY,
    figures=of_source("alpha=-31 dB; "), unmapped=CHOSEN, **COMMON,
)  # fmt: skip
def presence_broadband(config: Broadband) -> EstimatorSystem:
    """Time of presence of each source by its broadband emergence, with one threshold."""
    alpha = config.alpha if config.fit == "given" else BROADBAND_ALPHAS
    return heard(config.levels, broadband=True, alpha=alpha, beta=None)


@register(
    f"{PAPER}/presence_activity", config=Activity(), outputs=TIMES, figures=of_source(""), **COMMON
)
def presence_activity(config: Activity) -> EstimatorSystem:
    """Time of presence of each source as its annotated events have it."""

    def shares(tracks: Tracks, calibration: float | None) -> np.ndarray:
        return np.array([tracks[f"{track}{EVENTS}"].mean() for track in TRACKS])

    names = tuple(f"{track}{EVENTS}" for track in TRACKS)
    return as_it_is(OfTracks(names, shares, rate=EVENT_RATE))


@register(
    f"{PAPER}/source_emergence", config=Exceeded(), outputs=LEVELS, tiny=TINY,
    figures=of_source("", LEVELS), **COMMON,
)  # fmt: skip
def source_emergence(config: Exceeded) -> EstimatorSystem:
    """Perceived level of each source as its peak level above the scene's background."""

    def levels(tracks: Tracks, calibration: float | None) -> np.ndarray:
        scene = energy_sum(tracks[MIX], axis=0)
        sources = np.maximum(energy_sum(stacked(tracks), axis=1), floor_of(scene, calibration))
        background = exceeded(scene, config.scene)
        return np.array([exceeded(one, config.source) - background for one in sources])

    return as_it_is(OfTracks((MIX, *TRACKS), levels, config.levels))


@register(
    f"{PAPER}/overall_level", config=Overall(), outputs=("OL",), tiny=TINY, **COMMON,
    figures=tuple(
        Figure(f"{row}; p<{p}", {"weighting": weighting}, node=f"{row}, p<{p}", output="OL")
        for row, weighting in (("L50", "Z"), ("LA50", "A"), ("L50,1kHz", "1kHz"))
        for p in ("0.05", "0.01")
    ),
)  # fmt: skip
def overall_level(config: Overall) -> EstimatorSystem:
    """Perceived loudness as a level of the whole scene, in dB SPL where it is calibrated."""
    centres = config.levels.centres

    def level(tracks: Tracks, calibration: float | None) -> np.ndarray:
        bands = np.asarray(tracks[MIX], float)
        if config.weighting == "1kHz":
            bands = bands[np.isclose(centres, 1000.0)]
        if config.weighting == "A":
            bands = bands + a_weights(centres)[:, None]
        return np.array([exceeded(energy_sum(bands, axis=0), config.exceeded)]) + (calibration or 0)

    return as_it_is(OfTracks((MIX,), level, config.levels))


@register(f"{PAPER}/pleasantness_linear", config=Pleasantness(), outputs=(PLEASANTNESS,), **COMMON)
def pleasantness_linear(config: Pleasantness) -> EstimatorSystem:
    """Pleasantness as a linear function of perceived loudness and times of presence."""
    names = tuple(f"{PERCEIVED}{q}" for q in ("OL", *(f"T_{s}" for s in config.sources)))

    def answers(tracks: Tracks, calibration: float | None) -> np.ndarray:
        return np.array([tracks[name].mean() for name in names])

    def estimator(seed: int) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    return EstimatorSystem(features=OfTracks(names, answers, rate=ANSWER_RATE), estimator=estimator)


def as_it_is(features: OfTracks) -> EstimatorSystem:
    """A system whose answer is a formula of the tracks: nothing is fitted."""
    return EstimatorSystem(features=features, estimator=lambda seed: AsItIs())
