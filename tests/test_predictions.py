"""Predictions: every kind survives its file, and rows of other data are refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from systems.data.dataset import Event
from systems.errors import UserError
from systems.predictions import Predictions


def everything(fold: int = 0) -> Predictions:
    r = np.random.default_rng(fold)
    return Predictions.of(
        ("a", "b/ü"),
        ("Dog", "Cat"),
        fold,
        clip_scores=r.random((2, 2)),
        clip_values=r.random((2, 1)),
        frame_scores=(r.random((3, 2)), r.random((5, 2))),
        frame_values=(r.random((4, 1)), r.random((2, 1))),
        frame_hop=0.0415,
        events=((Event(0.1, 0.5, "Dog"),), ()),
        ranking=r.random((2, 7)),
        sequence=(("Dog", "Cat"), ()),
        clip_embeddings=r.random((2, 8)),
        frame_embeddings=(r.random((3, 4)), r.random((1, 4))),
    ).with_data(fingerprint="f", splits="s")


def assert_equal(one: Predictions, other: Predictions) -> None:
    for field in fields(Predictions):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        elif isinstance(a, tuple) and a and isinstance(a[0], np.ndarray):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        else:
            assert a == b, field.name


def test_every_kind_survives_its_file(tmp_path: Path) -> None:
    everything().save(tmp_path / "p.npz")
    assert_equal(Predictions.load(tmp_path / "p.npz"), everything())
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_missing_kinds_stay_missing(tmp_path: Path) -> None:
    Predictions.of(("a",), ("x",), clip_scores=np.ones((1, 1))).save(tmp_path / "p.npz")
    loaded = Predictions.load(tmp_path / "p.npz")
    assert loaded.events is None
    assert loaded.frame_scores is None


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    everything().save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)


def test_folds_pool_in_order() -> None:
    pooled = Predictions.concatenate([everything(0), everything(1)])
    assert pooled.fold.tolist() == [0, 0, 1, 1]
    assert pooled.clip_ids == ("a", "b/ü") * 2
    assert len(pooled.frame_scores or ()) == 4
    assert pooled.events == everything().events * 2  # type: ignore[operator]


def test_rows_of_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="different classes or data"):
        Predictions.concatenate([everything(), everything().with_data(fingerprint="g")])


def test_classes_in_another_order_are_refused() -> None:
    rows = Predictions.of(("a",), ("Dog", "Cat"), clip_scores=np.ones((1, 2)))
    with pytest.raises(UserError, match="different classes or data"):
        Predictions.concatenate([rows, replace(rows, classes=("Cat", "Dog"))])


def test_no_clips_survive_their_file(tmp_path: Path) -> None:
    empty = Predictions.of((), ("x",), clip_scores=np.zeros((0, 1)), frame_scores=(), events=())
    empty.save(tmp_path / "p.npz")
    assert_equal(Predictions.load(tmp_path / "p.npz"), empty)


def test_a_file_with_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", head=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Predictions.load(tmp_path / "p.npz")
