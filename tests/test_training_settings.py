"""Optimisers, schedules, what is kept, losses and mixed batches, beside torch, timm and scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import timm.optim
import torch
from test_workers import CLASSES, hearing, toy
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.listening import Model
from systems.outputs import Outputs
from systems.training.history import History
from systems.training.labelling import Only
from systems.training.losses import ClipBce, CrossEntropy, OneMinusPcc, Step
from systems.training.mixing import Batch, Mixing
from systems.training.settings import Keep, Schedule, Training
from systems.training.supervised import Recipe, fit

IDS = tuple(map(str, range(12)))
TARGETS = np.eye(CLASSES, dtype=np.float32)[np.arange(12) % CLASSES]
BASE = Training(8, labelled=3, unlabelled=0, learning_rate=1.0, patience=None)


def train(
    training: Training, context: Context | None = None, validation: bool = True, **about: Any
) -> tuple[History, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    judged = ClipSet(IDS, TARGETS) if validation else None
    data = TrainingData(
        ("a", "b"), ClipSet(IDS, TARGETS), judged, {"unlabelled": ClipSet(())}, metric="clip_map",
    )  # fmt: skip
    recipe = Recipe([ClipBce()], training, **about)
    return fit(toy(), recipe, hearing(IDS), data, context or Context())


def rates(history: History) -> list[float]:
    return [metrics["learning_rate"] for metrics in history.metrics]


def loss_of(state: dict[str, Tensor]) -> float:
    """The mean loss of the validation part under some weights."""
    model = toy().eval()
    model.load_state_dict(state)
    sound = hearing(IDS).sound
    cut = torch.from_numpy(np.stack([sound[i] for i in IDS]))
    with torch.no_grad():
        said = model(model.features(cut, torch.device("cpu")))
        losses = nn.functional.binary_cross_entropy(said.clip, torch.from_numpy(TARGETS))
    return float(losses) * CLASSES


def test_steps_of_the_learning_rate() -> None:
    history, _ = train(replace(BASE, schedule=Schedule("steps", 0.5, every=3)))
    assert rates(history) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert "learning_rate" not in train(BASE)[0].metrics[0]


def test_cosine_goes_to_zero_over_all_epochs() -> None:
    history, _ = train(replace(BASE, schedule=Schedule("cosine")))
    expected = [(1 + np.cos(np.pi * epoch / 8)) / 2 for epoch in range(8)]
    np.testing.assert_allclose(rates(history), expected, atol=1e-9)


def test_one_cycle_is_torchs_step_by_step_and_no_refit_replays_it(tmp_path: Path) -> None:
    training = replace(BASE, schedule=Schedule("one_cycle"))
    history, _ = train(training, Context(tmp_path))
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    judge = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, 8 * 4, cycle_momentum=False)
    expected = []
    for step in range(8 * 4):
        judge.step()
        if step % 4 == 3:
            expected.append(optimiser.param_groups[0]["lr"])
    np.testing.assert_allclose(rates(history), expected)
    assert max(expected) > 30 * expected[-1]
    refit, states = train(training, Context(rates=(0.5,) * 8), validation=False)
    assert rates(refit) == rates(history)
    cut, _ = train(training, Context(tmp_path / "cut", last_step=3), validation=False)
    _, resumed = train(training, Context(tmp_path / "cut"), validation=False)
    assert rates(cut) == rates(history)[:3]
    assert all(torch.equal(v, resumed[0][k]) for k, v in states[0].items())


@pytest.mark.parametrize("kind", ["triangular", "triangular2", "exp_range"])
def test_cyclic_rates_are_torchs_and_the_closed_form(kind: Any, tmp_path: Path) -> None:
    """lr = base + (peak - base) max(0, 1 - x), x = |i / s - 2 c + 1|, c = floor(1 + i / 2s); of an
    update i, s of them up; the c-th cycle half as high as the last, or by a power of the factor."""
    base, peak, factor, s = 0.1, 0.9, 0.98, 2 * 4
    training = replace(
        BASE, optimiser="sgd", learning_rate=base,
        schedule=Schedule(kind, factor, every=2, peak=peak),
    )  # fmt: skip
    history, states = train(training, Context(tmp_path / "whole"))
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    judge = torch.optim.lr_scheduler.CyclicLR(
        optimiser, base, peak, s, mode=kind, gamma=factor, cycle_momentum=False
    )
    expected = []
    for i in range(1, 8 * 4 + 1):
        judge.step()
        cycle = math.floor(1 + i / (2 * s))
        height = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": factor**i}
        rate = base + (peak - base) * max(0.0, 1 - abs(i / s - 2 * cycle + 1)) * height[kind]
        assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)
        expected += [rate] if i % 4 == 0 else []
    np.testing.assert_allclose(rates(history), expected)
    train(training, Context(tmp_path / "cut", last_step=3))
    _, resumed = train(training, Context(tmp_path / "cut"))
    assert all(torch.equal(v, resumed[0][k]) for k, v in states[0].items())


def test_a_cycle_begins_below_its_peak() -> None:
    with pytest.raises(ValueError, match="peak"):
        replace(BASE, schedule=Schedule("triangular", peak=0.5))


@pytest.mark.parametrize(("least", "epochs", "best"), [(0.0, 6, 4), (0.05, 5, 4), (0.15, 3, 3)])
def test_a_gain_that_is_too_small_is_none(
    least: float, epochs: int, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Keras counts: the value to beat is the last one that was a gain: of epochs 4, 3 and 1. The
    best epoch is kept all the same."""
    told = iter([0.30, 0.34, 0.42, 0.44, 0.40, 0.40, 0.40, 0.40])
    monkeypatch.setattr(History, "judge", lambda *arguments: next(told))
    history, _ = train(replace(BASE, patience=2, least_gain=least))
    assert (len(history.metrics), history.best_step) == (epochs, best)


def test_parts_of_a_network_learn_at_their_own_rates() -> None:
    network = nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    model = Model(nn.Identity(), nn.Identity(), network, lr_scales={"body": 0.1})
    for optimiser in (
        replace(BASE, optimiser=name, learning_rate=0.5).optimiser_of(model.groups())
        for name in ("adamw", "sgd", "lamb")
    ):
        rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
        assert rate == {id(p): 0.05 if name.startswith("body") else 0.5
                        for name, p in network.named_parameters()}  # fmt: skip
    network["body"].requires_grad_(False)
    assert [group["lr_scale"] for group in model.groups()] == [1.0]
    with pytest.raises(ValueError, match="trunk"):
        Model(nn.Identity(), nn.Identity(), network, lr_scales={"trunk": 0.1})


def test_cosine_begins_anew_where_it_restarts() -> None:
    history, _ = train(replace(BASE, schedule=Schedule("cosine_restarts", every=3)))
    expected = [(1 + np.cos(np.pi * (epoch % 3) / 3)) / 2 for epoch in range(8)]
    np.testing.assert_allclose(rates(history), expected, atol=1e-9)


def test_accumulated_gradients_are_those_of_one_larger_batch() -> None:
    """Of SGD, which scales with its gradients; the last step of an epoch has what is left."""
    sgd = replace(BASE, epochs=1, optimiser="sgd", learning_rate=0.1, steps_per_epoch=3)
    _, (large, *_) = train(replace(sgd, labelled=8, steps_per_epoch=1))
    _, (small, *_) = train(replace(sgd, labelled=4, steps_per_epoch=2, accumulate=2))
    for name, value in large.items():
        torch.testing.assert_close(small[name], value, atol=1e-6, rtol=1e-6)
    _, (three, *_) = train(replace(sgd, labelled=4, accumulate=3))
    _, (ten, *_) = train(replace(sgd, labelled=4, accumulate=10))
    assert all(torch.equal(three[name], ten[name]) for name in three)


@pytest.mark.parametrize("optimiser", ["nesterov", "lookahead_radam"])
def test_other_optimisers_go_on_to_the_last_digit(optimiser: str, tmp_path: Path) -> None:
    training = replace(BASE, optimiser=optimiser, momentum=0.9, learning_rate=0.01,
                       schedule=Schedule("cosine_restarts", every=3))  # fmt: skip
    _, whole = train(training)
    train(replace(training, epochs=5), Context(tmp_path))
    _, resumed = train(training, Context(tmp_path))
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_nesterov_asks_for_a_momentum() -> None:
    with pytest.raises(ValueError, match="momentum"):
        Training(optimiser="nesterov")


def test_an_epoch_may_be_over_the_unlabelled_examples() -> None:
    training = Training(labelled=16, unlabelled=112, over="unlabelled")
    assert training.steps(873, 6986) == 63
    assert training.steps(873, 0) == 55
    assert replace(training, over="labelled").steps(873, 6986) == 55
    assert replace(training, steps_per_epoch=7).steps(873, 6986) == 7
    with pytest.raises(ValueError, match="unlabelled"):
        replace(training, unlabelled=0)


def test_a_training_goes_back_to_its_best_epoch_at_a_lower_rate(tmp_path: Path) -> None:
    schedule = Schedule("from_best", 0.5, patience=1, stages=2)
    training = replace(BASE, epochs=30, learning_rate=8.0, schedule=schedule, keep=Keep(on="loss"))
    history, _ = train(training)
    losses = [line["validation_loss"] for line in history.metrics]
    rate, left, began, expected = 8.0, 1, 0, []
    for epoch in range(1, len(losses) + 1):
        expected.append(rate)
        late = epoch - max(1 + int(np.argmin(losses[:epoch])), began) > 1
        if late and left:
            rate, left, began = rate / 2, 0, epoch
    assert rates(history) == expected
    assert rate == 4.0
    assert len(losses) < 30  # the last stage ended it

    # At no rate at all what follows is the best epoch itself.
    halted = replace(training, schedule=replace(schedule, factor=1e-12))
    told = [line["validation_loss"] for line in train(halted)[0].metrics]
    back = rates(history).index(4.0)
    assert told[:back] == losses[:back]
    assert told[back] == pytest.approx(min(losses[:back]), rel=1e-6)
    assert told[back] < losses[back - 1]

    cut, _ = train(training, Context(tmp_path, last_step=back))
    whole, _ = train(training, Context(tmp_path))
    assert [line["validation_loss"] for line in whole.metrics] == losses
    assert len(cut.metrics) == back


@pytest.mark.parametrize("on", ["metric", "loss"])
def test_a_plateau_is_torchs_over_the_history(on: Any) -> None:
    schedule = Schedule("plateau", 0.5, patience=1, on=on)
    history, _ = train(replace(BASE, epochs=16, learning_rate=10.0, schedule=schedule))
    watched, mode = ("clip_map", "max") if on == "metric" else ("validation_loss", "min")
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=10.0)
    judge: Any = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode, 0.5, 1)  # type: ignore[arg-type]
    for metrics in history.metrics:
        assert metrics["learning_rate"] == optimiser.param_groups[0]["lr"]
        judge.step(metrics[watched])
    assert len(set(rates(history))) > 2


def test_a_refit_replays_the_rates_of_its_folds() -> None:
    training = replace(BASE, epochs=5, schedule=Schedule("plateau", 0.5))
    context = Context(rates=(0.3, 0.2, 0.1))
    history, _ = train(training, context, validation=False)
    assert rates(history) == [0.3, 0.2, 0.1, 0.1, 0.1]
    steps = replace(BASE, epochs=1, learning_rate=0.3)
    _, by_hand = train(steps, validation=False)
    _, first = train(training, Context(rates=(0.3,), last_step=1), validation=False)
    assert all(torch.equal(v, by_hand[0][k]) for k, v in first[0].items())


def test_epochs_are_kept_by_the_loss_of_the_validation_part() -> None:
    history, states = train(replace(BASE, keep=Keep(on="loss", count=3)))
    losses = np.array([metrics["validation_loss"] for metrics in history.metrics])
    assert history.kept == (1 + np.argsort(losses, kind="stable")[:3]).tolist()
    assert history.kept != [1, 2, 3]
    for epoch, state in zip(history.kept, states, strict=True):
        assert loss_of(state) == pytest.approx(losses[epoch - 1], rel=1e-5)


def test_of_equal_epochs_the_first_are_kept() -> None:
    history = History()
    worths = [0.5, 0.7, 0.5, 0.7, 0.6, 0.7]
    chosen = [history.choose(epoch, worth, 2) for epoch, worth in enumerate(worths, 1)]
    assert history.kept == [2, 4]
    assert history.kept_worths == [0.7, 0.7]
    assert chosen == [True, True, False, True, False, False]


@pytest.mark.parametrize("validation", [True, False])
def test_the_last_epochs_are_kept(validation: bool) -> None:
    what: Any = "last" if validation else "best"  # without a validation part none is the best
    history, states = train(replace(BASE, keep=Keep(what, count=3)), validation=validation)
    assert history.kept == [8, 7, 6]
    alone, (last,) = train(replace(BASE, keep=Keep(what)), validation=validation)
    assert alone.kept == []
    assert all(torch.equal(v, last[k]) for k, v in states[0].items())


def test_a_training_ends_when_nothing_becomes_better() -> None:
    training = replace(BASE, epochs=40, learning_rate=10.0, patience=3, keep=Keep(on="loss"))
    history, _ = train(training)
    losses = [metrics["validation_loss"] for metrics in history.metrics]
    assert len(losses) == 1 + int(np.argmin(losses)) + 3 < 40


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("nadam", torch.optim.NAdam),
        ("sgd", torch.optim.SGD), ("lamb", timm.optim.Lamb), ("adabelief", timm.optim.AdaBelief),
    ],
)  # fmt: skip
def test_optimisers_by_name(name: str, kind: type) -> None:
    layer, frozen = nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False)
    training = Training(optimiser=name, learning_rate=0.01, weight_decay=0.1, momentum=0.9)
    optimiser = training.optimiser_of([*layer.parameters(), *frozen.parameters()])
    assert type(optimiser) is kind
    groups = optimiser.param_groups
    assert {id(p) for group in groups for p in group["params"]} == set(map(id, layer.parameters()))
    assert all(group["lr"] == 0.01 and group["weight_decay"] == 0.1 for group in groups)
    if name == "sgd":
        assert groups[0]["momentum"] == 0.9
    with pytest.raises(ValueError, match="addam"):
        replace(training, optimiser="addam").optimiser_of(layer.parameters())


def test_gradients_are_clipped() -> None:
    training = replace(BASE, epochs=1, optimiser="sgd", steps_per_epoch=1, clip_norm=1e-3)
    _, (state,) = train(training)
    torch.manual_seed(0)
    before = toy().state_dict()
    moved = torch.cat([
        (state[name] - before[name]).flatten() for name in state if name.startswith("network")
    ])  # fmt: skip
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def step(outputs: Outputs, targets: Tensor, weights: Tensor | None = None) -> Step:
    return Step(nn.Identity(), torch.zeros(0), targets, outputs, None, weights)


def test_one_minus_pcc_is_scipys() -> None:
    generator = np.random.default_rng(0)
    said, true = generator.standard_normal((2, 3, 50, 2)) * 4 + 7
    expected = np.mean(
        [1 - scipy.stats.pearsonr(said[b, :, d], true[b, :, d])[0]
         for b in range(3) for d in range(2)]
    )  # fmt: skip
    outputs = Outputs(frames=torch.from_numpy(said))
    loss = OneMinusPcc()(step(outputs, torch.from_numpy(true)))
    assert loss.item() == pytest.approx(expected, abs=1e-7)
    still = OneMinusPcc()(step(outputs, torch.full((3, 50, 2), 0.5)))  # what never changes
    assert still.item() == pytest.approx(1)


def test_cross_entropy_of_soft_targets_and_weights() -> None:
    generator = np.random.default_rng(0)
    logits, targets = generator.standard_normal((4, 3)), generator.dirichlet(np.ones(3), 4)
    weights = np.array([0.0, 1.0, 2.0, 0.5])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -(targets * np.log(p)).sum(1)
    outputs = Outputs(torch.from_numpy(logits))
    loss = CrossEntropy()(step(outputs, torch.from_numpy(targets)))
    assert loss.item() == pytest.approx(losses.mean())
    weighted = CrossEntropy()(step(outputs, torch.from_numpy(targets), torch.from_numpy(weights)))
    assert weighted.item() == pytest.approx((losses * weights).mean())


def test_weights_of_clips_reach_the_loss() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def note(batch: Batch, generator: np.random.Generator) -> Batch:
        assert batch.weights is not None
        seen.append((batch.weights, batch.features))
        return batch

    torch.manual_seed(0)
    weights = np.arange(12, dtype=np.float32)
    data = TrainingData(
        ("a", "b"), ClipSet(IDS, TARGETS, weights=weights), None, {"unlabelled": ClipSet(())}
    )
    model = toy()
    fit(model, Recipe([ClipBce()], replace(BASE, epochs=1), [note]), hearing(IDS), data, Context())
    for batch_weights, features in seen:
        cut = torch.from_numpy(np.stack([hearing(IDS).sound[IDS[int(w)]] for w in batch_weights]))
        torch.testing.assert_close(features, model.features(cut, torch.device("cpu")))
    assert sorted(w for batch, _ in seen for w in batch.tolist()) == weights.tolist()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_features_targets_and_weights_are_mixed_alike(per: Any) -> None:
    size = 64
    one_hot = torch.eye(size)
    features = {"a": one_hot.view(size, 1, 1, size), "b": 3 * one_hot.view(size, 1, size, 1)}
    batch = Batch(features, one_hot, 2.0 ** -torch.arange(size).double())
    mixed = Mixing(alpha=0.4, per=per)(batch, np.random.default_rng(0))
    rows = mixed.targets  # of each its own share and its partner's
    torch.testing.assert_close(rows.sum(1), torch.ones(size))
    assert ((rows > 0).sum(1) <= 2).all()
    assert isinstance(mixed.features, dict)
    torch.testing.assert_close(mixed.features["a"].flatten(1), rows)
    torch.testing.assert_close(mixed.features["b"].flatten(1), 3 * rows)
    assert mixed.weights is not None
    torch.testing.assert_close(mixed.weights, rows.double() @ batch.weights, rtol=1e-5, atol=0)
    partners = (rows - torch.diag(rows.diag())).argmax(1)
    own = rows.diag()[partners != 0]
    shares = {round(float(s), 5) for s in own if s < 1}
    assert len(shares) == 1 if per == "batch" else len(shares) > size // 2
    assert Mixing()(Batch(one_hot, one_hot, None), np.random.default_rng(0)).weights is None


def test_shares_are_of_the_beta_distribution() -> None:
    generator, batch = np.random.default_rng(1), Batch(torch.eye(50), torch.eye(50), None)
    drawn = [
        float(s) for _ in range(20)
        for s in Mixing(alpha=0.4, per="sample")(batch, generator).targets.diag() if s < 1
    ]  # fmt: skip
    assert scipy.stats.kstest(drawn, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_clips_of_a_columns_values_train_alone() -> None:
    devices = ("a", "b", "a", "c")
    clips = ClipSet(
        tuple("0123"), np.eye(4, dtype=np.float32), columns=tuple({"device": d} for d in devices),
        weights=np.arange(4.0),
    )  # fmt: skip
    data = TrainingData(CLASSES, clips, clips)
    made = Only("device", ("a", "c"))(data, Context())
    assert made.validation is clips
    assert made.labelled.clip_ids == ("0", "2", "3")
    assert [one["device"] for one in made.labelled.columns] == ["a", "a", "c"]
    np.testing.assert_array_equal(made.labelled.targets, np.eye(4)[[0, 2, 3]])
    np.testing.assert_array_equal(made.labelled.weights, [0, 2, 3])
    with pytest.raises(UserError, match="device"):
        Only("device", ("d",))(data, Context())
    with pytest.raises(UserError, match="city"):
        Only("city", ("a",))(data, Context())


def test_recordings_are_taken_with_all_their_steps() -> None:
    clips = ClipSet(("x", "y", "z"), np.arange(12.0).reshape(6, 2), lengths=(1, 3, 2))
    taken = clips.some(np.array([0, 2]))
    assert taken.lengths == (1, 2)
    np.testing.assert_array_equal(taken.targets, clips.targets[[0, 4, 5]])
