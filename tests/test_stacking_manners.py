"""How meta-learners meet their members: given weights, folds, frames, gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stacked
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score
from stacked import fitted, in_folds

from orchestrator.members.seen import Targets
from orchestrator.plan.stage import Manner
from orchestrator.stacking.crossfit import cross_fitted
from orchestrator.stacking.families import learners, load_learner
from systems.data.dataset import Event
from systems.errors import CannotFit, UserError

# Given weights


def test_given_weights_are_the_papers_formulae() -> None:
    data = stacked.noisy(0, members=3, kind="class")
    scores, w = data[0].scores, np.array([1.5, 1.0, 0.5])
    given = tuple(w)
    mean = fitted("mean", data, weights=given).predict(data[0])
    np.testing.assert_allclose(mean, np.average(scores, axis=1, weights=w))
    # densenet_label_noise, Eq. 8: the weights are not divided by their sum; the order is the same.
    eq8 = softmax((w[:, None] * np.log(scores)).sum(axis=1), axis=1)
    geometric = fitted("geometric", data, weights=given).predict(data[0])
    np.testing.assert_array_equal(geometric.argmax(axis=1), eq8.argmax(axis=1))
    np.testing.assert_allclose(geometric.sum(axis=1), 1)
    power = fitted("power", data, weights=given, r=1.0).predict(data[0])
    np.testing.assert_allclose(power, mean / mean.sum(axis=1, keepdims=True), atol=1e-6)


def test_ranks_of_classes_are_scipys_and_weighted() -> None:
    data = stacked.noisy(1, members=2, kind="class")
    ranks = np.stack([rankdata(data[0].scores[:, m], axis=1) for m in range(2)])
    expected = (np.average(ranks, axis=0, weights=[3, 1]) - 0.5) / 5
    ours = fitted("rank_mean", data, weights=(3.0, 1.0), axis="classes").predict(data[0])
    np.testing.assert_allclose(ours, expected)


def test_members_have_as_many_votes_as_they_are_given_and_the_first_breaks_ties() -> None:
    one = np.eye(3)
    members = stacked.members_of(np.stack([[one[0], one[1], one[2]], [one[0], one[2], one[2]]]))
    targets = Targets.of(one[[0, 1]], "class", "accuracy")
    weighted = fitted("vote", (members, targets), weights=(5.0, 2.0, 2.0))
    assert weighted.predict(members).argmax(axis=1).tolist() == [0, 0]
    first = fitted("vote", (members, targets), ties="first")
    assert first.predict(members).argmax(axis=1).tolist() == [0, 2]
    last = fitted("vote", (members, targets), weights=(1.0, 1.0, 2.0), ties="first")
    assert last.predict(members).argmax(axis=1).tolist() == [2, 2]


@pytest.mark.parametrize("name", ["mean", "geometric", "power", "vote", "rank_mean"])
def test_weights_of_other_members_are_refused(name: str) -> None:
    with pytest.raises(CannotFit, match="2 weights are given, and there are 4 members"):
        fitted(name, stacked.noisy(0), weights=(1.0, 2.0))
    for wrong in ((-1.0, 2.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="weights are 0 or more"):
            learners()[name].Settings(weights=wrong)


# Other settings of the papers


def test_snapshots_of_all_members_are_averaged() -> None:
    (first, targets), (second, _) = stacked.epochs(0), stacked.epochs(0)
    assert first.epochs is not None
    assert second.epochs is not None
    squared = {epoch: scores**2 for epoch, scores in second.epochs[0].items()}
    both = replace(first, names=("a", "b"), scores=np.repeat(first.scores, 2, axis=1),
                   epochs=(first.epochs[0], squared))  # fmt: skip
    found = fitted("snapshot_mean", (both, targets), count=2, of="all")
    chosen = found.snapshots()
    assert set(chosen) == {(0, None), (1, None)}
    expected = [both.epochs[m][e] for (m, _), es in chosen.items() for e in es]  # type: ignore[index]
    np.testing.assert_allclose(found.predict(both), np.mean(expected, axis=0))


def test_a_training_that_stopped_early_has_no_later_snapshots() -> None:
    data, truth = stacked.noisy(0, 2.0, members=6)
    # It stopped after epoch 6; others went on to 12, so that its last scores are told again.
    told = {epoch: data.scores[:, min(epoch, 6) - 1] for epoch in range(1, 13)}
    one = in_folds((replace(data.only([0]), epochs=(told,)), truth), 1)
    for choice in ("best", "even"):
        found = fitted(
            "snapshot_mean", one, Manner(by_fold=True, folds_predict=True), choice=choice
        )
        assert max(found.snapshots()[0, 0]) <= 6


def test_a_class_takes_the_member_whose_events_are_best() -> None:
    members, targets = stacked.timed(0, members=2, level=0.8)
    assert members.frames is not None
    assert targets.events is not None
    # The first member knows the first class in time, the second the others.
    broken = tuple(np.where(np.arange(3) == 0, clip, 0.9) for clip in members.frames[0])
    other = tuple(np.where(np.arange(3) == 0, 0.9, clip) for clip in members.frames[1])
    split = replace(members, frames=(broken, other))
    found = fitted("class_choice", (split, targets), by="event_f1")
    assert np.array(found.weights()["classes"]).argmax(axis=1).tolist() == [0, 1, 1]  # type: ignore[index]
    own = tuple(tuple((Event(m, m + 1.0, f"class{k}"),) for _ in split.clip_ids)
                for m, k in ((0.0, 0), (1.0, 1)))  # fmt: skip
    told = replace(split, events=own)
    events = found.events(told)
    assert events is not None
    assert events[0] == (Event(0.0, 1.0, "class0"), Event(1.0, 2.0, "class1"))


def test_a_choice_by_hand_is_taken_and_checked() -> None:
    data = stacked.class_strengths(0)
    found = fitted("class_choice", data, given=(3, 2, 1, 0))
    expected = np.stack([data[0].scores[:, 3 - k, k] for k in range(4)], axis=1)
    np.testing.assert_array_equal(found.predict(data[0]), expected)
    with pytest.raises(CannotFit, match="for each of 4 classes"):
        fitted("class_choice", data, given=(0, 1, 2, 7))


def test_cosines_are_fused_as_such_beside_log_probabilities() -> None:
    members, targets = stacked.noisy(0, 2.0, members=2, kind="class")
    logits = np.log(members.scores[:, 1])
    cosines = logits / np.abs(logits).max() + 0.2  # in -0.8 .. 0.2
    mixed = replace(members, scores=np.stack([members.scores[:, 0], cosines], axis=1))
    alone = fitted("multiclass_calibration", (members.only([0]), targets))
    together = fitted("multiclass_calibration", (mixed, targets))
    worth = targets.worth(together.predict(mixed))
    assert worth > targets.worth(alone.predict(members.only([0]))) + 0.05


def test_the_walk_finds_no_more_than_the_scan_and_stays_in_its_bell() -> None:
    members, targets = stacked.high_bounds(0)
    walk, scan = fitted("annealed", (members, targets)), fitted("exact", (members, targets))
    assert targets.worth(walk.predict(members)) <= targets.worth(scan.predict(members))
    thresholds = np.array(walk.state()["thresholds"])
    assert ((thresholds > 0.15) & (thresholds < 0.85)).all()
    near, truth = stacked.bounds_near_half(0)
    found = fitted("annealed", (near, truth)).predict(near)
    best = truth.worth(fitted("exact", (near, truth)).predict(near))
    assert truth.worth(near.scores.mean(axis=1)) < truth.worth(found) <= best
    assert truth.worth(found) > best - 0.05


def test_the_best_folds_models_are_ranked_in_the_order_of_their_worth() -> None:
    members, targets = in_folds(stacked.noisy(0, members=2, kind="class"))
    scores = members.scores.copy()
    worse = targets.folds == 0  # of the first member's folds, the first is the worst
    scores[worse, 0] = np.random.default_rng(0).random(scores[worse, 0].shape)
    seen = replace(members, scores=scores)
    found = fitted("rank_best_folds", (seen, targets), counts=(2, 1), weights=(3.0, 2.0, 1.0))
    w = np.array(found.state()["w"])
    assert sorted(w[0].tolist()) == pytest.approx([0, 2 / 6, 3 / 6])
    assert w[0, 0] == 0
    assert sorted(w[1].tolist()) == pytest.approx([0, 0, 1 / 6])
    of_folds = tuple(replace(seen, scores=np.roll(scores, f, axis=2)) for f in range(3))
    expected = sum(
        w[m, f] * (rankdata(of_folds[f].scores[:, m], axis=1) - 0.5) / 5
        for m in range(2) for f in range(3)
    )  # fmt: skip
    test = replace(seen, fold=None, of_folds=of_folds)
    np.testing.assert_allclose(found.predict(test), expected)
    with pytest.raises(CannotFit, match="do not fit 2 members of 3 folds"):
        fitted("rank_best_folds", (seen, targets), counts=(2, 7))


def test_a_domain_has_the_member_that_it_is_given_and_others_the_common_one() -> None:
    members, targets = stacked.domains(0)
    given = {"column": "domain", "values": ("field",), "places": (1,), "otherwise": 0}
    found = fitted("domain_choice", (members, targets), **given)
    field = np.array([about["domain"] == "field" for about in members.about])
    said = found.predict(members)
    np.testing.assert_array_equal(said[field], members.scores[field, 1])
    np.testing.assert_array_equal(said[~field], members.scores[~field, 0])
    no_domain = replace(members, about=())  # a file outside the data set
    np.testing.assert_array_equal(found.predict(no_domain), members.scores[:, 0])
    fitted_here = replace(members, about=(*members.about[:-1], {}))  # one clip of no domain
    places = fitted("domain_choice", (fitted_here, targets), column="domain").state()["places"]
    assert set(places) == {"field", "studio"}
    with pytest.raises(CannotFit, match="no column 'device'"):
        fitted("domain_choice", (members, targets), column="device")


def test_rows_without_weight_are_no_part_of_what_is_chosen_by() -> None:
    members, targets = stacked.one_good(0)
    wrong = np.arange(len(targets.values)) % 2 == 0
    values = np.where(wrong[:, None], 1 - targets.values, targets.values)
    weighed = replace(targets, values=values, weights=(~wrong).astype(float))
    known = fitted("dirichlet", (members.rows(~wrong), targets.rows(~wrong))).weights()
    assert fitted("dirichlet", (members, weighed)).weights() == known


# A learner for each fold


def test_a_row_is_fused_by_its_folds_learner_and_a_new_clip_by_all() -> None:
    members, targets = in_folds(stacked.one_good(0))
    found = fitted("simplex", (members, targets), Manner(by_fold=True))
    alone = []
    for fold in range(3):
        inside = targets.folds == fold
        alone.append(fitted("simplex", (members.rows(inside), targets.rows(inside))))
        np.testing.assert_allclose(
            found.predict(members)[inside], alone[-1].predict(members.rows(inside))
        )
    new = replace(members, fold=None)
    np.testing.assert_allclose(
        found.predict(new), np.mean([one.predict(new) for one in alone], axis=0)
    )


def test_each_folds_models_are_fused_by_its_learner_then_averaged() -> None:
    members, targets = in_folds(stacked.noisy(0, members=2, kind="class"))
    r = np.random.default_rng(0)
    said = [softmax(np.log(members.scores) + r.normal(size=members.scores.shape), axis=2)
            for _ in range(3)]  # fmt: skip
    of_folds = tuple(replace(members, scores=one, fold=np.full(len(one), f))
                     for f, one in enumerate(said))  # fmt: skip
    test = replace(members, fold=None, of_folds=of_folds)
    for mean in ("arithmetic", "geometric"):
        manner = Manner(by_fold=True, mean=mean, folds_predict=True)  # type: ignore[arg-type]
        found = fitted("fusion_layer", (members, targets), manner)
        each = []
        for fold, one in enumerate(of_folds):
            inside = targets.folds == fold
            alone = fitted("fusion_layer", (members.rows(inside), targets.rows(inside)))
            each.append(alone.predict(one))
        expected = np.mean(each, axis=0)
        if mean == "geometric":  # multi_feature_cnn_ensemble: prod_k P_k^(1/5)
            expected = np.exp(np.mean(np.log(np.clip(each, 1e-7, 1 - 1e-7)), axis=0))
            expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.predict(test), expected, atol=1e-6)
        few = np.array([4, 1])
        np.testing.assert_allclose(found.predict(test.rows(few)), found.predict(test)[few])


@pytest.mark.parametrize("name", ["logreg", "boosting", "svm", "mlp", "fold_weights", "vote"])
def test_what_was_fitted_by_fold_comes_back_from_a_folder(name: str, tmp_path: Path) -> None:
    members, targets = in_folds(stacked.noisy(0, members=2, clips=150))
    found = fitted(name, (members, targets), Manner(by_fold=True))
    found.save(tmp_path)
    loaded = load_learner(tmp_path)
    for seen in (members, replace(members, fold=None)):
        np.testing.assert_allclose(loaded.predict(seen), found.predict(seen), atol=1e-12)
    assert loaded.weights() == found.weights()


def test_embeddings_of_folds_whose_axes_do_not_correspond_are_used_fold_by_fold() -> None:
    members, targets = in_folds(stacked.embedded(0), folds=2)
    assert members.embeddings is not None
    turned = tuple(np.where((targets.folds == 1)[:, None], -e, e)
                   for e in members.embeddings)  # fmt: skip
    mixed = replace(members, embeddings=turned)
    pooled = cross_fitted(
        lambda m, t: fitted("svm_embeddings", (m, t), kernel="linear"), mixed, targets, 0
    )
    apart = cross_fitted(
        lambda m, t: fitted("svm_embeddings", (m, t), Manner(), kernel="linear"), mixed, targets, 0
    )
    assert pooled.clip_scores is not None
    assert apart.clip_scores is not None
    assert targets.worth(apart.clip_scores) > targets.worth(pooled.clip_scores) + 0.1


def test_weights_of_each_fold_weigh_its_frames_as_its_clips() -> None:
    members, targets = in_folds(stacked.timed(0, members=2))
    found = fitted("fold_weights", (members, targets), given=(0, 1, 0))
    frames = found.fused_frames(members)
    assert frames is not None
    assert members.frames is not None
    for clip, fold in enumerate(targets.folds):
        np.testing.assert_allclose(frames[clip], members.frames[(0, 1, 0)[fold]][clip])
    of_folds = tuple(replace(members, fold=np.full(len(targets.folds), f)) for f in range(3))
    mean = found.fused_frames(replace(members, fold=None, of_folds=of_folds))
    assert mean is not None
    first, second = (one[0] for one in members.frames)
    np.testing.assert_allclose(mean[0], (2 * first + second) / 3)


def test_a_fold_takes_the_one_member_that_is_best_on_its_rows() -> None:
    members, targets = in_folds(stacked.noisy(4, [1.0, 3.0, 3.0], members=3, kind="class"))
    turned = [np.roll(row, fold, axis=0)
              for row, fold in zip(members.scores, targets.folds, strict=True)]  # fmt: skip
    members = replace(members, scores=np.stack(turned))
    found = fitted("fold_weights", (members, targets), whole=True)
    truth, chosen = targets.values.argmax(axis=1), []
    for fold in range(3):
        rows = targets.folds == fold
        right = [accuracy_score(truth[rows], members.scores[rows, m].argmax(axis=1))
                 for m in range(3)]  # fmt: skip
        chosen.append(int(np.argmax(right)))
        np.testing.assert_allclose(found.predict(members)[rows], members.scores[rows, chosen[-1]])
    assert chosen == [0, 1, 2]
    assert found.weights() == {"members": pytest.approx([1 / 3] * 3)}


def test_folds_that_a_cross_fitting_leaves_out_are_the_worst_of_their_ranks() -> None:
    members, targets = in_folds(stacked.noisy(0, members=2, kind="class"), 5)
    kept = targets.folds != 4
    rows = replace(targets, fold_count=5).rows(kept)
    found = fitted("rank_best_folds", (members.rows(kept), rows), counts=(5, 3))
    w = np.array(found.state()["w"])
    assert w.shape == (2, 5)
    assert w[1, 4] == 0


def test_event_decisions_have_no_mean_over_folds() -> None:
    with pytest.raises(CannotFit, match="no mean over folds"):
        fitted("exact_events", in_folds(stacked.timed(0)), Manner(by_fold=True))


def test_a_learner_of_another_version_is_told_in_one_message(tmp_path: Path) -> None:
    fitted("mean", stacked.noisy(0)).save(tmp_path)
    path = tmp_path / "learner.json"
    path.write_text(path.read_text().replace('"w"', '"older"'))
    with pytest.raises(UserError, match="no meta-learner that this version reads"):
        load_learner(tmp_path)


# Over frames, and a gate


def chunks(seed: int) -> stacked.Set:
    """Clips of five chunks; the clip scores are the chunks' mean."""
    members, targets = stacked.noisy(seed, 2.0, members=3, kind="class", clips=200)
    r = np.random.default_rng(seed)
    frames = tuple(
        tuple(softmax(np.log(clip) + r.normal(size=(5, 5)), axis=1) for clip in one)
        for one in members.scores.swapaxes(0, 1)
    )
    scores = np.stack([np.stack([c.mean(axis=0) for c in one]) for one in frames], axis=1)
    return replace(members, scores=scores, frames=frames, frame_hops=(1.0,) * 3,
                   durations=(5.0,) * 200), targets  # fmt: skip


def test_chunks_are_fused_then_averaged_or_voted() -> None:
    members, targets = chunks(0)
    assert members.frames is not None
    plain = fitted("simplex", (members, targets))
    mean = fitted("simplex", (members, targets), Manner(pool="frame_mean"))
    np.testing.assert_allclose(mean.predict(members), plain.predict(members), atol=1e-9)
    vote = fitted("simplex", (members, targets), Manner(pool="frame_vote"))
    w = plain.weights()["members"]  # type: ignore[index]
    undecided = 0
    for clip in range(40):
        fused = sum(w[m] * members.frames[m][clip] for m in range(3))
        # nnf_cnn_ensemble: of 0.5 or more, and a chunk without such a class for the first.
        cast = [next((k for k in range(5) if chunk[k] >= 0.5), None) for chunk in fused]
        undecided += cast.count(None)
        counts = np.bincount([k or 0 for k in cast], minlength=5) / 5
        np.testing.assert_allclose(vote.predict(members)[clip], counts)
    assert undecided
    with pytest.raises(CannotFit, match="frame scores"):
        fitted("simplex", stacked.noisy(0), Manner(pool="frame_vote"))


def test_fused_tags_gate_one_members_events(tmp_path: Path) -> None:
    members, targets = stacked.timed(0, members=3, level=0.9)
    found = fitted("k_of_n", (members, targets), Manner(events_of=1), k=2)
    votes = (members.scores > 0.5).sum(axis=1) >= 2
    own = members.events_of(1)
    events = found.events(members)
    assert events is not None
    for clip, row, kept in zip(own, votes, events, strict=True):
        there = {f"class{k}" for k in np.flatnonzero(row)}
        assert kept == tuple(e for e in clip if e.label in there)
    found.save(tmp_path)
    assert load_learner(tmp_path).events(members) == events
