"""How often meta-learners claim a gain where there is none.

On sets whose members are copies of one but for noise that changes hardly a decision, each learner
is cross-fitted and judged as a run does it, alone in its table: uncorrected, p below 0.05. Chance
allows 5 %. The baseline stands beside it: the same with the sign of the truth's noise drawn at
random is what the binomial distribution says, at most 16 of 200 seeds and 4 of 20.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from measuring import run
from scipy.special import expit, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner, learners
from orchestrator.stacking.judging import LEVEL, judge
from systems.data.dataset import Event

FEW, MANY = (20, 4), (200, 16)  # seeds, and the most claims among them
COSTLY = ("genetic", "differential", "threshold_optuna", "simplex_optuna", "boosting", "svm", "mlp",
          "logreg_all", "logreg_multinomial", "annealed", "exact_events", "exact_segments",
          "genetic_events")  # fmt: skip


def copies(seed: int, kind: str) -> tuple[Members, Targets]:
    """300 clips, 5 classes, 4 members that are copies plus noise."""
    r = np.random.default_rng(seed)
    if kind == "class":
        truth = np.eye(5, dtype=np.float32)[r.integers(5, size=300)]
    else:
        truth = (r.random((300, 5)) < 0.3).astype(np.float32)
    logits = 3 * (truth - 0.5) + 1.5 * r.normal(size=(300, 5))
    one = softmax(logits, axis=1) if kind == "class" else expit(logits)
    noise = 0.002 * r.normal(size=(300, 4, 5))
    scores = np.clip(one[:, None] + noise, 1e-6, 1 - 1e-6)
    names = tuple(f"copy{m}" for m in range(4))
    members = Members(names, tuple(map(str, range(300))), tuple("abcde"), scores,
                      epochs=({e: scores[:, e % 4] for e in range(1, 13)},) * 4)  # fmt: skip
    metric = "accuracy" if kind == "class" else "clip_macro_f1"
    return members, Targets.of(truth, "class" if kind == "class" else "tags", metric)


def timed_copies(seed: int) -> tuple[Members, Targets]:
    """100 clips of 10 s, 3 classes, 3 members that are copies plus noise, with frames of 0.1 s.

    Of the events a quarter is not heard, and as many are heard that are not there: no threshold
    mends either.
    """
    r = np.random.default_rng(seed)
    heard = np.full((100, 100, 3), 0.05)
    events: list[tuple[Event, ...]] = []
    for clip in heard:
        true = []
        for k in range(3):
            start, length, case = int(r.integers(0, 70)), int(r.integers(15, 30)), r.random()
            if case < 0.6:
                true.append(Event(start / 10, (start + length) / 10, "abc"[k]))
            if case < 0.45 or 0.6 <= case < 0.75:
                clip[start : start + length, k] = 0.95
        events.append(tuple(sorted(true)))
    members = [np.clip(heard + 0.002 * r.normal(size=heard.shape), 0, 1) for _ in range(3)]
    scores = np.stack([frames.max(axis=1) for frames in members], axis=1)
    truth = np.array([[float(any(e.label == label for e in clip)) for label in "abc"]
                      for clip in events], np.float32)  # fmt: skip
    names, ids = ("copy0", "copy1", "copy2"), tuple(map(str, range(100)))
    seen = Members(names, ids, tuple("abc"), scores, frames=tuple(map(tuple, members)),
                   frame_hops=(0.1,) * 3, durations=(10.0,) * 100)  # fmt: skip
    return seen, Targets.of(truth, "events", events=tuple(events))


def claims_events(name: str, seed: int) -> bool:
    """Whether a learner of events claims a gain over the first copy's."""
    members, targets = timed_copies(seed)

    def fitted(some: Members, truth: Targets) -> object:
        made = learner(name)
        made.fit(some, truth, seed)
        return made

    crossed = cross_fitted(fitted, members, targets, seed)  # type: ignore[arg-type]
    by = learners()[name].judged_by
    assert by is not None
    judged = judge(by, targets.truth(members.classes), crossed.events, members.events_of(0))
    return judged.versus_best.p_not_better < LEVEL


def claims(name: str, seed: int) -> bool:
    """Whether a learner claims a gain over the first copy."""
    if learners()[name].judged_by is not None:
        return claims_events(name, seed)
    kind = "tags" if "tags" in learners()[name].labels else "class"
    members, targets = copies(seed, kind)

    def fitted(some: Members, truth: Targets) -> object:
        made = learner(name)
        made.fit(some, truth, seed)
        return made

    crossed = cross_fitted(fitted, members, targets, seed)  # type: ignore[arg-type]
    assert crossed.clip_scores is not None
    truth = targets.truth(members.classes)
    judged = judge(targets.metric, truth, crossed.clip_scores, members.scores[:, 0])
    return judged.versus_best.p_not_better < LEVEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two seeds each")
    parser.add_argument("--data", help="not used: the data is made")
    parser.add_argument("--only", help="these learners, by comma")
    given = parser.parse_args()
    there = {"clip_scores", "epoch_scores", "frame_scores"}
    names = [n for n, k in learners().items() if set(k.takes) <= there and k.general]
    for name in given.only.split(",") if given.only else names:
        seeds, most = FEW if name in COSTLY else MANY
        seeds = 2 if given.smoke else seeds
        began = time.perf_counter()
        count = sum(claims(name, seed) for seed in range(seeds))
        verdict = "" if count <= most else "  TOO MANY"
        print(f"FIGURE {name} claims: {count:.1f} of {seeds} (target: at most {most}), "
              f"{time.perf_counter() - began:.0f} s{verdict}", flush=True)  # fmt: skip


if __name__ == "__main__":
    run(main)
