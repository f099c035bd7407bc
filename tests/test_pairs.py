"""Batches of pairs and triplets: which, how many, drawn anew, and what they are trained by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import fakegallery
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import Clip
from systems.data.splits import TrainingData
from systems.excerpts import Excerpts
from systems.frontend.scale import Scale
from systems.nets.towers import PairHead, Tower, TwoTowers
from systems.outputs import Outputs
from systems.retrieval import Ranker, Searching, embedded, scores
from systems.sounds import heard_by
from systems.system import Input, by_key
from systems.training.batches import index_batches
from systems.training.losses import LogitBce, Step, TripletBce
from systems.training.pairs import Answers, Drawn, Pairs, Triplets

# Three queries; items 0 to 2 are of class x, 3 to 6 of class y; the last is searched by nobody.
CLASSES = "xxxyyyy"
RELEVANCE = np.array([[1, 0, 0, 0, 0, 0, np.nan], [1, 0, 0, 0, 0, 0, np.nan],
                      [0, 0, 0, 1, 0, 0, np.nan]])  # fmt: skip
ANSWERS = Answers.of(RELEVANCE, CLASSES)
FINE = {(0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2), (2, 3, 4), (2, 3, 5)}


def draw(settings: Pairs | Triplets, seed: int = 0) -> Drawn:
    return settings.examples(ANSWERS, np.random.default_rng(seed))


def test_all_fine_triplets_and_as_many_coarse_ones_in_both_orders() -> None:
    query, items, relevant = draw(Triplets())
    assert items.shape == relevant.shape == (len(query), 2) == (24, 2)
    found = Counter(
        (int(q), *map(int, pair[np.argsort(~there)]), bool(there[0]))
        for q, pair, there in zip(query, items, relevant, strict=True)
    )
    assert (relevant.sum(axis=1) == 1).all()
    fine = {key: n for key, n in found.items() if CLASSES[key[1]] == CLASSES[key[2]]}
    assert fine == {(*one, order): 1 for one in FINE for order in (True, False)}
    coarse = {key: n for key, n in found.items() if key not in fine}
    assert sum(coarse.values()) == 12
    assert all(found[(*key[:3], not key[3])] == n for key, n in coarse.items())
    assert all(RELEVANCE[q, b] == 0 for q, _, b, _ in coarse)
    assert not (items == 6).any(), "what a query does not search is no distractor"


def test_the_ratio_of_coarse_to_fine() -> None:
    for ratio, count in ((0.5, 3), (2.0, 12)):
        items = draw(Triplets(coarse=ratio)).items
        mixed = sum(CLASSES[a] != CLASSES[b] for a, b in items)
        assert mixed == 2 * count
    alone = Answers.of(np.eye(3), "xyz")  # a recording a class: nothing is fine
    drawn = Triplets().examples(alone, np.random.default_rng(0))
    assert len(drawn.query) == 6


def test_as_many_pairs_with_distractors_as_with_targets() -> None:
    query, items, relevant = draw(Pairs())
    assert items.shape == relevant.shape == (6, 1)
    assert {(q, i) for q, i, r in zip(query, items[:, 0], relevant[:, 0], strict=True) if r} == {
        (0, 0), (1, 0), (2, 3)
    }  # fmt: skip
    assert all((RELEVANCE[q, i[0]] == 1) == r[0] for q, i, r in zip(query, items, relevant,
                                                                    strict=True))  # fmt: skip


def test_uniform_and_balanced_distractors() -> None:
    def shares(settings: Pairs) -> float:
        fine = []
        for seed in range(400):
            query, items, relevant = draw(settings, seed)
            fine += [CLASSES[i] == CLASSES[ANSWERS.target[q]]
                     for q, i, r in zip(query, items[:, 0], relevant[:, 0], strict=True)
                     if not r]  # fmt: skip
        return float(np.mean(fine))

    # Of 15 distractors 6 are fine; balanced, one of three is (half of three, rounded down).
    assert shares(Pairs("uniform")) == pytest.approx(6 / 15, abs=0.05)
    assert shares(Pairs("fine_coarse")) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("settings", [Pairs(), Triplets()])
def test_epochs_differ_and_a_seed_gives_the_same_one(settings: Pairs | Triplets) -> None:
    first, again, other = draw(settings, 1), draw(settings, 1), draw(settings, 2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.items, other.items)


def test_counts_of_the_card() -> None:
    """133 queries, 10 classes of 10 recordings: 4,788 triplets, 266 pairs an epoch."""
    relevance = np.zeros((133, 100))
    relevance[np.arange(133), 10 * (np.arange(133) % 10)] = 1
    answers = Answers.of(relevance, [str(k // 10) for k in range(100)])
    r = np.random.default_rng(0)
    assert len(Triplets().examples(answers, r).query) == 4788
    assert len(Pairs().examples(answers, r).query) == 266


def test_batches_that_are_not_full_end_with_a_pass() -> None:
    r = np.random.default_rng(0)
    sizes = [len(b) for b in index_batches(266, 128, 3, r, full=False)]
    assert sizes == [89, 89, 88]
    several = np.concatenate(list(index_batches(10, 4, 6, r, full=False)))
    assert Counter(several.tolist()) == dict.fromkeys(range(10), 2)
    few = np.concatenate(list(index_batches(100, 4, 6, r, full=False)))
    assert len(few) == len({*few.tolist()}) == 24


# --- losses ---


def step(logits: list[list[float]], targets: list[list[float]]) -> Step:
    outputs = Outputs(clip=torch.tensor(logits))
    return Step(nn.Identity(), torch.zeros(1), torch.tensor(targets), outputs, None)


def test_the_loss_of_triplets_is_that_of_the_paper() -> None:
    logits = [[2.0, -1.0], [-1.0, 2.0], [0.3, 0.31]]
    targets = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    expected = []
    for (x, y), (first, _) in zip(logits, targets, strict=True):
        a, b = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y))
        said = 1 / (1 + np.exp(-(50 * a - 50 * b)))
        expected.append(-np.log(said if first else 1 - said))
    found = TripletBce(50.0)(step(logits, targets))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(TripletBce(50.0)(step([[9.0, -9.0]], [[0.0, 1.0]]))) == pytest.approx(50, rel=1e-2)


def test_the_loss_of_pairs() -> None:
    found = LogitBce()(step([[0.0], [np.log(3.0)]], [[1.0], [0.0]]))
    assert float(found) == pytest.approx((np.log(2) + np.log(4)) / 2)


# --- the network ---


class Double(nn.Module):
    """Twice the first value of what it gets, which it also counts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.norm(x)


def towers() -> tuple[TwoTowers, Double, Double]:
    torch.manual_seed(0)
    one, other = Double(), Double()
    return TwoTowers(Tower(one), Tower(other), PairHead(8, 5)), one, other


def test_each_item_of_a_triplet_is_a_pass_of_its_own() -> None:
    network, query, gallery = towers()
    x, y = torch.randn(3, 1, 2, 2), torch.randn(3, 2, 1, 2, 2) * torch.tensor([1.0, 9.0]).view(
        1, 2, 1, 1, 1)  # fmt: skip
    network.train()
    said = network({"query": x, "gallery": y}).clip
    assert (query.seen, gallery.seen) == ([3], [3, 3])
    alone = [nn.BatchNorm2d(1, affine=False)(part).flatten(1) for part in y.unbind(1)]
    of_query = nn.BatchNorm2d(1, affine=False)(x).flatten(1)
    expected = torch.stack([network.head(of_query, one) for one in alone], dim=1)
    torch.testing.assert_close(said, expected)


def test_towers_run_once_a_sound_and_the_head_a_pair() -> None:
    network, query, gallery = towers()
    network.eval()
    x, y = torch.randn(3, 1, 2, 2), torch.randn(5, 1, 2, 2)
    said = network.pairs(network.query(x).embedding, network.gallery(y).embedding)
    assert (query.seen, gallery.seen) == ([3], [5])
    for n in range(3):
        for k in range(5):
            one = network({"query": x[n : n + 1], "gallery": y[k : k + 1, None]}).clip
            torch.testing.assert_close(said[n, k], one[0, 0])


# --- from sound ---


def prepared(settings: Pairs | Triplets) -> tuple[Any, Ranker, Searching, TrainingData, Context]:
    model, hearing, data = fakegallery.prepared()
    context = Context(threads=1)
    return settings.source(model, hearing, data, context), model, hearing, data, context


def test_a_batch_holds_the_features_of_its_pairs_and_what_answers() -> None:
    source, model, hearing, data, context = prepared(Triplets())
    r = np.random.default_rng(0)
    source.draw(r)
    rows = np.array([0, 5, len(source) - 1])
    batch = source.batch(rows, r)
    assert batch.features["query"].shape == (3, 1, 8, 12)
    assert batch.features["gallery"].shape == (3, 2, 1, 8, 12)
    query, items, _ = (of[rows] for of in source.drawn)
    said = [data.labelled.clip_ids[k] for k in query]
    for b, name in enumerate(said):
        for m in (0, 1):
            item = data.classes[items[b, m]]
            assert batch.targets[b, m] == (item == fakegallery.target(name))
            track = hearing.track(model, (name,), context)["gallery"]
            cut = track.cut([(items[b, m], 0, 12)])
            features = model.side("gallery").features(cut, context.device)
            torch.testing.assert_close(batch.features["gallery"][b, m], features[0])


def test_every_query_is_scored_against_every_item() -> None:
    _, model, hearing, data, context = prepared(Pairs())
    track = hearing.track(model, data.labelled.clip_ids, context)
    rows = torch.stack([one.clip for one in hearing.listen(model, track, context)
                        if one.clip is not None])  # fmt: skip
    assert rows.shape == (len(data.labelled), len(data.classes))
    said = {name: embedded(model, name, hearing.sides[name], track[name], context)
            for name in ("query", "gallery")}  # fmt: skip
    torch.testing.assert_close(rows, scores(model, said["query"], said["gallery"], context))
    one = model.network.head(said["query"][2:3], said["gallery"][4:5]).sigmoid()
    torch.testing.assert_close(rows[2, 4], one[0])


def test_inputs_that_agree_but_for_roles_share_their_sound() -> None:
    clips = [Clip(role, "train", role, role, 1.0) for role in ("labelled", "gallery", "unlabelled")]
    inputs = [Input(("labelled",), 8000), Input(("gallery",), 8000), Input(("gallery",), 16_000)]
    found = by_key(inputs)
    assert [one.roles for one in found.values()] == [("labelled", "gallery"), ("gallery",)]
    both, gallery = (heard_by(one, found.values(), clips) for one in found.values())
    assert both == ("labelled", "gallery", "unlabelled")
    assert gallery == ("gallery", "unlabelled"), "what no input asks for is in all"


def test_short_sound_is_filled_before_its_features_are_made_and_long_is_cut() -> None:
    excerpts = Excerpts(frames=4, made_of=0.5)
    assert excerpts.fitted(np.ones(3), 10).tolist() == [1, 1, 1, 0, 0]
    assert excerpts.fitted(np.arange(9), 10).tolist() == [0, 1, 2, 3, 4]
    assert Excerpts(frames=4).fitted(np.ones(3), 10).tolist() == [1, 1, 1]


def test_each_example_has_a_scale_of_its_own() -> None:
    x = torch.randn(3, 1, 4, 5) * torch.tensor([1.0, 7.0, 0.0]).view(3, 1, 1, 1) + 2
    scaled = Scale((1, 4, 5), "clip")(x)
    torch.testing.assert_close(scaled.mean((1, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    deviations = scaled.std((1, 2, 3), unbiased=False)
    torch.testing.assert_close(deviations, torch.tensor([1.0, 1.0, 0.0]))
