"""How often stage two claims a gain where there is none, and where there is one.

Four experiments, with members that are made (no network is trained): what is judged is the way from
members to a claim, with the metric that ships for each kind of labels.

- ``copies``: members are copies of one but for noise that changes hardly a decision. Each learner
  alone in its table, uncorrected: chance allows 5 %.
- ``noise``: labels are random, and members say the share that their fold trained on, and noise. All
  learners of ``standard`` in one table, corrected by Holm: a table with a claim is counted.
- ``groups``: labels of the group alone, members as in ``noise``: each learner's AUC out of fold.
- ``gain``: members err independently: here a claim is right.

``before`` is the rule of the first version: better than the member that the search put first, p
alone, with nothing to clear and learners that see the folds' levels.
The bound of 5 % of 20 is 4 claims, of 200 it is 16 (one-sided 99 % and 98 % of the binomial).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from measuring import run
from scipy.special import expit, softmax

from orchestrator.members.seen import Members, Targets, answer
from orchestrator.members.trivial import TrivialRows
from orchestrator.plan.stage import Manner
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learner, learners
from orchestrator.stacking.judging import LEVEL, Judgement, compared, judge
from orchestrator.stacking.learner import Learner
from systems.data.dataset import Clip, Dataset, Event, Labels
from systems.data.splits import Splits, make_splits
from systems.errors import UserError
from systems.kinds import KINDS
from systems.metrics import metric
from systems.predictions import Predictions

FEW, MANY = (20, 4), (200, 16)  # seeds, and the most claims among them
COSTLY = ("genetic", "simplex_optuna", "boosting", "svm", "mlp",
          "logreg_all", "logreg_multinomial", "logreg_pca", "annealed", "exact_events",
          "exact_segments", "genetic_events", "fusion_layer", "multiclass_calibration",
          "class_weights", "dirichlet", "selection", "fold_weights")  # fmt: skip
NOISE = ("tags", "class", "events", "values")
SECONDS, HOP = 10.0, 0.1

Set = tuple[Members, Targets, TrivialRows]


def split(kind: str, seed: int, clips: int, groups: int | None) -> tuple[Dataset, Any, Splits]:
    """The first of such sets whose every fold can train every class; its truth and its splits."""
    for attempt in itertools.count():
        dataset, truth = made(kind, (seed, attempt), clips, groups)
        with contextlib.suppress(UserError):
            return dataset, truth, make_splits(dataset, seed)
    raise AssertionError


def made(
    kind: str, seed: tuple[int, int], clips: int, groups: int | None = None
) -> tuple[Dataset, Any]:
    """Labels of a kind that follow nothing but, where asked for, the clip's group; the truth."""
    r = np.random.default_rng(seed)
    of = np.arange(clips) if groups is None else np.arange(clips) % groups
    count, names = len(set(of)), np.array(list("abc"))
    values: list[Any]
    if kind == "class":
        truth = np.eye(3)[r.choice(3, count, p=[0.5, 0.3, 0.2])][of]
        values = [names[row.argmax()] for row in truth]
    elif kind == "values":
        truth = r.normal(1.0, 1.0, size=(count, 1))[of]
        values = [tuple(row) for row in truth]
    else:
        truth = (r.random((count, 3)) < 0.45)[of].astype(float)
        values = [tuple(names[row > 0.5]) for row in truth]
    if kind == "events":
        starts = r.uniform(0, 7, size=truth.shape)
        values = [tuple(sorted(Event(round(s, 1), round(s, 1) + 2.0, n)
                               for n, s in zip(names[row > 0.5], at[row > 0.5], strict=True)))
                  for row, at in zip(truth, starts, strict=True)]  # fmt: skip
    ids = [f"clip{n}" for n in range(clips)]
    about = tuple(Clip(i, "train", "labelled", f"g{g}", SECONDS)
                  for i, g in zip(ids, of, strict=True))  # fmt: skip
    labels = Labels(kind, dict(zip(ids, values, strict=True)))  # type: ignore[arg-type]
    classes = ("y",) if kind == "values" else tuple("abc")
    silent: Any = None  # nothing is heard of it
    parts = {"train": labels}
    return Dataset("made", "any", classes, about, parts, {}, {}, silent, test_part=None), truth


def unheard(
    kind: str, seed: int, *, clips: int = 150, groups: int | None = None, by: str | None = None,
    count: int = 4, signal: float = 0.0,
) -> Set:  # fmt: skip
    """Members that say the share (the mean) that their fold trained on, noise, and a signal."""
    dataset, truth, splits = split(kind, seed, clips, groups)
    r = np.random.default_rng([seed, 1])
    ids = [clip.clip_id for clip in dataset.clips]
    place = {clip_id: row for row, clip_id in enumerate(ids)}
    prior, fold_of = np.zeros(truth.shape), np.zeros(clips, int)
    for number, fold in enumerate(splits.folds):
        rows = [place[i] for i in fold.validation]
        prior[rows] = truth[[place[i] for i in fold.train]].mean(axis=0)
        fold_of[rows] = number
    noise = r.normal(size=(clips, count, truth.shape[1]))
    if kind == "values":
        scores = prior[:, None] + 0.2 * noise + signal * (truth[:, None] + noise)
    else:
        share = prior.clip(0.02, 0.98)
        raw = np.log(share) if kind == "class" else np.log(share / (1 - share))
        scores = raw[:, None] + 0.3 * noise + signal * (truth[:, None] - 0.5 + 0.6 * noise)
        scores = softmax(scores, axis=2) if kind == "class" else expit(scores)
    order = [place[i] for fold in splits.folds for i in fold.validation]
    seen: dict[str, Any] = {}
    if kind == "events":
        seen = bursts(r, truth[order], count)
    members = Members(
        tuple(f"member{m}" for m in range(count)), tuple(ids[row] for row in order),
        dataset.classes, scores[order], fold=fold_of[order], labels=kind,  # type: ignore[arg-type]
        durations=(SECONDS,) * clips, **seen,
    )  # fmt: skip
    name = by or KINDS[kind].metrics[0]
    labels, group = dataset.labels["train"], {c.clip_id: c.group for c in dataset.clips}
    told = KINDS[kind].truth(labels, members.clip_ids, dataset.classes)
    targets = Targets.of(
        told.values, kind, name, groups=tuple(group[i] for i in members.clip_ids),  # type: ignore[arg-type]
        folds=members.fold, fold_count=len(splits.folds), events=told.events,
    )  # fmt: skip
    return members, targets, TrivialRows(dataset, splits)


def bursts(r: np.random.Generator, truth: np.ndarray, count: int) -> dict[str, Any]:
    """Frames that rise anywhere, as often as there are events."""
    steps, members = round(SECONDS / HOP), []
    for _ in range(count):
        clips = []
        for _ in truth:
            frames = 0.3 + 0.05 * r.normal(size=(steps, truth.shape[1]))
            for k in np.flatnonzero(r.random(truth.shape[1]) < truth.mean()):
                start = int(r.integers(0, steps - 20))
                frames[start : start + 20, k] += 0.3
            clips.append(np.clip(frames, 0, 1))
        members.append(tuple(clips))
    return {"frames": tuple(members), "frame_hops": (HOP,) * count}


def copied(kind: str, seed: int) -> Set:
    """Copies of one good member but for noise that changes hardly a decision."""
    signal = 1.0 if kind == "values" else 3.0
    members, targets, trivial = unheard(kind, seed, clips=300, count=1, signal=signal)
    r = np.random.default_rng([seed, 2])
    few = min(len(targets.folds), 100) if kind == "events" else len(targets.folds)
    some = np.arange(few)
    members, targets = members.rows(some), targets.rows(some)
    size = 0.002 * r.normal(size=(few, 4, members.scores.shape[2]))
    scores = members.scores + size
    if kind != "values":
        scores = np.clip(scores, 1e-6, 1 - 1e-6)
    frames = None
    if members.frames is not None and members.frames[0] is not None:
        heard = heard_frames(r, targets)
        frames = tuple(tuple(np.clip(f + 0.002 * r.normal(size=f.shape), 0, 1) for f in heard)
                       for _ in range(4))  # fmt: skip
    whole = replace(
        members.only([0] * 4), scores=scores, frames=frames,
        epochs=tuple({e: scores[:, (m + e) % 4] for e in range(1, 13)} for m in range(4)),
    )  # fmt: skip
    return whole, targets, trivial


def heard_frames(r: np.random.Generator, targets: Targets) -> list[np.ndarray]:
    """Frames of events, of which a quarter is not heard; as many are heard that are not there."""
    heard, steps = [], round(SECONDS / HOP)
    assert targets.events is not None
    for clip in targets.events:
        frames = np.full((steps, 3), 0.05)
        for event in clip:
            if r.random() < 0.75:
                rows = slice(round(event.onset / HOP), round(event.offset / HOP))
                frames[rows, "abc".index(event.label)] = 0.95
        for k in np.flatnonzero(r.random(3) < 0.1):
            start = int(r.integers(0, steps - 20))
            frames[start : start + 20, k] = 0.95
        heard.append(frames)
    return heard


def crossed(
    name: str, data: Set, seed: int, manner: Manner | None, places: list[int]
) -> Predictions:
    """What a learner over some of the members says, cross-fitted."""
    members, targets, _ = data

    def fitted(some: Members, truth: Targets) -> Learner:
        one = learner(name, None, manner)
        one.fit(some, truth, seed)
        return one

    return cross_fitted(fitted, members.only(places), targets, seed)


def judged(name: str, data: Set, seed: int, before: bool) -> Judgement:
    """A learner's gain by today's rule, or by the first version's."""
    members, targets, trivial = data
    about, every = learners()[name], list(range(len(members.names)))
    by = about.judged_by or targets.metric
    truth = targets.truth(members.classes)

    def said(one: Predictions) -> Any:
        return one.events if about.judged_by else answer(one, targets.kind)

    def own(member: int) -> Any:
        return members.events_of(member) if about.judged_by else members.scores[:, member]

    ours = crossed(name, data, seed, None if before else Manner(), every)
    if before:
        return judge(by, truth, said(ours), own(0), targets.groups)
    best = max(every, key=lambda m: metric(by).worth(truth, own(m)))
    alone = crossed(name, data, seed, Manner(), [best]) if about.betters_one else None
    unheard_of = trivial.out_of_fold(by)
    rows = {i: row for row, i in enumerate(unheard_of.said.clip_ids)}
    nothing = unheard_of.said.rows([rows[i] for i in members.clip_ids])
    return judge(
        by, truth, said(ours), own(best), targets.groups,
        alone=None if alone is None else said(alone), betters_one=about.betters_one,
        trivial=said(nothing),
    )  # fmt: skip


def names_of(kind: str, standard: bool) -> list[str]:
    """The learners that labels of a kind and these members can fit."""
    there = {"clip_scores", "frame_scores"} | ({"epoch_scores"} if not standard else set())
    if kind != "events":
        there -= {"frame_scores"}
    return [n for n, one in learners().items()
            if kind in one.labels and set(one.takes) <= there and one.general
            and (one.standard or not standard)]  # fmt: skip


def claims(data: Set, names: list[str], seed: int, before: bool) -> list[str]:
    """The learners of one table whose gain is claimed."""
    table = {name: judged(name, data, seed, before) for name in names}
    return [name for name, row in compared(table).items() if row["claims"]]


def copies(given: argparse.Namespace) -> Iterator[str]:
    for kind in given.kinds.split(","):
        for name in names_of(kind, standard=False):
            if (given.only and name not in given.only.split(",")) or (
                kind == "events" and learners()[name].judged_by is None
            ):  # of events the tags are judged as tags are
                continue
            seeds, most = FEW if name in COSTLY else MANY
            seeds = 2 if given.smoke else seeds
            found = sum(judged(name, copied(kind, s), s, before=False).p < LEVEL
                        for s in range(seeds))  # fmt: skip
            yield f"{kind} {name} claims: {found} of {seeds} (target: at most {most})"


def tables(
    given: argparse.Namespace, label: str, target: str, make: Callable[[str, int], Set],
    kinds: tuple[str, ...] = NOISE,
) -> Iterator[str]:  # fmt: skip
    for kind in kinds:
        names = names_of(kind, standard=True)
        seeds = 1 if given.smoke else FEW[0]
        for before in (True, False):
            found = [claims(make(kind, s), names, s, before) for s in range(seeds)]
            who = {n: sum(n in one for one in found) for n in names if any(n in x for x in found)}
            rule = "before" if before else "now"
            told = f"tables with a claim: {sum(map(bool, found))} of {seeds} ({target})"
            yield f"{label} {kind}, {rule}, {told} {who}"


def noise(given: argparse.Namespace) -> Iterator[str]:
    clips = {"events": 60}
    yield from tables(given, "noise", "target: at most 4",
                      lambda kind, s: unheard(kind, s, clips=clips.get(kind, 150)))  # fmt: skip


def gain(given: argparse.Namespace) -> Iterator[str]:
    yield from tables(given, "gain", "a claim is right",
                      lambda kind, s: unheard(kind, s, clips=120, signal=2.0),
                      ("tags", "class", "values"))  # fmt: skip


def groups(given: argparse.Namespace) -> Iterator[str]:
    from sklearn.metrics import roc_auc_score

    for kind in ("tags", "class"):
        names = names_of(kind, standard=True)
        for count in (10, 20, 60):
            for before in (True, False):
                values: dict[str, list[float]] = {name: [] for name in names}
                for seed in range(1 if given.smoke else FEW[0]):
                    data = unheard(kind, seed, clips=240, groups=count, by="clip_auc")
                    truth = data[1].values
                    some = [k for k in range(3) if 0 < truth[:, k].mean() < 1]
                    for name in names:
                        said = crossed(name, data, seed, None if before else Manner(), [0, 1, 2, 3])
                        assert said.clip_scores is not None
                        aucs = [roc_auc_score(truth[:, k], said.clip_scores[:, k]) for k in some]
                        values[name].append(float(np.mean(aucs)))
                told = ", ".join(f"{n} {np.mean(v):.3f}" for n, v in values.items())
                rule = "before" if before else "now"
                yield f"groups {kind} {count}, {rule}, AUC: {told} (target: not above 0.5)"


EXPERIMENTS = {"copies": copies, "noise": noise, "groups": groups, "gain": gain}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a seed or two each")
    parser.add_argument("--data", help="not used: the data is made")
    parser.add_argument("--only", help="of the copies these learners, by comma")
    parser.add_argument("--kinds", default=",".join(NOISE), help="of the copies, by comma")
    parser.add_argument("--what", default="copies,noise,groups,gain", help="experiments, by comma")
    given = parser.parse_args()
    for what in given.what.split(","):
        began = time.perf_counter()
        for line in EXPERIMENTS[what](given):
            print(f"FIGURE {line}, {time.perf_counter() - began:.0f} s", flush=True)
            began = time.perf_counter()


if __name__ == "__main__":
    run(main)
