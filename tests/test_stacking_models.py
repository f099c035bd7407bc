"""Trees, support vector machines and small networks: against the libraries, and what is theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import stacked
from scipy.special import expit
from stacked import Set, fitted

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.families import learners, load_learner
from orchestrator.stacking.learners.embeddings import frames_side_by_side
from systems.errors import UserError

NAMES = ("boosting", "svm", "svm_embeddings", "mlp", "mlp_embeddings", "lstm")
QUICK: dict[str, dict[str, Any]] = {
    "boosting": {"n_estimators": 20}, "svm": {}, "svm_embeddings": {},
    "mlp": {"epochs": 3}, "mlp_embeddings": {"epochs": 3}, "lstm": {"epochs": 2, "hidden": (8,)},
}  # fmt: skip


def small(kind: str = "tags", clips: int = 40, classes: int = 3, members: int = 2) -> Set:
    """All kinds of inputs; clips of several lengths, members with frames at two rates."""
    r = np.random.default_rng(1)
    data, truth = stacked.noisy(0, clips=clips, classes=classes, members=members, kind=kind)
    lengths = r.integers(3, 9, clips)
    return replace(
        data,
        columns=r.normal(size=(clips, 4)),
        embeddings=tuple(r.normal(size=(clips, 5)) for _ in range(members)),
        frame_embeddings=tuple(
            tuple(r.normal(size=((1 + m) * t, 2)) for t in lengths) for m in range(members)
        ),
    ), truth


def entropy(scores: np.ndarray, truth: np.ndarray) -> float:
    p = np.clip(scores, 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


# Each against the best member of the other half


def gated_class(seed: int) -> Set:
    """One class a clip; a statistic tells which of two members to believe."""
    data, truth = stacked.noisy(seed, 0.7, members=2, clips=800, kind="class")
    r = np.random.default_rng([seed, 7])
    first = r.random(800) < 0.5
    scores = data.scores.copy()
    for m, wrong in ((0, ~first), (1, first)):
        scores[wrong, m] = r.dirichlet(np.ones(5), wrong.sum())
    statistics = np.where(first, 1.0, -1.0)[:, None] + 0.2 * r.normal(size=(800, 1))
    return replace(data, scores=scores, columns=statistics), truth


def embedded_class(seed: int) -> Set:
    data, truth = stacked.noisy(seed, 6.0, members=2, clips=600, kind="class")
    r = np.random.default_rng([seed, 8])
    mixed = truth.values @ r.normal(size=(5, 12)) + 0.5 * r.normal(size=(600, 12))
    return replace(data, embeddings=(mixed[:, :6], mixed[:, 6:])), truth


def ordered_class(seed: int) -> Set:
    """The class is the order of two members' pulses, in clips of several lengths."""
    r = np.random.default_rng([seed, 9])
    truth = np.eye(2, dtype=np.float32)[r.integers(2, size=300)]
    frames: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for row in truth:
        length = int(r.integers(8, 16))
        early, late = sorted(r.choice(length, 2, replace=False))
        for m in range(2):
            at = early if row[m] else late
            pulse = (np.arange(length) == at) + 0.1 * r.normal(size=length)
            frames[m].append(pulse[:, None])
    scores = r.dirichlet(np.ones(2), (300, 2))
    both = (tuple(frames[0]), tuple(frames[1]))
    return stacked.members_of(scores, frame_embeddings=both), Targets.of(truth, "class", "accuracy")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("boosting", gated_class), ("boosting", lambda s: stacked.crossed(s, "class")),
        ("svm", lambda s: stacked.crossed(s, "class")), ("svm_embeddings", embedded_class),
        ("mlp", lambda s: stacked.crossed(s, "class")), ("mlp_embeddings", embedded_class),
        ("lstm", ordered_class),
    ],
)  # fmt: skip
def test_exclusive_classes_are_told_better_than_by_the_best_member(
    name: str, data: Callable[[int], Set]
) -> None:
    fit, (members, targets) = stacked.halves(data(1))
    less = {"boosting": {"n_estimators": 40}, "mlp": {"epochs": 25}, "lstm": {"epochs": 20}}
    scores = fitted(name, fit, **less.get(name, {})).predict(members)
    alone = max(targets.worth(members.scores[:, m]) for m in range(2))
    assert targets.worth(scores) > max(0.85, alone + 0.1)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_trees_without_statistics_cannot_tell_which_member_to_believe() -> None:
    fit, (members, targets) = stacked.halves(stacked.gated(2))
    told = targets.worth(fitted("boosting", fit).predict(members))
    untold = fitted("boosting", fit, statistics=False)
    assert told > targets.worth(untold.predict(members)) + 0.1
    untold.predict(replace(members, columns=None))


# Against the libraries


def test_trees_of_exclusive_classes_are_one_softmax_model_of_xgboost() -> None:
    import xgboost

    members, targets = stacked.noisy(1, clips=200, kind="class")
    targets = replace(targets, weights=np.random.default_rng(0).random(200) + 0.1)
    found = fitted("boosting", (members, targets), seed=5)
    x = members.scores.reshape(200, -1)
    matrix = xgboost.DMatrix(x, targets.values.argmax(axis=1), weight=targets.weights)
    judge = xgboost.train(
        {"objective": "multi:softprob", "num_class": 5, "max_depth": 3, "eta": 0.1, "seed": 5,
         "nthread": 1},
        matrix, num_boost_round=100,
    )  # fmt: skip
    np.testing.assert_allclose(found.predict(members), judge.predict(matrix), atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "sigmoid"])
def test_machines_are_scikit_learns_on_weighted_rows(kernel: str) -> None:
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    members, targets = small(clips=80)
    assert members.embeddings is not None
    targets = replace(targets, weights=np.random.default_rng(0).random(80) + 0.1)
    found = fitted("svm_embeddings", (members, targets), C=0.5, kernel=kernel)
    x = StandardScaler().fit_transform(np.hstack(members.embeddings))
    scores = found.predict(members)
    for k in range(3):
        judge = SVC(C=0.5, kernel=kernel).fit(x, targets.values[:, k], targets.weights)
        distance = judge.decision_function(x)
        np.testing.assert_allclose(scores[:, k], expit(found.slopes[k] * distance), atol=1e-6)
        assert ((scores[:, k] > 0.5) == (judge.predict(x) > 0.5)).all()


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_machines_are_as_likely_as_platts(seed: int) -> None:
    """scikit-learn's Platt scaling may move the bound too; ours keeps it, and loses little."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    (members, targets), (other, truth) = stacked.halves(stacked.noisy(seed, 4.0, clips=400))
    x, y = (m.scores.reshape(len(m.scores), -1) for m in (members, other))
    platt = np.stack([
        CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC()), ensemble=False)
        .fit(x, targets.values[:, k]).predict_proba(y)[:, 1] for k in range(5)
    ], axis=1)  # fmt: skip
    found = fitted("svm", (members, targets))
    ours = found.predict(other)
    assert entropy(ours, truth.values) < entropy(platt, truth.values) + 0.02
    # Slopes of the rows that the machines were fitted on would be far too steep.
    seen = found.predict(members)
    assert entropy(seen, targets.values) < entropy(ours, truth.values)
    assert max(found.slopes) < 4


def test_a_network_without_hidden_interaction_reaches_logistic_regression() -> None:
    """On two plain Gaussians no classifier beats the linear one: the network comes close to it."""
    from sklearn.linear_model import LogisticRegression

    (members, targets), (other, truth) = stacked.halves(stacked.noisy(3, 2.0, clips=800))
    ours = fitted("mlp", (members, targets), epochs=20).predict(other)
    x, y = (m.scores.reshape(len(m.scores), -1) for m in (members, other))
    judge = np.stack([
        LogisticRegression().fit(x, targets.values[:, k]).predict_proba(y)[:, 1] for k in range(5)
    ], axis=1)  # fmt: skip
    assert entropy(ours, truth.values) < entropy(judge, truth.values) + 0.05


def test_networks_fit_values_of_any_scale() -> None:
    members, targets = stacked.series(1)
    large = replace(members, scores=1000 * members.scores + 5000)
    fit, (other, truth) = stacked.halves((large, replace(targets, values=1000 * targets.values)))
    found = fitted("mlp", fit).predict(other)
    error = np.sqrt(((found - truth.values) ** 2).mean())
    assert error < 600  # the best member alone: 600, its offset taken out
    assert truth.worth(found) > max(truth.worth(other.scores[:, m]) for m in range(3))


# The LSTM over time


def breath(seed: int, rate: int = 1) -> Set:
    """A slow wave [T, 1] of each clip; frame embeddings know where it moves, not where it is."""
    r = np.random.default_rng([seed, 10])
    waves = [np.sin(np.linspace(a, a + 8, int(r.integers(25, 40))))[:, None]
             for a in r.uniform(0, 6, 120)]  # fmt: skip
    frames = tuple(
        np.repeat(np.gradient(w[:, 0]), rate)[:, None] * [1.0, -1.0]
        + 0.05 * r.normal(size=(rate * len(w), 2))
        for w in waves
    )
    lengths = tuple(len(w) for w in waves)
    members = Members(
        ("member0",), tuple(f"clip{i}" for i in range(len(waves))), ("belt",),
        np.zeros((sum(lengths), 1, 1)), frame_embeddings=(frames,), lengths=lengths,
    )  # fmt: skip
    return members, Targets.of(3 + 2 * np.concatenate(waves), "series", "pcc", lengths=lengths)


@pytest.mark.parametrize("rate", [1, 2])
def test_an_lstm_follows_a_series_that_no_single_frame_shows(rate: int) -> None:
    fit, (members, targets) = stacked.halves(breath(0, rate))
    found = fitted("lstm", fit, hidden=(32,), epochs=50, learning_rate=1e-2, dropout=0.0)
    assert members.frame_embeddings is not None
    said, truth = found.predict(members), targets.values
    assert said.shape == truth.shape
    frames = np.concatenate([one[::rate] for one in members.frame_embeddings[0]])
    reached = np.corrcoef(said[:, 0], truth[:, 0])[0, 1]
    least = np.linalg.lstsq(np.c_[frames, np.ones(len(frames))], truth[:, 0], rcond=None)[0]
    linear = np.corrcoef(np.c_[frames, np.ones(len(frames))] @ least, truth[:, 0])[0, 1]
    assert reached > max(0.8, linear + 0.2)
    assert abs(said.mean() - truth.mean()) < 0.3, "values are on their own scale"
    alone = found.predict(members.rows(np.array([3])))
    np.testing.assert_allclose(alone, members.by_clip(said)[3], atol=1e-6)


def test_what_a_clip_is_does_not_depend_on_longer_clips_beside_it() -> None:
    members, targets = small(clips=30)
    found = fitted("lstm", (members, targets), **QUICK["lstm"])
    together = found.predict(members)
    for row in (0, 7, 29):
        np.testing.assert_array_equal(found.predict(members.rows(np.array([row]))),
                                      together[[row]])  # fmt: skip


@pytest.mark.parametrize("kind", ["tags", "class", "values"])
@pytest.mark.parametrize("over_time", [False, True])
def test_clips_of_several_lengths_cost_in_a_batch_what_they_cost_alone(
    kind: str, over_time: bool
) -> None:
    import torch

    from orchestrator.stacking.learners.networks import RecurrentNet, _loss, _losses, _recurrent

    torch_rows = torch.Generator().manual_seed(0)
    network = _recurrent(2, 3, RecurrentNet(hidden=(4,), dropout=0.0))
    rows = [torch.randn(length, 2, generator=torch_rows) for length in (3, 6, 4)]
    truth = [torch.rand(len(row) if over_time else 1, 3, generator=torch_rows) for row in rows]
    with torch.inference_mode():
        each = _losses(network, rows, truth, _loss(kind))
        alone = [_losses(network, [a], [b], _loss(kind)) for a, b in zip(rows, truth, strict=True)]
    np.testing.assert_allclose(each, torch.cat(alone), rtol=1e-5)


def test_frame_embeddings_of_two_rates_lie_side_by_side_at_the_coarser() -> None:
    slow, fast = np.arange(4.0)[:, None], np.arange(8.0)[:, None]
    members = stacked.members_of(np.zeros((1, 2, 1)), frame_embeddings=((slow,), (fast,)))
    assert frames_side_by_side(members)[0].tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]


# Files, seeds, edges


@pytest.mark.parametrize("kind", ["tags", "class"])
@pytest.mark.parametrize("name", NAMES)
def test_exclusive_and_other_classes_come_back_from_a_folder(
    name: str, kind: str, tmp_path: Path
) -> None:
    import torch

    members, targets = small(kind)
    found = fitted(name, (members, targets), **QUICK[name])
    found.save(tmp_path)
    state = torch.random.get_rng_state()
    loaded = load_learner(tmp_path)
    assert (torch.random.get_rng_state() == state).all()
    np.testing.assert_array_equal(loaded.predict(members), found.predict(members))
    assert not list(tmp_path.glob("*.pkl"))
    json.loads((tmp_path / "learner.json").read_text())


@pytest.mark.parametrize("name", ["mlp", "mlp_embeddings", "lstm"])
def test_networks_leave_torch_as_it_was(name: str) -> None:
    import torch

    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(before + 1)
    data = small()
    one = fitted(name, data, seed=1, **QUICK[name]).predict(data[0])
    torch.rand(3)
    again = fitted(name, data, seed=1, **QUICK[name]).predict(data[0])
    other = fitted(name, data, seed=2, **QUICK[name]).predict(data[0])
    assert (one == again).all()
    assert (one != other).any()
    torch.random.set_rng_state(state)
    fitted(name, data, seed=1, **QUICK[name]).predict(data[0])
    assert (torch.random.get_rng_state() == state).all()
    threads = torch.get_num_threads()
    torch.set_num_threads(before)
    assert threads == before + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_tag_that_never_or_always_is_there_keeps_its_members_mean(name: str) -> None:
    members, targets = small()
    targets.values[:, 0], targets.values[:, 1] = 0, 1
    scores = fitted(name, (members, targets), **QUICK[name]).predict(members)
    np.testing.assert_array_equal(scores[:, :2], members.scores.mean(axis=1)[:, :2])
    assert (scores[:, 2] != members.scores.mean(axis=1)[:, 2]).any()


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_no_weight_teach_nothing(name: str) -> None:
    members, targets = small("class", clips=60)
    values = targets.values.copy()
    values[:20] = [1, 0, 0]  # the only rows of their class
    values[20:] = np.eye(3)[1 + np.arange(40) % 2]
    weights = np.r_[np.zeros(20), np.ones(40)]
    weighted = replace(targets, values=values, weights=weights)
    scores = fitted(name, (members, weighted), **QUICK[name]).predict(members)
    assert np.isfinite(scores).all()
    if name in ("mlp", "mlp_embeddings", "lstm"):
        other = replace(weighted, values=np.r_[values[20:40], values[20:]])
        again = fitted(name, (members, other), **QUICK[name]).predict(members)
        np.testing.assert_array_equal(scores, again)
    if name in ("boosting", "svm", "svm_embeddings"):
        assert (scores[:, 0] == 0).all()
    if name == "boosting":
        rest = np.arange(60) >= 20
        alone = fitted(name, (members.rows(rest), weighted.rows(rest)), **QUICK[name])
        np.testing.assert_allclose(scores, alone.predict(members), atol=1e-6)


@pytest.mark.parametrize("kind", ["tags", "class"])
@pytest.mark.parametrize("name", NAMES)
def test_one_member_and_two_rows_are_enough(name: str, kind: str) -> None:
    members, targets = small(kind, clips=2, members=1)
    targets = replace(targets, values=np.array([[1, 0, 0], [0, 1, 0]], np.float32))
    for values in (targets.values, targets.values[[0, 0]]):
        found = fitted(name, (members, replace(targets, values=values)), **QUICK[name])
        scores = found.predict(members)
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1


@pytest.mark.parametrize("name", ["svm_embeddings", "mlp_embeddings", "lstm"])
def test_embeddings_that_are_not_there_are_named(name: str) -> None:
    members, targets = small()
    found = fitted(name, (members, targets), **QUICK[name])
    with pytest.raises(UserError, match=r"needs the members' (clip|frame) embeddings"):
        found.predict(stacked.members_of(members.scores))


def test_a_column_that_never_changed_in_the_fit_does_not_explode() -> None:
    members, targets = small()
    assert members.embeddings is not None
    dead = np.zeros((40, 5))
    fit = replace(members, embeddings=(members.embeddings[0], dead))
    found = fitted("mlp_embeddings", (fit, targets), **QUICK["mlp_embeddings"])
    alive = replace(members, embeddings=(members.embeddings[0], dead + 1e-3))
    np.testing.assert_allclose(found.predict(alive), found.predict(fit), atol=0.01)


def test_a_file_of_machines_that_names_other_code_is_refused(tmp_path: Path) -> None:
    fitted("svm", small()).save(tmp_path)
    path = tmp_path / "machines.skops"
    skops.io.dump([UserError], path)  # what no machine of ours is made of
    with pytest.raises(UserError, match=r"UserError.*not loaded"):
        load_learner(tmp_path)
    path.write_bytes(b"no file of skops")
    with pytest.raises(UserError, match="cannot be read"):
        load_learner(tmp_path)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("boosting", {"max_depth": 0}), ("boosting", {"learning_rate": 0.0}),
        ("svm", {"C": 0.0}), ("svm", {"C": float("nan")}),
        ("mlp", {"hidden": ()}), ("mlp", {"hidden": (0,)}), ("mlp", {"dropout": 1.0}),
        ("mlp", {"learning_rate": float("nan")}), ("lstm", {"epochs": 0}),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"least|above"):
        learners()[name].Settings(**wrong)
