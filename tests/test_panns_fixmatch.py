"""FixMatch by hand: which labels are hidden, which views count, and what their loss is."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import run_in_process
from made_sets import urbansound8k
from test_workers import hearing, toy
from torch import Tensor, nn

from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from systems import config as configs
from systems import data, registry
from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData, make_splits, training_data
from systems.errors import UserError
from systems.outputs import Outputs
from systems.training.labelling import Hidden
from systems.training.losses import ClipBce, CrossEntropy, FixMatch, Step
from systems.training.masking import Drops
from systems.training.mixing import Batch, Mixed, Mixing
from systems.training.settings import Training
from systems.training.supervised import Recipe, fit
from systems.training.views import Seen, TwoViews

WEAK = ((0.8, 0.1, 0.1), (0.3, 0.6, 0.1), (0.05, 0.05, 0.9), (0.1, 0.75, 0.15))
STRONG = ((0.5, 0.25, 0.25), (0.1, 0.1, 0.8), (0.2, 0.6, 0.2), (0.25, 0.5, 0.25))


def fixmatch(mixed: Mixed | None = None, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the gradients of both views' logits."""
    weak, strong = (torch.tensor(p).log().requires_grad_() for p in (WEAK, STRONG))
    step = Step(nn.Identity(), weak, weak, Outputs(weak), None, None, Seen(weak, strong, mixed))
    loss = FixMatch(**settings)(step)
    loss.backward()
    assert strong.grad is not None
    return loss.detach(), torch.zeros(1) if weak.grad is None else weak.grad, strong.grad


def test_the_loss_is_of_the_views_that_are_sure_over_all() -> None:
    # At 0.75 the first, third and fourth weak views are sure (0.8, 0.9, 0.75), of 0, 2 and 1.
    loss, of_weak, of_strong = fixmatch(threshold=0.75, weight=0.5)
    expected = 0.5 * -(np.log(0.5) + np.log(0.2) + np.log(0.5)) / 4
    assert float(loss) == pytest.approx(expected)
    assert not of_weak.any()
    assert [bool(row.any()) for row in of_strong] == [True, False, True, True]
    loss, _, of_strong = fixmatch(threshold=0.95, weight=0.5)
    assert float(loss) == 0
    assert not of_strong.any()


def test_a_mixed_view_counts_where_both_of_its_clips_are_sure() -> None:
    # 0 with 2 (both sure), 1 with 0 (1 is not), 2 with 1 (1 is not), 3 with itself.
    mixed = Mixed(torch.tensor([0.9, 0.7, 0.6, 0.8]), torch.tensor([2, 0, 1, 3]))
    loss, _, _ = fixmatch(mixed, threshold=0.75, weight=1.0)
    zero = 0.9 * np.log(0.5) + 0.1 * np.log(0.25)  # named 0, its partner 2
    assert float(loss) == pytest.approx(-(zero + np.log(0.5)) / 4)


def test_smoothed_targets_are_spread_over_all_classes() -> None:
    logits, targets = torch.tensor([STRONG[1]]).log(), torch.tensor([[0.0, 0.0, 1.0]])
    step = Step(nn.Identity(), logits, targets, Outputs(logits), None)
    spread = 0.1 / 3
    expected = -(2 * spread * np.log(0.1) + (0.9 + spread) * np.log(0.8))
    assert float(CrossEntropy(0.1)(step)) == pytest.approx(expected)


def test_views_are_of_the_same_clips_and_mixed_towards_each() -> None:
    x = torch.randn(50, 1, 16, 80) + torch.arange(16.0)[:, None]
    strong = Drops(bands=8, band_drops=2, frames=40, frame_drops=2)
    made = TwoViews(Drops(2, 1, 4, 1), strong, Mixing(0.4, "sample", dominant=True))
    views = made.of(x, np.random.default_rng(0))
    assert views.mixed is not None
    assert float(views.mixed.share.min()) >= 0.5
    plain = replace(made, mixing=None).of(x, np.random.default_rng(0))
    torch.testing.assert_close(views.weak, plain.weak)
    torch.testing.assert_close(views.strong, views.mixed(plain.strong))
    changed = [float((view != x).float().mean()) for view in (plain.weak, plain.strong)]
    assert 0 < changed[0] < changed[1]
    again = made.of(x, np.random.default_rng(0))
    assert torch.equal(views.strong, again.strong)


def test_mixup_without_dominance_draws_as_before() -> None:
    x = torch.randn(6, 1, 2, 3)
    batch = Batch(x, torch.eye(6), None)
    found = Mixing(0.4)(batch, np.random.default_rng(5)).features
    generator = np.random.default_rng(5)
    share, partner = generator.beta(0.4, 0.4, 1)[0], generator.permutation(6)
    torch.testing.assert_close(found, (share * x + (1 - share) * x[partner]).float())


class Spy(FixMatch):
    """Keeps what it saw."""

    def __call__(self, step: Step) -> Tensor:
        self.step = step
        return super().__call__(step)


def test_both_views_go_through_the_network_beside_the_labelled_clips() -> None:
    ids = tuple(map(str, range(12)))
    known = TrainingData(
        ("a", "b"), ClipSet(ids[:4], np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]), None,
        {"unlabelled": ClipSet(ids[4:])},
    )  # fmt: skip
    spy = Spy(0.0)
    training = Training(1, labelled=2, unlabelled=4, over="unlabelled", patience=None)
    recipe = Recipe([ClipBce(), spy], training, views=TwoViews(Drops(), Drops()))
    history, _ = fit(toy(), recipe, hearing(ids), known, Context())
    assert spy.step.outputs.clip is not None
    assert spy.step.views is not None
    sizes = [len(x) for x in (spy.step.outputs.clip, spy.step.views.weak, spy.step.views.strong)]
    assert sizes == [2, 4, 4]
    assert {"loss", "clip_bce", "fixmatch"} <= history.metrics[0].keys()
    bare = replace(known, unlabelled={"unlabelled": ClipSet(())})
    with pytest.raises(UserError, match="unlabelled clips"):
        fit(toy(), recipe, hearing(ids), bare, Context())


# Labels that are hidden


def folds(tmp_path: Path) -> tuple[Any, Any]:
    urbansound8k(tmp_path)
    dataset = data.load("urbansound8k", str(tmp_path))
    return dataset, make_splits(dataset, 0)


def fold_of(dataset: Any, ids: Any) -> set[int]:
    about = {clip.clip_id: clip.columns["fold"] for clip in dataset.clips}
    return {about[i] for i in ids}


def test_the_fold_after_the_one_that_validates_has_labels(tmp_path: Path) -> None:
    dataset, splits = folds(tmp_path)
    for place in range(10):
        told = Hidden()(training_data(dataset, splits, place), Context())
        assert told.validation is not None
        (judged,) = fold_of(dataset, told.validation.clip_ids)
        assert judged == place + 1
        assert fold_of(dataset, told.labelled.clip_ids) == {judged % 10 + 1}
        hidden = told.unlabelled["unlabelled"]
        assert fold_of(dataset, hidden.clip_ids) == {*range(1, 11)} - {judged, judged % 10 + 1}
        assert hidden.targets is None
        assert told.labelled.targets is not None
        assert len(told.labelled.targets) == 4
    three = Hidden(keep=3)(training_data(dataset, splits, 8), Context())
    assert fold_of(dataset, three.labelled.clip_ids) == {10, 1, 2}
    refit = Hidden()(training_data(dataset, splits, None), Context())
    assert fold_of(dataset, refit.labelled.clip_ids) == {1}


def test_the_plan_knows_which_column_hides_labels() -> None:
    entry = registry.get("panns_fixmatch")
    assert [column.name for column in entry.build(entry.config).columns] == ["fold"]
    assert entry.build(configs.replace(entry.config, {"labelled_folds": 0})).columns == ()


def test_the_100_percent_are_all_folds_that_train() -> None:
    entry = registry.get("panns_fixmatch/panns_ft")
    figure = next(f for f in entry.figures if f.variant == "supervised, 100% labels")
    assert not entry.build(configs.replace(entry.config, figure.overrides)).labelling
    assert entry.build(entry.config).labelling == [Hidden("fold", 1)]


# UrbanSound8K


def test_its_folds_are_the_official_ones_and_a_recording_is_a_group(tmp_path: Path) -> None:
    dataset, splits = folds(tmp_path)
    assert (len(dataset.clips), dataset.test_part, splits.protocol) == (40, None, "own folds")
    assert [fold_of(dataset, f.validation) for f in splits.folds] == [{n} for n in range(1, 11)]
    assert Counter(Counter(clip.group for clip in dataset.clips).values()) == {2: 20}
    assert dataset.classes == ("dog_bark", "siren")


def test_faults_of_the_table_are_named_at_once(tmp_path: Path) -> None:
    urbansound8k(tmp_path)
    (tmp_path / "audio/fold3/303-3-0-1.wav").unlink()
    (tmp_path / "audio/fold2/stranger.wav").write_bytes(b"")
    table = (tmp_path / "metadata/UrbanSound8K.csv").read_text()
    table = table.replace("1,4,3,dog_bark", "1,11,3,dog_bark", 1).replace(",siren", ",sirene", 1)
    (tmp_path / "metadata/UrbanSound8K.csv").write_text(table)
    with pytest.raises(UserError) as told:
        data.load("urbansound8k", str(tmp_path))
    for part in ("303-3-0-1.wav", "stranger.wav", "'11' is no fold", "'sirene' is no class"):
        assert part in str(told.value)


def test_a_sound_in_two_folds_is_refused_or_left_out(tmp_path: Path) -> None:
    urbansound8k(tmp_path)
    audio = tmp_path / "audio"
    (audio / "fold7/703-3-0-1.wav").write_bytes((audio / "fold2/203-3-0-0.wav").read_bytes())
    with pytest.raises(UserError, match=r"the same sound lies in two folds.*--skip-shared"):
        data.load("urbansound8k", str(tmp_path))
    dataset = data.load("urbansound8k", str(tmp_path), skip_shared=True)
    assert len(dataset.clips) == 39
    assert "train/703-3-0-1.wav" in next(n for n in dataset.notes if "another fold" in n)
    (group,) = {c.group for c in dataset.clips if c.clip_id.startswith("train/703-3")}
    assert group == "703"  # what else is of that recording stays where it is
    assert len(make_splits(dataset, 0).folds) == 10


@pytest.mark.skipif("SOUNDSWEEP_MINI_SETS" not in os.environ, reason="no folder is named")
def test_the_mini_set() -> None:
    folder = Path(os.environ["SOUNDSWEEP_MINI_SETS"]) / "urbansound8k_mini"
    dataset = data.load("urbansound8k", str(folder))
    assert Counter(clip.columns["fold"] for clip in dataset.clips) == dict.fromkeys(
        range(1, 11), 10
    )
    assert len(dataset.classes) == 10


@pytest.mark.all
def test_a_run_ends_with_the_figures_of_ten_folds(tmp_path: Path) -> None:
    urbansound8k(tmp_path / "set", 0.8)
    run = run_in_process(Options(
        system="panns_fixmatch", dataset="urbansound8k", data=str(tmp_path / "set"), trials=1,
        stack="none", budget="quick", max_epochs=1, storage=str(tmp_path / "runs"), name="ten",
        set={"width": "2", "training.steps_per_epoch": "1"}, mlflow="none", ray_address="none",
    ))  # fmt: skip
    results = read_json(run.path / "results.json")
    ours = {(row["system"], row["variant"], row["metric"]): row for row in results["paper"]}
    main = ours["panns_fixmatch", "semi-supervised, 10% labels", "accuracy"]
    assert main["ours"] is not None
    assert ours["panns_fixmatch", "semi-supervised, 10% labels", "auc"]["ours"] is not None
