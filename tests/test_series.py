"""Labels that are a value at each step of a recording: truth, metrics, splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr

from systems import data
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.splits import clip_set, make_splits, training_data
from systems.errors import UserError
from systems.kinds import Truth, kind
from systems.metrics import clip_interval, clip_metric, metric, scored_by, searchable
from systems.predictions import Predictions

OUTPUTS = ("chest", "belly")


def recordings(*lengths: int, groups: int | None = None) -> Dataset:
    """Training recordings of so many steps of 0.04 s, two outputs; neighbours share a group."""
    r = np.random.default_rng(0)
    ids = [f"train_{i:02d}" for i in range(len(lengths))]
    group = [f"g{i % (groups or len(lengths))}" for i in range(len(lengths))]
    values = {i: r.normal(size=(n, 2)).cumsum(axis=0) for i, n in zip(ids, lengths, strict=True)}
    return replace(
        data.load("synthetic", None),
        classes=OUTPUTS,
        clips=tuple(
            Clip(i, "train", "labelled", g, 0.04 * n)
            for i, g, n in zip(ids, group, lengths, strict=True)
        ),
        labels={"train": Labels("series", values)},
        official_validation=None,
        label_hop=0.04,
    )


@pytest.fixture
def answered() -> tuple[Truth, tuple[np.ndarray, ...]]:
    """Three recordings of unequal length and level, and a noisy answer of each."""
    dataset = recordings(50, 20, 130)
    ids = tuple(clip.clip_id for clip in dataset.clips)
    labels = dataset.labels["train"]
    truth = kind("series").truth(labels, ids, OUTPUTS)
    r = np.random.default_rng(1)
    said = [0.3 * labels.values[i] + r.normal(size=labels.values[i].shape) + n
            for n, i in enumerate(ids)]  # fmt: skip
    return truth, tuple(said)


def test_rows_are_steps(answered: tuple[Truth, tuple[np.ndarray, ...]]) -> None:
    truth, _ = answered
    assert truth.values.shape == (200, 2)
    assert truth.lengths == (50, 20, 130)
    assert kind("series").decide is None
    clips = clip_set(recordings(4, 2), ("train_01", "train_00"))
    assert clips.targets is not None
    assert clips.lengths == (2, 4)
    np.testing.assert_array_equal(
        clips.targets[:2], recordings(4, 2).labels["train"].values["train_01"]
    )
    assert clip_set(data.load("synthetic", None), ("weak_0000",)).lengths is None


def test_metrics_of_series_are_the_libraries(
    answered: tuple[Truth, tuple[np.ndarray, ...]],
) -> None:
    truth, said = answered
    v = np.concatenate(said)
    pooled = np.mean([np.corrcoef(truth.values[:, d], v[:, d])[0, 1] for d in (0, 1)])
    parts = np.split(truth.values, [50, 70])
    within = np.mean([
        pearsonr(t[:, d], s[:, d]).statistic for t, s in zip(parts, said, strict=True)
        for d in (0, 1)
    ])  # fmt: skip
    assert pooled != pytest.approx(within, abs=0.02)
    predictions = Predictions.of(("a", "b", "c"), OUTPUTS, frame_values=said, frame_hop=0.04)
    expected = {"pcc": pooled, "mean_pcc": within,
                "rmse": np.mean(np.sqrt(((truth.values - v) ** 2).mean(axis=0)))}  # fmt: skip
    for name, value in expected.items():
        counts = metric(name).counts(truth, predictions)
        assert counts is not None
        assert len(counts) == 3  # of each clip: a bootstrap draws recordings
        assert metric(name).value(counts) == pytest.approx(value), name
        # Epoch scores are rows of steps.
        assert clip_metric(name, "series", truth.lengths)(truth.values, v) == pytest.approx(value)
        interval = clip_interval(name, truth.values, v, None, "series", truth.lengths)
        assert interval.low <= interval.value <= interval.high
    by_output = metric("mean_pcc").by_class
    assert by_output is not None
    np.testing.assert_allclose(by_output(counts).mean(), within)


def test_concordance_of_a_shifted_and_scaled_copy_is_the_closed_form() -> None:
    """Of v = a t + b: 2 a s² / (s² + a² s² + ((1 - a) m - b)²)."""
    t = np.random.default_rng(0).normal(2.0, 1.5, (300, 1))
    v, s2, m = 0.5 * t + 1.0, t.var(), t.mean()
    expected = 2 * 0.5 * s2 / (s2 + 0.25 * s2 + (0.5 * m - 1.0) ** 2)
    assert clip_metric("ccc", "series", (100, 200))(t, v) == pytest.approx(expected)
    assert clip_metric("pcc", "series", (100, 200))(t, v) == pytest.approx(1.0)
    assert clip_metric("mean_pcc", "series", (100, 200))(t, 0 * t) == 0.0


def test_a_series_is_answered_at_its_own_steps(
    answered: tuple[Truth, tuple[np.ndarray, ...]],
) -> None:
    truth, said = answered
    for other in (said[:2], (said[1], said[0], said[2]), np.concatenate(said)[1:]):
        with pytest.raises(UserError, match="instead of 200"):
            metric("pcc").count(truth, other)
    with pytest.raises(ValueError, match="lengths"):
        clip_metric("pcc", "series")(truth.values, np.concatenate(said))


def test_how_well_a_recording_is_answered_is_its_own_correlation(
    answered: tuple[Truth, tuple[np.ndarray, ...]],
) -> None:
    truth, said = answered
    close = kind("series").closeness(truth, said)
    assert close.shape == (3,)
    assert close[1] == pytest.approx(
        np.mean([pearsonr(truth.values[50:70, d], said[1][:, d]).statistic for d in (0, 1)])
    )
    assert kind("series").closeness(truth, tuple(0 * s for s in said)).tolist() == [0, 0, 0]


def test_what_series_are_scored_and_searched_by() -> None:
    assert [m.name for m in scored_by("series", "pcc")] == ["pcc", "mean_pcc", "ccc", "rmse"]
    assert set(searchable("series", ["frame_values"])) == {"pcc", "mean_pcc", "ccc", "rmse"}
    assert "mean_pcc" not in searchable("values", ["clip_values"])
    assert not metric("clip_macro_f1").fits("series")


def test_recordings_are_spread_evenly_and_groups_stay_whole() -> None:
    dataset = recordings(*range(10, 40), groups=12)
    group = {clip.clip_id: clip.group for clip in dataset.clips}
    splits = make_splits(dataset, seed=0)
    assert splits.notes == ()
    sizes = [len(fold.validation) for fold in splits.folds]
    assert max(sizes) - min(sizes) <= 2  # of groups of two and three
    for fold in splits.folds:
        assert not {group[i] for i in fold.train} & {group[i] for i in fold.validation}


def test_halves_of_a_series_keep_recordings_whole() -> None:
    dataset = recordings(*range(10, 40))
    seen = training_data(dataset, make_splits(dataset, seed=0), 0, "pcc")
    assert seen.kind == "series"
    assert seen.label_hop == 0.04
    assert seen.validation is not None
    assert seen.validation.lengths is not None
    assert seen.validation.targets is not None
    assert seen.halves is not None
    assert len(seen.halves) == len(seen.validation.targets) == sum(seen.validation.lengths)
    of_clip = [set(h) for h in np.split(seen.halves, np.cumsum(seen.validation.lengths)[:-1])]
    assert all(len(one) == 1 for one in of_clip)
    assert sorted(Counter(one.pop() for one in of_clip).values()) == [3, 3]


def test_values_of_clips_are_targets_too() -> None:
    dataset = recordings(*[1] * 10)
    values = {i: v[0] for i, v in dataset.labels["train"].values.items()}
    numbers = replace(dataset, labels={"train": Labels("values", values)})
    seen = training_data(numbers, make_splits(numbers, seed=0), 0, "pcc")
    assert seen.labelled.targets is not None
    assert seen.labelled.targets.shape == (8, 2)
    assert seen.labelled.lengths is None
