"""Constructed members for tests of stage two: what is true of them is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.plan.stage import Manner
from orchestrator.stacking.families import learner, learners
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Event
from systems.errors import CannotFit

Set = tuple[Members, Targets]


def members_of(scores: np.ndarray, **more: Any) -> Members:
    """Members with clip scores [N, M, K] (and more kinds)."""
    n, m, k = scores.shape
    names = tuple(f"member{i}" for i in range(m))
    ids = tuple(f"clip{i}" for i in range(n))
    return Members(names, ids, tuple(f"class{i}" for i in range(k)), scores, **more)


def truth_of(seed: int, clips: int, classes: int, kind: str = "tags") -> Targets:
    """Tags with a prevalence of 0.3, or one class a clip."""
    r = np.random.default_rng(seed)
    if kind == "class":
        one = np.eye(classes, dtype=np.float32)[r.integers(classes, size=clips)]
        return Targets.of(one, "class", "accuracy")
    return Targets.of((r.random((clips, classes)) < 0.3).astype(np.float32))


def noisy(
    seed: int, noise: Any = 1.5, *, clips: int = 600, members: int = 4, classes: int = 5,
    kind: str = "tags", signal: float = 3.0,
) -> Set:  # fmt: skip
    """Members with the same signal and independent noise: a number, or [M] or [M, K]."""
    truth = truth_of(seed, clips, classes, kind)
    r = np.random.default_rng([seed, 1])
    size = np.broadcast_to(np.asarray(noise, float).reshape(-1, 1) if np.ndim(noise) == 1
                           else noise, (members, classes))  # fmt: skip
    logits = signal * (truth.values[:, None] - 0.5) + size * r.normal(
        size=(clips, members, classes)
    )
    scores = softmax(logits, axis=-1) if kind == "class" else expit(logits)
    return members_of(scores), truth


def copies(seed: int, *, clips: int = 300, members: int = 4, kind: str = "tags") -> Set:
    """The null set: every member is the same one, but for noise that changes hardly a decision."""
    data, truth = noisy(seed, clips=clips, members=1, kind=kind)
    r = np.random.default_rng([seed, 2])
    noise = 0.002 * r.normal(size=(clips, members, data.scores.shape[2]))
    return members_of(np.clip(data.scores + noise, 1e-6, 1 - 1e-6)), truth


def one_good(seed: int, kind: str = "tags") -> Set:
    """Two good members that complement each other among four that are hardly better than chance."""
    return noisy(seed, [1.5, 1.5, 9.0, 9.0, 9.0, 9.0], members=6, kind=kind)


def class_strengths(seed: int, kind: str = "tags") -> Set:
    """Each class has a member that knows it; the others are hardly better than chance there."""
    noise = np.full((4, 4), 6.0)
    np.fill_diagonal(noise, 0.8)
    return noisy(seed, noise, classes=4, kind=kind)


def miscalibrated(seed: int, kind: str = "tags") -> Set:
    """Good members whose scores lie far from 0.5, each on its own side, by class."""
    data, truth = noisy(seed, 1.5, kind=kind, members=3)
    r = np.random.default_rng([seed, 3])
    logits = np.log(data.scores / (1 - data.scores)) if kind == "tags" else np.log(data.scores)
    moved = logits * np.array([0.2, 1.0, 3.0])[:, None] + r.uniform(-4, -1, (1, 3, 5))
    scores = expit(moved) if kind == "tags" else softmax(moved, axis=-1)
    return members_of(scores), truth


def high_bounds(seed: int) -> Set:
    """Good members whose best bound lies far below 0.5."""
    data, truth = noisy(seed, 1.0, members=2)
    return members_of(data.scores**4), truth


def bounds_near_half(seed: int) -> Set:
    """Good members whose best bounds lie a little off 0.5, where a short walk reaches them."""
    data, truth = noisy(seed, 1.0, members=2)
    off = np.array([1.1, -1.1, 1.1, -1.1, 0.9])
    return members_of(expit(np.log(data.scores / (1 - data.scores)) * 0.5 + off / 2)), truth


def crossed(seed: int, kind: str = "tags") -> Set:
    """A class is there where exactly one of two members says so: no weighted mean sees it."""
    r = np.random.default_rng(seed)
    a, b = r.random((2, 800, 2)) < 0.5
    truth = (a ^ b).astype(np.float32)
    scores = expit(2.5 * (2 * np.stack([a, b], axis=1) - 1) + 0.8 * r.normal(size=(800, 2, 2)))
    if kind == "class":
        one = np.stack([truth[:, 0], 1 - truth[:, 0]], axis=1)
        scores = np.stack([scores[:, :, 0], 1 - scores[:, :, 0]], axis=2)
        return members_of(scores), Targets.of(one, "class", "accuracy")
    return members_of(scores), Targets.of(truth)


def domains(seed: int, kind: str = "tags") -> Set:
    """Clips of two domains, each with a member that knows it."""
    data, truth = noisy(seed, 0.7, members=2, kind=kind)
    r = np.random.default_rng([seed, 7])
    first = r.random(len(truth.values)) < 0.5
    scores = data.scores.copy()
    scores[first, 1] = r.random((first.sum(), 5))
    scores[~first, 0] = r.random(((~first).sum(), 5))
    about = tuple({"domain": "field" if one else "studio"} for one in first)
    return members_of(scores, about=about), truth


def gated(seed: int) -> Set:
    """A statistic of the clip tells which of two members to believe."""
    data, truth = noisy(seed, 0.7, members=2, clips=800)
    r = np.random.default_rng([seed, 4])
    first = r.random(800) < 0.5
    scores = data.scores.copy()
    scores[first, 1] = r.random((first.sum(), 5))
    scores[~first, 0] = r.random(((~first).sum(), 5))
    statistics = np.where(first, 1.0, -1.0)[:, None] + 0.2 * r.normal(size=(800, 3))
    return members_of(scores, columns=statistics), truth


def embedded(seed: int) -> Set:
    """Members' embeddings carry the tags together, their scores alone hardly."""
    data, truth = noisy(seed, 6.0, members=2, clips=800)
    r = np.random.default_rng([seed, 5])
    mixed = truth.values @ r.normal(size=(5, 12)) + 0.5 * r.normal(size=(800, 12))
    return members_of(data.scores, embeddings=(mixed[:, :6], mixed[:, 6:])), truth


def ordered(seed: int) -> Set:
    """Frame embeddings whose order in time is the tag: a rise, not a fall."""
    r = np.random.default_rng([seed, 6])
    truth = (r.random((400, 1)) < 0.5).astype(np.float32)
    ramp = np.linspace(-1, 1, 12)
    frames = tuple(
        (np.where(t[0] > 0.5, ramp, -ramp) + 0.3 * r.normal(size=12))[:, None] for t in truth
    )
    return members_of(r.random((400, 1, 1)), frame_embeddings=(frames,)), Targets.of(truth)


def epochs(seed: int, kind: str = "tags") -> Set:
    """One training whose last epochs err independently of each other."""
    data, truth = noisy(seed, 2.0, members=12, kind=kind)
    early, late = 2.0 * np.ones_like(data.scores[:, 0]) / 5, data.scores
    by_epoch = {e: late[:, e - 5] if e >= 5 else early for e in range(1, 16)}
    return members_of(data.scores[:, :1], epochs=(by_epoch,)), truth


def timed(
    seed: int, *, clips: int = 40, classes: int = 3, hop: float = 0.1, seconds: float = 10.0,
    level: float = 0.25, members: int = 2, flicker: float = 0.0,
) -> Set:  # fmt: skip
    """Frame scores that rise to ``level`` in events; with ``flicker`` they drop out at times."""
    r = np.random.default_rng(seed)
    frames: list[list[np.ndarray]] = [[] for _ in range(members)]
    events = []
    steps = round(seconds / hop)
    for _ in range(clips):
        clip, base = [], np.zeros((steps, classes))
        for k in range(classes):
            if r.random() < 0.6:
                start, length = int(r.integers(0, steps - 35)), int(r.integers(15, 30))
                base[start : start + length, k] = level
                clip.append(Event(start * hop, (start + length) * hop, f"class{k}"))
        events.append(tuple(sorted(clip)))
        for m in range(members):
            drop = r.random((steps, classes)) < flicker
            noise = 0.04 * r.normal(size=(steps, classes))
            frames[m].append(np.clip(np.where(drop, 0.0, base) + 0.05 + noise, 0, 1))
    truth = np.array([[float(any(e.label == f"class{k}" for e in clip)) for k in range(classes)]
                      for clip in events], np.float32)  # fmt: skip
    scores = np.stack([np.stack([f.max(axis=0) for f in one]) for one in frames], axis=1)
    data = members_of(scores, frames=tuple(tuple(one) for one in frames),
                      frame_hops=(hop,) * members, durations=(seconds,) * clips)  # fmt: skip
    return data, Targets.of(truth, "events", events=tuple(events))


def series(seed: int, noise: tuple[float, ...] = (0.6, 0.6, 3.0)) -> Set:
    """A regression: values [N, 2] and members with independent noise."""
    r = np.random.default_rng(seed)
    truth = r.normal(size=(400, 2))
    scores = truth[:, None] + np.array(noise)[:, None] * r.normal(size=(400, len(noise), 2))
    return members_of(scores), Targets.of(truth, "values", "pcc")


def halves(data: Set) -> tuple[Set, Set]:
    """Rows to fit on, and rows to test on."""
    members, targets = data
    first = np.arange(len(targets.folds)) % 2 == 0
    return (members.rows(first), targets.rows(first)), (members.rows(~first), targets.rows(~first))


def fitted(
    name: str, data: Set, manner: Manner | None = None, seed: int = 0, **settings: Any
) -> Learner:
    made = learner(name, learners()[name].Settings(**settings), manner)
    made.fit(*data, seed)
    return made


def in_folds(data: Set, folds: int = 3) -> Set:
    """The rows dealt to folds, and of what each fold's models say."""
    members, targets = data
    fold = np.arange(len(targets.values)) % folds
    return replace(members, fold=fold), replace(targets, folds=fold)


def fails(name: str, data: Set, why: str, manner: Manner | None = None, **more: Any) -> None:
    with pytest.raises(CannotFit, match=why):
        fitted(name, data, manner, **more)
