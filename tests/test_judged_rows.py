"""Rows that count: they choose epochs, trials and members and score, while all are predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakedata import events_of, registered
from inprocess import run_in_process
from reported import Page
from sklearn.metrics import accuracy_score
from stacked import noisy

from orchestrator.members.seen import Targets
from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan, reload
from orchestrator.runs.counts import load_counts
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.crossfit import outer_folds
from orchestrator.stacking.families import learner
from systems import data, registry
from systems.data.protocol import Protocol
from systems.data.splits import make_splits, training_data
from systems.errors import UserError
from systems.metrics import clip_metric
from systems.predictions import Predictions
from systems.training.history import History

PAPER = Protocol(
    folds=4, grouped="clip", strata=("verified",), judged={"verified": (1,)}, final="fold_mean"
)
CLIPS = 40
VERIFIED = [n for n in range(CLIPS) if n % 4 < 2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
        entry = replace(registry.get("fakepaper/classes"), protocol=PAPER)
        patch.setitem(registry._ENTRIES, "fakepaper/classes", entry)
        sets = registered(patch)
        sets.add("doubtful", {"train": (CLIPS, "class")}, ())
        yield tmp_path_factory.mktemp("runs")


def options(root: Path, protocol: str) -> Options:
    return Options(
        system="fakepaper/classes", dataset="doubtful", storage=str(root), name=protocol,
        protocol=protocol, trials=2, top_k=2, stack="mean,logreg", budget="paper",
        set={"training.learning_rate": 0.02},
    )  # fmt: skip


def accuracy(said: Predictions, numbers: list[int]) -> float:
    assert said.clip_scores is not None
    best = dict(zip(said.clip_ids, said.clip_scores.argmax(axis=1), strict=True))
    ids = [f"train_{n:02d}" for n in numbers if f"train_{n:02d}" in best]
    return float(accuracy_score([events_of(i)[0].label for i in ids],
                                [("low", "high")[best[i]] for i in ids]))  # fmt: skip


@pytest.mark.parametrize("protocol", ["honest", "paper"])
def test_what_counts_chooses_and_scores_and_all_is_predicted(protocol: str, root: Path) -> None:
    run: RunDir = run_in_process(options(root, protocol))
    plan, verified = run.plan, {f"train_{n:02d}" for n in VERIFIED}
    folds = 4 if protocol == "paper" else 5
    assert len(plan.splits["folds"]) == plan.splits["searched"] == folds
    assert plan.splits["judged"] == {"verified": [1]}
    assert plan.stage.final == ("fold_mean" if protocol == "paper" else "refit")
    for member in read_json(run.members)["members"]:
        trial = run.trial(member["trial"])
        parts = [Predictions.load(trial.predictions(fold)) for fold in range(folds)]
        whole = Predictions.concatenate(parts)
        assert len(whole.clip_ids) == CLIPS
        value = read_json(trial.result)["value"]  # by epochs that other folds chose
        assert value == pytest.approx(member["out_of_fold"]["value"])
        curve = [line["accuracy"] for line in trial.read_metrics() if line["fold"] == 0]
        assert max(curve) == pytest.approx(accuracy(parts[0], VERIFIED))
    counted, _, rows = load_counts(run.validation_counts)
    assert set(counted) == verified
    assert all(len(counts) == len(verified) for row in rows for counts in row.counts.values())
    for row in read_json(run.results)["stack"]:
        fused = Predictions.load(run.stack(row["name"]) / "out_of_fold.npz")
        assert len(fused.clip_ids) == CLIPS
        assert row["out_of_fold"]["value"] == pytest.approx(accuracy(fused, VERIFIED))
    assert (
        "metrics are of clips with verified 1" in Page((run.report / "index.html").read_text()).text
    )
    again, splits = reload(RunDir(run.path).plan)  # as a resumed run reads it
    assert (again.name, splits.judged) == ("doubtful", {"verified": [1]})


def test_an_epoch_is_chosen_by_what_counts(root: Path) -> None:
    """The first epoch is right on what counts and nowhere else, the second the other way round."""
    dataset = data.load("doubtful", None)
    seen = training_data(dataset, make_splits(dataset, 0, PAPER), 0, "accuracy")
    assert seen.validation is not None
    truth, counts = seen.validation.targets, seen.validation.judged
    assert truth is not None
    assert counts is not None
    assert 0 < counts.sum() < len(counts)
    history, frames = History(), tuple(np.zeros((2, 2), np.float32) for _ in counts)
    right = np.where(counts[:, None], truth, 1 - truth).astype(np.float32)
    values = [
        history.judge(epoch, Predictions.of(seen.validation.clip_ids, seen.classes,
                                            clip_scores=scores, frame_scores=frames), seen)
        for epoch, scores in ((1, right), (2, 1 - right))
    ]  # fmt: skip
    assert values == [1.0, 0.0]
    assert history.crossed_step == 1
    assert [history.choose(epoch, value, 1) for epoch, value in enumerate(values, 1)] == [
        True, False
    ]  # fmt: skip
    assert history.crossed_worths == [1.0, 1.0]
    np.testing.assert_array_equal(np.stack([row.numpy() for row in history.crossed_clips]), right)


def test_paper_and_default_split_otherwise_and_the_seed_is_heeded(root: Path) -> None:
    plans = {
        (protocol, seed): make_plan(replace(options(root, protocol), seed=seed, name=None))[0]
        for protocol in ("honest", "paper") for seed in (0, 1)
    }  # fmt: skip
    digests = {plan.splits["digest"] for plan in plans.values()}
    assert len(digests) == 4
    assert plans["paper", 0].split_by == PAPER
    assert plans["honest", 0].split_by is None


def test_data_without_the_column_is_judged_whole_unless_the_paper_is_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(PAPER, strata=(), judged={"checked": (1,)})
    entry = replace(registry.get("fakepaper/classes"), protocol=other)
    monkeypatch.setitem(registry._ENTRIES, "fakepaper/classes", entry)
    plan = make_plan(options(root, "honest"))[0]
    assert plan.splits["judged"] == {}
    assert any("'checked'" in note for note in plan.notes)
    with pytest.raises(UserError, match="column 'checked'"):
        make_plan(options(root, "paper"))


def test_a_learner_fits_on_all_rows_and_is_worth_what_it_does_on_those_that_count() -> None:
    members, targets = noisy(0, clips=200, kind="class")
    judged = np.arange(200) % 3 == 0
    weights = np.where(np.arange(200) % 5 == 0, 0.0, 1.0)
    some: Targets = replace(targets, judged=judged, weights=weights)
    scores: Any = members.scores[:, 0]
    counted = judged & (weights > 0)
    value = clip_metric("accuracy", "class")
    assert some.worth(scores) == value(targets.values[counted], scores[counted])
    assert some.rows(judged).counted().sum() == counted.sum()
    fold = outer_folds(some, 0)
    inside = [int((judged & (fold == f)).sum()) for f in range(5)]
    assert max(inside) - min(inside) <= 5  # one of each class
    of_all, of_judged = learner("logreg"), learner("logreg")
    of_all.fit(members, replace(some, weights=np.ones(200)), 0)
    of_judged.fit(members.rows(judged), targets.rows(judged), 0)
    whole = learner("logreg")
    whole.fit(members, targets, 0)
    assert of_all.state() == whole.state() != of_judged.state()
