"""What every meta-learner does: win where its idea must, keep its word, come back from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stacked
from stacked import Set

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.families import learner, learners, load_learner
from orchestrator.stacking.judging import judge
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.event_thresholds import FrameLearner
from systems.metrics import metric

# Where each idea must win: the learner, fitted on half of the rows, against the best member on the
# other half.
WINS: dict[str, Callable[[int], Set]] = {
    "mean": stacked.noisy,
    "geometric": stacked.noisy,
    "power": stacked.noisy,
    "rank_mean": stacked.miscalibrated,
    "rank_best_folds": lambda seed: stacked.noisy(seed, kind="class"),
    "vote": lambda seed: stacked.noisy(seed, 2.0, members=5),
    "k_of_n": lambda seed: stacked.noisy(seed, 2.0, members=3),
    "vote_chosen": lambda seed: stacked.noisy(seed, [1.8, 1.8, 1.8, 9.0, 9.0], members=5),
    "snapshot_mean": stacked.epochs,
    "snapshot_vote": stacked.epochs,
    "dirichlet": stacked.one_good,
    "simplex": stacked.one_good,
    "simplex_optuna": stacked.one_good,
    "fold_weights": stacked.one_good,
    "selection": stacked.one_good,
    "logreg": stacked.miscalibrated,
    "logreg_all": stacked.miscalibrated,
    "logreg_multinomial": lambda seed: stacked.miscalibrated(seed, "class"),
    "logreg_pca": lambda seed: stacked.noisy(seed, 3.0, members=8),
    "multiclass_calibration": lambda seed: stacked.miscalibrated(seed, "class"),
    "class_choice": stacked.class_strengths,
    "class_weights": stacked.class_strengths,
    "domain_choice": stacked.domains,
    "fusion_layer": stacked.miscalibrated,
    "exact": stacked.high_bounds,
    "genetic": stacked.high_bounds,
    "annealed": stacked.bounds_near_half,
    "exact_events": stacked.timed,
    "exact_segments": stacked.timed,
    "genetic_events": lambda seed: stacked.timed(seed, flicker=0.05, level=0.4),
    "boosting": stacked.gated,
    "svm": stacked.crossed,
    "svm_embeddings": stacked.embedded,
    "mlp": stacked.crossed,
    "mlp_embeddings": stacked.embedded,
    "lstm": stacked.ordered,
}
SLOW = (
    "annealed",
    "mlp",
    "mlp_embeddings",
    "lstm",
    "boosting",
    "svm",
)
EVERY = [pytest.param(name, marks=[pytest.mark.all] if name in SLOW else []) for name in WINS]
FEW: dict[str, dict[str, Any]] = {
    "simplex_optuna": {"trials": 40},
    "domain_choice": {"column": "domain"},
}  # fmt: skip


def made(name: str) -> Learner:
    kind = learners()[name]
    return learner(name, kind.Settings(**FEW.get(name, {})))


def fitted(name: str, members: Members, targets: Targets, seed: int = 0) -> Learner:
    found = made(name)
    found.fit(members, targets, seed)
    return found


def decided(found: Learner, members: Members) -> np.ndarray:
    return found.predict(members)


def test_every_learner_has_a_set_on_which_it_must_win() -> None:
    assert set(WINS) == set(learners())


@pytest.mark.parametrize("name", WINS)
def test_a_learner_beats_the_best_member_on_other_rows(name: str) -> None:
    fit, test = stacked.halves(WINS[name](0))
    found = fitted(name, *fit)
    members, targets = test
    if isinstance(found, FrameLearner):
        by, truth = metric(str(found.judged_by)), targets.truth(members.classes)
        best = max((members.events_of(m) for m in range(2)),
                   key=lambda events: by.worth(truth, events))  # fmt: skip
        judged = judge(by.name, truth, found.events(members), best)
    else:
        best = max((members.scores[:, m] for m in range(members.scores.shape[1])),
                   key=targets.worth)  # fmt: skip
        judged = judge(targets.metric, targets.truth(()), found.predict(members), best)
    assert judged.versus_best.low > 0, judged


@pytest.mark.parametrize("name", WINS)
def test_a_learner_comes_back_from_a_folder(name: str, tmp_path: Path) -> None:
    (members, targets), (other, _) = stacked.halves(WINS[name](1))
    found = fitted(name, members, targets)
    found.save(tmp_path)
    loaded = load_learner(tmp_path)
    np.testing.assert_allclose(loaded.predict(other), found.predict(other), rtol=0, atol=1e-12)
    assert loaded.events(other) == found.events(other)
    assert loaded.weights() == found.weights()
    assert loaded.parameters() == found.parameters()


@pytest.mark.parametrize("name", EVERY)
def test_a_learner_is_a_function_of_the_seed_and_judges_each_row_alone(name: str) -> None:
    (members, targets), (other, _) = stacked.halves(WINS[name](2))
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    one, again = fitted(name, members, targets, 3), fitted(name, members, targets, 3)
    np.testing.assert_array_equal(one.predict(other), again.predict(other))
    few = np.array([5, 0, 17])
    np.testing.assert_allclose(one.predict(other.rows(few)), one.predict(other)[few], atol=1e-9)
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


@pytest.mark.parametrize("name", [n for n in WINS if "tags" in learners()[n].labels])
def test_a_class_without_positive_rows_is_survived(name: str) -> None:
    members, targets = WINS[name](4)
    if targets.kind == "class" or members.scores.shape[2] < 2:
        pytest.skip("one class alone")
    targets.values[:, 0] = 0
    targets.values[:, 1] = 1
    scores = fitted(name, members, targets).predict(members)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", [n for n in WINS if "class" in learners()[n].labels])
def test_a_class_without_rows_of_one_class_a_clip_is_survived(name: str) -> None:
    data = {"snapshot_mean": stacked.epochs, "snapshot_vote": stacked.epochs,
            "domain_choice": stacked.domains}  # fmt: skip
    if name in ("svm_embeddings", "mlp_embeddings", "lstm"):
        pytest.skip("tried with tags")
    members, targets = data.get(name, lambda s, k: stacked.noisy(s, kind=k))(5, "class")  # type: ignore[operator]
    keep = targets.values[:, 0] == 0
    members, targets = members.rows(keep), targets.rows(keep)
    scores = fitted(name, members, targets).predict(members)
    assert np.isfinite(scores).all()
    assert targets.worth(scores) > 0.5


@pytest.mark.parametrize("name", [n for n in WINS if "values" in learners()[n].labels])
def test_regressions_are_fused(name: str) -> None:
    noise = (0.6, 0.6, 0.6) if name == "mean" else (0.6, 0.6, 3.0)
    fit, (members, targets) = stacked.halves(stacked.series(0, noise))
    if not set(learners()[name].takes) <= members.kinds():
        pytest.skip("takes embeddings")
    found = fitted(name, *fit)
    best = max(targets.worth(members.scores[:, m]) for m in range(3))
    worth = targets.worth(found.predict(members))
    assert worth > best - (0.1 if name == "mlp" else 0)


@pytest.mark.parametrize("name", ["dirichlet", "simplex", "selection", "fold_weights"])
def test_weights_leave_out_bad_members(name: str) -> None:
    weights = fitted(name, *stacked.one_good(6)).weights()
    assert weights is not None
    assert sum(weights["members"][:2]) > 0.75
    assert abs(sum(weights["members"]) - 1) < 1e-9


@pytest.mark.parametrize("name", [n for n in learners() if learners()[n].pointwise])
def test_pointwise_learners_fuse_frames_as_they_fuse_clips(name: str) -> None:
    kind = "tags" if "tags" in learners()[name].labels else "class"
    members, targets = stacked.noisy(7, members=2, kind=kind, clips=120)
    frames = tuple(tuple(members.scores[i : i + 3, m] for i in range(0, 120, 3)) for m in range(2))
    found = fitted(name, members, targets)
    framed = stacked.members_of(
        members.scores[:40], frames=frames, frame_hops=(0.1, 0.1), durations=(0.3,) * 40
    )
    fused = found.fused_frames(framed)
    assert fused is not None
    np.testing.assert_allclose(np.concatenate(fused), found.predict(members))
    assert len(found.events(framed) or ()) == 40
