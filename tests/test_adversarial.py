"""Adversarial adaptation: hidden labels, streams by domain, the order of its steps."""

from __future__ import annotations

import copy
import importlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command import HERE, soundsweep
from faulted import KILLED, fault, faulty, files, saved
from test_run import fingerprint_of_run
from test_workers import hearing
from torch import Tensor, nn

from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems import data, registry
from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.protocol import LABEL, Protocol
from systems.data.splits import Splits, make_splits, training_data
from systems.errors import UserError
from systems.frontend.scale import Scale
from systems.listening import Model
from systems.outputs import Outputs
from systems.papers.adversarial_domain_adaptation import Classifier, Network, discriminator
from systems.training.adversarial import Adversarial, Adversary
from systems.training.batches import Streams
from systems.training.losses import CrossEntropy
from systems.training.mixing import Batch
from systems.training.procedure import Moment

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HIDES = {"device": ("b", "c")}
ENTRY = registry.get("adversarial_domain_adaptation")


def context_with(network: nn.Module) -> Context:
    """A context in which ``source`` is a fitted network."""
    fitted = SimpleNamespace(model=SimpleNamespace(network=network))
    return Context(required={"source": lambda: fitted})


def moment(batch: int) -> Moment:
    return Moment(1, batch, np.random.default_rng(0))


class Line(nn.Module):
    """Features ``w x`` of numbers [B, 1], and two classes of logits (0, feature)."""

    shape = (1,)

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.features = nn.Linear(1, 1, bias=False)
        self.classifier = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.features.weight.fill_(weight)
            self.classifier.weight.copy_(torch.tensor([[0.0], [1.0]]))

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.classifier(self.features(x)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_discriminator_steps_first_and_on_every_second_batch() -> None:
    """By hand: a source clip 1 of class 1, a target clip 3, one weight each."""
    begun, network = Line(1.0), Line(1.0)
    judge = nn.Linear(1, 1, bias=False)
    nn.init.constant_(judge.weight, 0.5)
    settings = Adversary(label_weight=2.0, every=2, learning_rate=0.1)
    model = Model(nn.Identity(), Scale((1, 1), "none"), network, frozen=["classifier"])
    about = Adversarial(settings, "source", lambda shape: judge)
    game = about.begin(model, [CrossEntropy()], context_with(begun))
    optimiser = torch.optim.SGD(model.trained(), lr=0.01)
    w, u = 1.0, 0.5
    for step in (1, 2, 3, 4):
        before = u
        if step % 2 == 0:  # Adam's steps are of 0.1 here, for the gradient hardly changes
            gradient = -(1 - sigmoid(u * 1.0)) + 3 * w * sigmoid(3 * w * u)
            assert gradient > 0
            u -= 0.1
        batch = Batch(torch.tensor([[1.0]]), torch.tensor([[0.0, 1.0]]), None)
        loss, told = game.loss(batch, torch.tensor([[3.0]]), moment(step))
        u_now = judge.weight.item()
        assert u_now == pytest.approx(u, abs=2e-3)
        assert (u_now != pytest.approx(before)) == (step % 2 == 0)
        fooling = math.log1p(math.exp(-u_now * 3 * w))  # by what the discriminator has just become
        label = math.log1p(math.exp(-w))
        assert told["adversarial"].item() == pytest.approx(fooling, rel=1e-5)
        assert told["cross_entropy"].item() == pytest.approx(label, rel=1e-5)
        assert loss.item() == pytest.approx(fooling + 2 * label, rel=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        w -= 0.01 * (-3 * u_now * (1 - sigmoid(3 * u_now * w)) - 2 * (1 - sigmoid(w)))
        assert network.features.weight.item() == pytest.approx(w, rel=1e-5)
        u = u_now
    assert begun.features.weight.item() == 1.0
    assert torch.equal(network.classifier.weight, begun.classifier.weight)


@pytest.mark.parametrize("kind", ["kaggle", "dcase"])
def test_steps_are_a_plain_loops(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    plain_step = importlib.import_module("plain_adversary").plain_step
    torch.manual_seed(0)
    c, shape = Classifier(kind, width=0.125, dense=8), (1, 64, 188)
    begun = Network(c, shape, 3)
    model = Model(
        nn.Identity(), Scale(shape, "none"), copy.deepcopy(begun), "softmax", frozen=["classifier"]
    )
    plain, source = copy.deepcopy(begun), copy.deepcopy(begun.features).eval()
    settings = Adversary(label_weight=3.0, every=2, learning_rate=1e-2)
    game = Adversarial(settings, "source", discriminator).begin(
        model, [CrossEntropy()], context_with(begun)
    )
    judge = copy.deepcopy(game.discriminator)
    descent = torch.optim.SGD  # Adam makes steps of what rounding leaves of gradients that are zero
    ours, game.optimiser = (
        descent(one, lr=1e-3) for one in (model.trained(), game.discriminator.parameters())
    )
    optimisers = (
        descent(plain.features.parameters(), lr=1e-3), descent(judge.parameters(), lr=1e-3)
    )  # fmt: skip
    for step in (1, 2, 3):  # more would show how rounding grows through batch norm
        x, other = torch.randn(9, *shape), 1 + torch.randn(6, *shape)
        y = torch.eye(3).repeat(3, 1)
        model.start_training()
        game.start_training()
        loss, told = game.loss(Batch(x, y, None), other, moment(step))
        ours.zero_grad()
        loss.backward()
        ours.step()
        expected = plain_step(plain, source, judge, optimisers, (x, y, other), 3.0, step % 2 == 0)
        for name in ("adversarial", "cross_entropy"):
            assert told[name].item() == pytest.approx(expected[name], rel=1e-4)
    for mine, other_ in ((model.network, plain), (game.discriminator, judge)):
        for name, value in other_.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "discriminating", "fooling"),
    [("least_squares", 0.25 + 0.0625, 0.5625), ("wasserstein", 0.25 - 0.5, -0.25)],
)
def test_other_losses_by_hand(kind: Any, discriminating: float, fooling: float) -> None:
    settings = Adversary(loss=kind)
    source, target = torch.tensor([0.5, 0.5]), torch.tensor([0.25])
    assert float(settings.discriminating(source, target)) == pytest.approx(discriminating)
    assert float(settings.fooling(target)) == pytest.approx(fooling)


def test_a_critic_whose_gradient_has_norm_one_pays_no_penalty() -> None:
    network = Line(1.0)
    judge = nn.Linear(1, 1, bias=False)
    about = Adversarial(Adversary(loss="wasserstein"), "source", lambda shape: judge)
    model = Model(nn.Identity(), Scale((1, 1), "none"), network)
    game = about.begin(model, [CrossEntropy()], context_with(network))
    for slope, expected in ((1.0, 0.0), (-3.0, 4.0)):
        nn.init.constant_(judge.weight, slope)
        found = game._penalty(torch.randn(3, 1), torch.randn(2, 1))
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_parts_have_the_cards_shapes_and_counts() -> None:
    with torch.device("meta"):
        kaggle = Network(Classifier(), (1, 64, 431), 10)
        x = torch.zeros(1, 1, 64, 431)
        shapes = []
        for block in kaggle.features[0].blocks:
            x = block(x)
            shapes.append(tuple(x.shape[1:]))
        dcase = Network(Classifier("dcase", dense=100, dropout=0.3), (1, 64, 431), 10)
        judges = [discriminator(one.shape) for one in (kaggle, dcase)]
    assert shapes == [(48, 30, 71), (128, 7, 11), (192, 7, 11), (192, 7, 11), (128, 3, 4)]
    assert dcase.shape == (128,)

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert [count(part) for one in (kaggle, dcase) for part in (one.features, one.classifier)] == [
        934_848, 461_834, 102_208, 13_910
    ]  # fmt: skip
    assert [count(judge) for judge in judges] == [97_297, 129]


def hidden(protocol: Protocol | None) -> tuple[Any, Splits]:
    dataset = data.load("synthetic_scenes", None)
    return dataset, make_splits(dataset, 0, protocol, hides=HIDES)


@pytest.mark.parametrize("by_paper", [False, True])
def test_hidden_labels_are_nowhere(by_paper: bool) -> None:
    protocol = ENTRY.protocol if by_paper else None
    dataset, splits = hidden(protocol)
    device = {clip.clip_id: clip.columns["device"] for clip in dataset.clips}
    for number in (*range(len(splits.folds)), None):
        seen = training_data(dataset, splits, number, "accuracy")
        assert {device[i] for i in seen.labelled.clip_ids} == {"a"}
        target = seen.unlabelled["unlabelled"]
        assert {device[i] for i in target.clip_ids} == {"b", "c"}
        assert target.targets is None
        if number is None:
            assert len(target) == 60
            continue
        assert seen.validation is not None
        assert {device[i] for i in seen.validation.clip_ids} == {"a"}
        assert len(target) < 60
        if not by_paper:  # nor is their place heard that validates
            place = {clip.clip_id: clip.group for clip in dataset.clips}
            judged = {place[i] for i in seen.validation.clip_ids}
            assert not judged & {place[i] for i in target.clip_ids}


def test_hidden_labels_decide_no_fold() -> None:
    """Whatever they are: the folds are the same."""
    dataset, splits = hidden(None)
    labels = dataset.labels["train"]
    device = {clip.clip_id: clip.columns["device"] for clip in dataset.clips}
    wrong = {i: "garden" if device[i] != "a" else value for i, value in labels.values.items()}
    other = replace(dataset, labels={"train": replace(labels, values=wrong)})
    assert make_splits(other, 0, hides=HIDES).folds == splits.folds
    protocol = replace(ENTRY.protocol, within=(LABEL, "device"))
    assert make_splits(other, 0, protocol).folds == make_splits(dataset, 0, protocol).folds


def test_a_class_of_which_all_labels_are_hidden_is_refused() -> None:
    dataset, _ = hidden(None)
    with pytest.raises(UserError, match="no training clip of class"):
        make_splits(dataset, 0, hides={"device": ("a", "b", "c")})


def test_streams_hold_as_many_of_each_domain() -> None:
    ids = tuple(map(str, range(10)))
    devices = "bbbbbbbccc"
    clips = {"unlabelled": ClipSet(ids, columns=tuple({"device": one} for one in devices))}
    model = Model(nn.Identity(), Scale((1, 1), "none"), nn.Identity())
    examples = hearing(ids).examples(model, ids, Context())
    streams = Streams("device", ("b", "c"))
    drawn = list(streams.rows(examples, clips, 4, 7, np.random.default_rng(0)))
    assert len(drawn) == 7
    for rows in drawn:
        assert [devices[row] for row in rows] == ["b", "b", "c", "c"]
    of_b = np.concatenate([rows[:2] for rows in drawn])
    assert sorted(of_b) == sorted([*range(7)] * 2)  # two passes
    with pytest.raises(UserError, match="'d' in its column 'device'"):
        next(Streams("device", ("d",)).rows(examples, clips, 2, 1, np.random.default_rng(0)))


def test_an_adaptation_begins_as_its_source_and_stays_on_its_scale() -> None:
    """With another's shapes it is refused."""
    shape, c = (1, 64, 188), Classifier("dcase", width=0.125, dense=8)
    one, other = (
        Model(nn.Identity(), Scale(shape, "clips"), Network(c, shape, 3)) for _ in range(2)
    )
    one.scale.mean.fill_(5.0)
    other.begin_as(one)
    assert torch.equal(other.scale.mean, one.scale.mean)
    for name, value in one.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value)
    examples: Any = None  # is not even looked at
    other.fit_scale(examples, Context())
    wider = Model(nn.Identity(), Scale(shape, "clips"), Network(replace(c, dense=9), shape, 3))
    with pytest.raises(UserError, match="classifier"):
        wider.begin_as(one)


def test_the_scale_of_clips_is_the_mean_of_their_own() -> None:
    r = np.random.default_rng(0)
    clips = [r.normal(3 * n, 1 + n, (1, 4, 50)).astype(np.float32) for n in range(3)]
    scale = Scale((1, 4, 50), "clips")
    scale.add(torch.from_numpy(np.stack(clips[:2])))
    scale.add(torch.from_numpy(clips[2][None]))
    scale.finish()
    means = np.mean([clip.mean(-1) for clip in clips], axis=0)
    deviations = np.mean([clip.std(-1) for clip in clips], axis=0)
    np.testing.assert_allclose(scale.mean[..., 0].numpy(), means, rtol=1e-5)
    np.testing.assert_allclose(scale.deviation[..., 0].numpy(), deviations, rtol=1e-5)


def test_impossible_values_are_refused() -> None:
    for wrong in ({"adversary.every": 0}, {"adversary.label_weight": -1.0}, {"network.width": 0.0}):
        with pytest.raises(UserError, match=r"at least|above 0"):
            configs.replace(ENTRY.config, wrong)


RUN = (
    "run", "--system", "adversarial_domain_adaptation", "--protocol", "paper", "--trials", "1",
    "--stack", "none", "--max-epochs", "3", "--set", "training.steps_per_epoch=3", "--set",
    "network.width=0.125", "--set", "adversary.every=2", *HERE, "--storage", "runs",
)  # fmt: skip


@pytest.mark.all
def test_killed_in_the_adversarial_stage_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """The source network is not trained again, and all is what it would have been."""
    done = faulty(
        tmp_path, (*RUN, "--name", "it"), fault("*/it/trials/*/checkpoint.pt.new", 2, "kill")
    )
    assert done.code == KILLED, done.output
    runs = tmp_path / "runs"
    (teacher,) = (path for path in runs.iterdir() if path.name.startswith("it."))
    before = {name: stat for name, stat in files(teacher).items() if "/model/" in name}
    assert before
    done = faulty(tmp_path, (*RUN, "--name", "it"))
    assert done.code == 0, done.output
    assert {name: stat for name, stat in files(teacher).items() if "/model/" in name} == before
    saves = [path for path in saved(RunDir(runs / "it")) if "/it/" in str(path)]
    assert len(saves) == 4  # of the second epoch twice
    soundsweep(*RUN, "--name", "whole", "--storage", "others", cwd=tmp_path)
    one, other = RunDir(runs / "it"), RunDir(tmp_path / "others" / "whole")
    assert fingerprint_of_run(one) == fingerprint_of_run(other)
    about = one.plan.splits
    assert about["hides"] == {"device": ["b", "c"]}
    subsets = {s for row in read_json(one.scores)["rows"] for s in row["subsets"]}
    assert {"device=a", "device=b+c"} <= subsets


def test_domains_that_the_data_lacks_are_missed_in_the_plan() -> None:
    asked = Options(
        system="asc_baseline_dcase2018", dataset="synthetic_scenes", set={"devices": ("a", "x")}
    )
    with pytest.raises(UserError, match="'device' is x, of which synthetic_scenes has none"):
        make_plan(asked)
    make_plan(replace(asked, set={"devices": ("a", "b")}))
