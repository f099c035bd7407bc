"""Meta-learners against outside judges, and the honesty of the rows that they are fitted on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from orchestrator.members import OutOfFold, out_of_fold
from orchestrator.rundir import RunDir, read_json
from orchestrator.stacking.base import cross_fitted, fit_clip_learner, learner
from orchestrator.stacking.event_thresholds import LEVELS, Frames, GeneticEventThresholds
from orchestrator.stacking.genetic_thresholds import GeneticThresholds
from orchestrator.stacking.logistic_regression import LogisticPerClass
from systems.data.dataset import ClipSet, Event
from systems.data.splits import cross_fitting_folds
from systems.errors import UserError
from systems.metrics.events import event_counts, event_f1_of_counts
from systems.metrics.tagging import class_f1, f1_of_counts, macro_f1
from systems.postprocessing.decoding import mean_frames

CLASSES = ("a", "b", "c", "d")


def rows(seed: int = 0, clips: int = 200, members: int = 3) -> OutOfFold:
    r = np.random.default_rng(seed)
    targets = (r.random((clips, len(CLASSES))) < 0.3).astype(np.float32)
    noise = r.normal(size=(clips, members, len(CLASSES)))
    scores = 1 / (1 + np.exp(-(2 * targets[:, None] - 2.5 + noise)))
    ids = tuple(f"clip{i}" for i in range(clips))
    return OutOfFold(tuple(range(members)), ids, ids, scores, targets, (1,) * members)


def exact_best_macro_f1(targets: np.ndarray, scores: np.ndarray) -> float:
    """Exhaustive: macro F1 separates over classes, and only the scores themselves can be bounds."""
    best = []
    for k in range(targets.shape[1]):
        t, s = targets[:, [k]], scores[:, [k]]
        best.append(max(class_f1(t, s, bound)[0] for bound in [0.0, *s[:, 0]]))
    return float(np.mean(best))


@pytest.mark.parametrize("seed", range(5))
def test_genetic_thresholds_come_near_the_exact_optimum(seed: int) -> None:
    data = rows(seed)
    fitted = GeneticThresholds()
    fitted.fit(data.scores, data.targets, seed)
    exact = exact_best_macro_f1(data.targets, data.scores.mean(axis=1))
    reached = macro_f1(data.targets, fitted.predict(data.scores))
    assert 0.98 * exact <= reached <= exact + 1e-9


def test_genetic_thresholds_are_a_function_of_the_seed() -> None:
    data = rows()
    one, other = GeneticThresholds(), GeneticThresholds()
    one.fit(data.scores, data.targets, 3)
    other.fit(data.scores, data.targets, 3)
    assert one.state() == other.state()


def test_bent_scores_decide_at_one_half_and_keep_their_order() -> None:
    fitted = GeneticThresholds()
    fitted.load({"thresholds": [0.2, 0.9]})
    grid = np.linspace(0, 1, 101)
    scores = np.stack([grid, grid], axis=1)[:, None]
    bent = fitted.predict(scores)
    assert ((bent > 0.5) == (scores[:, 0] > [0.2, 0.9])).all()
    assert (np.diff(bent, axis=0) > 0).all()
    assert bent.min() >= 0
    assert bent.max() <= 1


def test_logistic_regression_equals_scikit_learn() -> None:
    data = rows()
    fitted = LogisticPerClass()
    fitted.fit(data.scores, data.targets, 0)
    predicted = fitted.predict(data.scores)
    for k in range(len(CLASSES)):
        features = logit(np.clip(data.scores[:, :, k], 1e-4, 1 - 1e-4))
        judge = LogisticRegression().fit(features, data.targets[:, k])
        np.testing.assert_allclose(predicted[:, k], judge.predict_proba(features)[:, 1], atol=1e-9)


def test_a_class_without_positives_keeps_the_mean_of_its_members() -> None:
    data = rows()
    data.targets[:, 1] = 0
    fitted = LogisticPerClass()
    fitted.fit(data.scores, data.targets, 0)
    assert fitted.coefficients[1].tolist() == pytest.approx([1 / 3] * 3)
    assert np.isfinite(fitted.predict(data.scores)).all()


@pytest.mark.parametrize("name", ["logreg", "genetic"])
def test_a_learner_survives_json_and_its_folder_is_whole(name: str, tmp_path: Path) -> None:
    data = rows()
    plan: Any = SimpleNamespace(classes=CLASSES, fingerprint="f", splits={"digest": "d"}, seed=0)
    run = RunDir(tmp_path)
    fit_clip_learner(name, run, plan, data)
    stored = read_json(run.stack(name) / "learner.json")
    loaded, fresh = learner(stored["name"]), learner(name)
    loaded.load(json.loads(json.dumps(stored["state"])))
    fresh.fit(data.scores, data.targets, 0)
    np.testing.assert_allclose(loaded.predict(data.scores), fresh.predict(data.scores))
    scores = read_json(run.stack(name) / "scores.json")
    assert scores["out_of_fold"]["low"] <= scores["out_of_fold"]["value"]
    assert scores["members"] == [0, 1, 2]


def test_an_unknown_learner_is_named() -> None:
    with pytest.raises(UserError, match="unknown meta-learner 'boost'"):
        learner("boost")


def test_cross_fitting_never_fits_on_the_rows_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner that remembers its rows is right on them, and knows nothing of the others."""

    class Memory(LogisticPerClass):
        def fit(self, scores: np.ndarray, targets: np.ndarray, seed: int) -> None:
            self.seen = {row.tobytes(): t for row, t in zip(scores, targets, strict=True)}

        def predict(self, scores: np.ndarray) -> np.ndarray:
            return np.stack([self.seen.get(row.tobytes(), np.full(4, -1.0)) for row in scores])

    monkeypatch.setattr("orchestrator.stacking.base.learner", lambda name: Memory())
    assert (cross_fitted("memory", rows(), seed=0) == -1).all()


def epochs_on_disk(run: RunDir, folds: list[np.ndarray], best: list[int]) -> None:
    trial = run.trial(0)
    for fold, (scores, chosen) in enumerate(zip(folds, best, strict=True)):
        trial.predictions(fold).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(trial.epoch_scores(fold), scores=scores)
        for step in range(1, len(scores) + 1):
            value = 1.0 if step == chosen else 0.0
            trial.append_metrics(fold, step, {"clip_macro_f1": value})


def job_of(targets: list[np.ndarray]) -> Any:
    clips = [
        ClipSet(tuple(f"{fold}/{i}" for i in range(len(t))), t) for fold, t in enumerate(targets)
    ]
    return SimpleNamespace(folds=tuple(SimpleNamespace(validation=c) for c in clips))


PLAN: Any = SimpleNamespace(metric="clip_macro_f1", mode="max", seed=0)


def test_with_several_folds_a_row_is_scored_by_the_other_folds_epoch(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    # Scores say which epoch they are of: epoch e gives e / 10.
    epochs = np.stack([np.full((4, 2), e / 10) for e in range(1, 6)])
    epochs_on_disk(run, [epochs] * 3, best=[1, 4, 4])
    job = job_of([np.ones((4, 2), np.float32)] * 3)
    groups = {i: i for fold in job.folds for i in fold.validation.clip_ids}
    found = out_of_fold(run, PLAN, job, [0], groups)
    assert found.scores[:, 0, 0].round(3).tolist() == [0.4] * 4 + [0.2] * 8  # round(2.5) is 2
    assert found.last_steps == (4,)


def test_with_one_fold_each_half_is_scored_by_the_other_halfs_best_epoch(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    r = np.random.default_rng(0)
    targets = (r.random((60, 3)) < 0.5).astype(np.float32)
    epochs = r.random((8, 60, 3))
    epochs_on_disk(run, [epochs], best=[1])
    job = job_of([targets])
    ids = job.folds[0].validation.clip_ids
    found = out_of_fold(run, PLAN, job, [0], {i: i for i in ids})
    used = np.array([(epochs[:, i] == found.scores[i, 0]).all(-1).argmax() for i in range(60)])
    halves = [np.flatnonzero(used == epoch) for epoch in np.unique(used)]
    assert len(halves) <= 2
    for rows_, others in zip(halves, reversed(halves), strict=True):
        values = [macro_f1(targets[others], e[others]) for e in epochs]
        assert used[rows_[0]] == int(np.argmax(values))


def timed_rows(seed: int, clips: int = 12) -> tuple[Frames, dict[str, tuple[Event, ...]]]:
    """Clips of 40 frames of 0.1 s with an event of each class, whose scores rise to a height of the
    class's own over a floor of its own: each class has levels that are right for it alone."""
    r = np.random.default_rng(seed)
    scores, truth = [], {}
    for clip in range(clips):
        frames = r.uniform(0, 0.1, (40, len(CLASSES))) + np.linspace(0.05, 0.5, len(CLASSES))
        starts = r.integers(0, 25, len(CLASSES))
        for k, start in enumerate(starts):
            frames[start : start + 10, k] += 0.3
        scores.append(frames)
        truth[f"clip{clip}"] = tuple(
            Event(0.1 * start, 0.1 * (start + 10), name)
            for start, name in zip(starts, CLASSES, strict=True)
        )
    return Frames(tuple(truth), tuple(scores), 0.1, (4.0,) * clips), truth


@pytest.mark.parametrize("seed", range(3))
def test_event_thresholds_reach_the_exact_optimum_of_their_levels(seed: int) -> None:
    frames, truth = timed_rows(seed)
    counts = np.stack([
        event_counts(
            truth,
            dict(zip(truth, frames.events((level,) * len(CLASSES), CLASSES), strict=True)),
            CLASSES,
        )
        for level in LEVELS
    ])  # fmt: skip
    exact = f1_of_counts(counts.sum(axis=1)).max(axis=0).mean()  # the classes are independent
    fitted = GeneticEventThresholds()
    fitted.fit_counts(counts, seed)
    decided = dict(zip(truth, frames.events(fitted.thresholds, CLASSES), strict=True))
    assert event_f1_of_counts(event_counts(truth, decided, CLASSES)) == pytest.approx(exact)
    plain = dict(zip(truth, frames.events((0.5,) * len(CLASSES), CLASSES), strict=True))
    assert event_f1_of_counts(event_counts(truth, plain, CLASSES)) < 0.7 < exact


def test_mean_frames_of_two_hops_lie_on_the_finer_one() -> None:
    coarse = np.array([[0.0], [1.0]])  # 0.2 s a frame
    fine = np.array([[0.2], [0.4], [0.6], [0.8]])
    mean, hop = mean_frames([coarse, fine], [0.2, 0.1])
    assert hop == 0.1
    np.testing.assert_allclose(mean[:, 0], [0.1, 0.2, 0.8, 0.9])


def test_cross_fitting_takes_as_many_folds_as_there_are_groups() -> None:
    targets = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    three = cross_fitting_folds(targets, [str(row // 4) for row in range(12)], seed=0)
    assert len(set(three)) == 3
    assert all(len(set(three[start : start + 4])) == 1 for start in (0, 4, 8)), "a group is split"
    one = cross_fitting_folds(targets, ["all"] * 12, seed=0, most=2)
    assert sorted(np.bincount(one)) == [6, 6]
