"""Stage two against plain implementations, run beside it in the same process.

- Exact event-level thresholds: 288 clips x 10 classes x 240 frames, against searching with one call
  of ``sed_eval`` a threshold; the genetic search on the counts of all thresholds, against the same
  search driven by ``sed_eval``; and which share of the exact optimum it reaches.
- Ensemble selection over 200 members x 10,000 clips x 41 classes, against a round that scores
  every candidate on every row.
- Logistic regression per class over 50 members x 10,000 clips (41 classes), against scikit-learn's
  default solver in a loop.

What the plain way would take is measured on a part of its work and scaled, as the table says.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from measuring import ratio, row, run
from scipy.special import expit, logit

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learners.event_thresholds import Curves, ExactEvents, Joint, worth_of
from orchestrator.stacking.learners.evolution import Evolution, evolve
from orchestrator.stacking.learners.logistic_regression import LogisticPerClass
from orchestrator.stacking.learners.selection import MacroF1, Plain, Rounds, select
from systems.data.dataset import Event
from systems.metrics.events import event_counts
from systems.metrics.tagging import macro_f1_of_counts
from systems.postprocessing.decoding import decode

GIB = 2**30


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    found = function()
    return time.perf_counter() - began, found


def names(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"{kind}{i}" for i in range(count))


def clips_with_events(clips: int, classes: int, frames: int) -> tuple[Members, Targets]:
    """Smooth frame scores of clips of 10 s that rise, unlike in height, around their events."""
    r = np.random.default_rng(0)
    hop, window = 10.0 / frames, np.ones(9) / 9
    scores, events = [], []
    for _ in range(clips):
        noise = r.normal(size=(frames, classes))
        logits = np.apply_along_axis(np.convolve, 0, noise, window, "same") - 2
        clip = []
        for k in np.flatnonzero(r.random(classes) < 0.25):
            start, length = int(r.integers(0, frames * 3 // 4)), int(r.integers(8, frames // 4))
            logits[start : start + length, k] += r.uniform(0.5, 3)
            clip.append(Event(start * hop, (start + length) * hop, f"class{k}"))
        scores.append(expit(logits))
        events.append(tuple(clip))
    data = Members(
        ("one",), names("clip", clips), names("class", classes), np.zeros((clips, 1, classes)),
        frames=(tuple(scores),), frame_hops=(hop,), durations=(10.0,) * clips,
    )  # fmt: skip
    return data, Targets.of(np.zeros((clips, classes)), "events", events=tuple(events))


def by_sed_eval(data: Members, truth: Targets, joint: Joint, genes: Any) -> float:
    """The worth of genes as ``sed_eval`` counts it."""
    frames, hop = data.mean_frames()
    decoding = joint.decoding(genes)
    found = {i: decode(f, decoding, data.classes, hop, s)
             for i, f, s in zip(data.clip_ids, frames, data.durations, strict=True)}  # fmt: skip
    assert truth.events is not None
    reference = dict(zip(data.clip_ids, truth.events, strict=True))
    return worth_of(event_counts(reference, found, data.classes), "event_f1")


def event_thresholds(given: argparse.Namespace) -> None:
    data, truth = clips_with_events(given.event_clips, 10, 240)
    ExactEvents().fit(*clips_with_events(4, 2, 60), 0)  # compiled once, then kept on disk
    exact = ExactEvents()
    seconds, _ = timed(lambda: exact.fit(data, truth, 0))
    curves = Curves(data, truth, [(1, 0.0, 0.0)])
    joint = Joint(curves, "event_f1")
    best = macro_f1_of_counts(
        np.array([curves.of(k, 0).at(t) for k, t in enumerate(exact.decoding.thresholds)])[None]
    )
    call, _ = timed(lambda: by_sed_eval(data, truth, joint, joint.first))
    levels = 19  # a grid of 0.05, far from exact
    row("exact event thresholds, all of them", f"{seconds:.2f} s")
    row("sed_eval, one threshold for each class", f"{call:.2f} s")
    row(f"sed_eval, a grid of {levels} (scaled)", f"{levels * call:.1f} s")
    print(f"FIGURE exact event thresholds: {seconds:.2f} s (target: at most 2)")
    ratio(f"exact thresholds over a grid of {levels} by sed_eval", seconds / (levels * call))
    plain = [0.5] * 20
    settings = Evolution(generations=given.generations)
    reached, spent, calls = [], [], 0
    for seed in range(given.seeds):
        counter = [0]

        def worth(genes: Any, counter: list[int] = counter) -> float:
            counter[0] += 1
            return joint.worth(genes)

        took, genes = timed(partial(evolve, worth, plain, settings, seed))
        reached.append(joint.worth(genes) / best)
        spent.append(took)
        calls = counter[0]
    row(f"genetic, {calls} candidates", f"{np.median(spent):.2f} s")
    row("genetic by sed_eval (scaled from one call)", f"{calls * call / 60:.0f} min")
    print(f"FIGURE least share of the exact optimum in {given.seeds} seeds: {min(reached):.4f} "
          "(target: at least 0.995)")  # fmt: skip
    ratio("genetic over exact", float(np.median(spent)) / seconds)
    ratio("genetic over the same by sed_eval", float(np.median(spent)) / (calls * call))


def selection(given: argparse.Namespace) -> None:
    members, clips, classes = given.members, given.clips, 41
    r = np.random.default_rng(0)
    truth = (r.random((clips, classes)) < 0.1).astype(np.float32)
    scores = np.empty((clips, members, classes), np.float32)
    for m in range(members):
        noise = r.normal(size=(clips, classes)).astype(np.float32)
        scores[:, m] = expit(3 * (truth - 0.5) + (1.5 + 2 * m / members) * noise)
    targets, bag = Targets.of(truth), np.arange(members)
    seconds, picked = timed(lambda: select(scores, targets, bag, Rounds()))
    few = np.arange(min(members, 10))
    plain = Plain(scores[:, few], targets)
    plain.add(0)
    round_, worth = timed(plain.worth)
    quick = MacroF1(scores, truth, few)
    quick.add(0)
    assert np.allclose(quick.worth(), worth)
    whole = round_ * members / len(few) * len(picked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row(f"selection, {len(picked)} rounds over {members} members", f"{seconds:.2f} s")
    row("every candidate on every row (scaled)", f"{whole:.0f} s")
    print(f"FIGURE ensemble selection: {seconds:.2f} s (target: at most 10)")
    print(f"FIGURE peak memory of the process, scores included: {peak / GIB:.2f} GiB "
          "(target: below 4)")  # fmt: skip
    ratio("selection over plain rounds", seconds / whole)


def regression(given: argparse.Namespace) -> None:
    from sklearn.linear_model import LogisticRegression

    members, clips, classes = 50, given.clips, 41
    r = np.random.default_rng(0)
    truth = (r.random((clips, classes)) < 0.1).astype(np.float32)
    noise = r.normal(size=(clips, members, classes))
    data = Members(names("m", members), names("c", clips), names("k", classes),
                   expit(0.4 * (truth[:, None] - 0.5) + noise - 1))  # fmt: skip
    ours = LogisticPerClass()
    seconds, _ = timed(lambda: ours.fit(data, Targets.of(truth), 0))

    def plain() -> np.ndarray:
        found = []
        for k in range(classes):
            x = logit(np.clip(data.scores[:, :, k], 1e-4, 1 - 1e-4))
            found.append(LogisticRegression(max_iter=1000).fit(x, truth[:, k]).coef_[0])
        return np.array(found)

    theirs, coefficients = timed(plain)
    assert np.abs(coefficients - ours.coefficients).max() < 0.1  # the default solver stops early
    row(f"logistic regression, {classes} classes, {members} members", f"{seconds:.2f} s")
    row("scikit-learn's default solver in a loop", f"{theirs:.2f} s")
    print(f"FIGURE logistic regression per class: {seconds:.2f} s (target: at most 30)")
    ratio("regression over scikit-learn's loop", seconds / theirs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="only show that it runs")
    parser.add_argument("--data", help="not used: the data is made")
    given = parser.parse_args()
    sizes = {"event_clips": 288, "generations": 150, "seeds": 20, "members": 200, "clips": 10_000}
    small = {"event_clips": 8, "generations": 3, "seeds": 2, "members": 6, "clips": 300}
    vars(given).update(small if given.smoke else sizes)
    event_thresholds(given)
    selection(given)
    regression(given)


if __name__ == "__main__":
    run(main)
