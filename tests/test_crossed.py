"""The search's own choice: rows are scored by epochs that other rows chose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stacked
from test_stacking_by_fusing import plan, scores_of  # noqa: F401  (a fixture)

from orchestrator.plan.plan import Plan
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.training.crossed import Worth, crossed_scores
from orchestrator.training.trial import best_step, eligible

EPOCHS, CLIPS = 20, 60


def noise(seed: int, folds: int) -> tuple[list[np.ndarray], Worth]:
    """Classes and, after each epoch, scores that know nothing of them; worth is the accuracy."""
    r = np.random.default_rng(seed)
    truth = [r.integers(2, size=CLIPS) for _ in range(folds)]
    epochs = [r.random((EPOCHS, CLIPS, 2)) for _ in range(folds)]

    def worth(fold: int, scores: np.ndarray, clips: np.ndarray | None) -> float:
        right = scores.argmax(axis=1) == truth[fold]
        return float(right.mean() if clips is None else right[clips].mean())

    return epochs, worth


@pytest.mark.parametrize(("folds", "keeps"), [(1, 1), (1, 3), (5, 1), (5, 3)])
def test_on_noise_the_value_is_chance_and_that_of_the_best_epoch_is_not(
    folds: int, keeps: int
) -> None:
    crossed, own = [], []
    for seed in range(40):
        epochs, worth = noise(seed, folds)
        best = [1 + int(np.argmax([worth(f, one, None) for one in e]))
                for f, e in enumerate(epochs)]  # fmt: skip
        said = crossed_scores(epochs, best, keeps, worth, np.arange(CLIPS) % 2)
        crossed.append(np.mean([worth(f, s, None) for f, s in enumerate(said)]))
        own.append(np.mean([worth(f, epochs[f][best[f] - 1], None) for f in range(folds)]))
    assert np.mean(own) > 0.58
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.03)


def test_the_member_to_beat_is_the_best_out_of_fold_whatever_the_search_says(
    plan: Plan,  # noqa: F811
    tmp_path: Path,
) -> None:
    members, targets = stacked.noisy(
        0, [3.0, 1.0, 2.0], members=3
    )  # the search put the worst first
    scores = scores_of("mean", plan, (members, targets), tmp_path)
    best = max(targets.worth(members.scores[:, m]) for m in range(3))
    gain = scores["out_of_fold"]["value"] - best
    assert scores["versus_best"]["value"] == pytest.approx(gain)


@pytest.mark.parametrize(("selects", "best"), [(None, 1), ("last", 3)])
def test_where_the_last_epoch_predicts_no_rows_choose_one(
    selects: str | None, best: int, tmp_path: Path
) -> None:
    trial = RunDir(tmp_path).trial(0)
    write_json(trial.config, {"params": {}})
    for step, value in ((1, 0.9), (2, 0.5), (3, 0.6)):
        trial.append_metrics(0, step, {"uar": value})
    system = SimpleNamespace(selects=selects, keeps=1)
    of: Any = SimpleNamespace(
        metric="uar", trial_config=lambda params: None,
        entry=lambda: SimpleNamespace(build=lambda config: system),
    )  # fmt: skip
    assert best_step(trial, 0, of) == best
    scores = np.arange(12.0).reshape(3, 4, 1)
    expected = scores if selects is None else scores[2:]
    np.testing.assert_array_equal(eligible([scores], trial, of)[0], expected)
