"""Reader and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from systems import data
from systems.data.dataset import Clip, ClipSet, Dataset, Labels
from systems.data.splits import make_splits, training_data
from systems.data.stratify import stratified_groups
from systems.errors import UserError


def load(folder: Path) -> Dataset:
    return data.load("dcase2018_task4", str(folder))


def test_the_reader_reads_parts_roles_and_label_kinds(task4_folder: Path) -> None:
    dataset = load(task4_folder)
    assert {part: len(dataset.part(part)) for part in dataset.parts()} == {
        "weak": 24, "unlabel_in_domain": 8, "unlabel_out_of_domain": 2, "test": 8, "eval": 2,
    }  # fmt: skip
    assert dataset.label_kind("weak") == "tags"
    assert dataset.label_kind("unlabel_in_domain") == "none"
    assert dataset.label_kind("test") == "events"
    assert {clip.role for clip in dataset.part("unlabel_out_of_domain")} == {"out_of_domain"}
    assert not {clip.part for clip in dataset.role("labelled")} & {"test", "eval"}
    assert load(task4_folder / "dataset").fingerprint() == dataset.fingerprint()


def test_test_labels_are_sealed_and_recorded_before_they_open(task4_folder: Path) -> None:
    dataset = load(task4_folder)
    assert "test" not in dataset.labels
    opened: list[str] = []
    labels = dataset.open_sealed("test", lambda: opened.append("test"))
    assert opened == ["test"]
    assert len(labels.values) == 8

    def full_disk() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        dataset.open_sealed("test", full_disk)


def test_every_unusable_file_is_named_at_once(task4_copy: Path) -> None:
    weak = sorted((task4_copy / "dataset/audio/train/weak").iterdir())
    weak[0].unlink()
    weak[1].write_bytes(b"")
    weak[2].write_bytes(b"no sound at all")
    with pytest.raises(UserError) as error:
        load(task4_copy)
    text = str(error.value)
    assert "audio files that cannot be used (3):" in text
    assert f"{weak[0].name}  is listed in metadata/train/weak.csv and missing" in text
    assert f"{weak[1].name}  is empty (0 bytes)" in text
    assert f"{weak[2].name}  is no audio file" in text


def test_wrong_labels_are_named_with_their_line(task4_copy: Path) -> None:
    table = task4_copy / "dataset/metadata/test/test.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("Alarm_bell_ringing", "Alarm_bell_rining").replace("0.450", "9.5")
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        load(task4_copy)
    assert "test.csv line 2" in str(error.value)
    assert "did you mean 'Alarm_bell_ringing'" in str(error.value)
    assert "does not lie in its clip" in str(error.value)


@pytest.mark.parametrize(
    ("folder", "message"),
    [(None, "--data"), ("nowhere", "does not exist"), (".", "holds no folder 'metadata'")],
)
def test_a_wrong_folder_says_what_was_expected(
    folder: str | None, message: str, tmp_path: Path
) -> None:
    given = None if folder is None else str(tmp_path / folder)
    with pytest.raises(UserError, match=message) as error:
        data.load("dcase2018_task4", given)
    assert "metadata/train/weak.csv" in str(error.value)


def test_a_missing_table_is_named(task4_copy: Path) -> None:
    (task4_copy / "dataset/metadata/train/weak.csv").unlink()
    with pytest.raises(UserError, match=r"weak\.csv is missing"):
        load(task4_copy)


def test_folds_are_disjoint_by_group_and_cover_every_clip_once(task4_folder: Path) -> None:
    dataset = load(task4_folder)
    splits = make_splits(dataset, seed=1)
    assert splits == make_splits(dataset, seed=1)
    validated = [i for fold in splits.folds for i in fold.validation]
    assert sorted(validated) == sorted(clip.clip_id for clip in dataset.role("labelled"))
    assert splits.searched == 5  # too few validation clips to trust one fold
    for fold in splits.folds:
        assert not set(fold.train) & set(fold.validation)


def test_stratified_groups_keeps_groups_whole_and_classes_even() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random((300, 6)) < 0.2).astype(np.float32)
    groups = [f"g{i // 3}" for i in range(300)]
    fold_of = stratified_groups(targets, groups, 5, seed=0)
    for group in set(groups):
        assert len({f for f, g in zip(fold_of, groups, strict=True) if g == group}) == 1
    share = np.stack([targets[fold_of == fold].sum(0) for fold in range(5)]) / targets.sum(0)
    assert np.abs(share - 0.2).max() < 0.06
    assert np.bincount(fold_of).min() >= 50


def test_an_official_validation_part_is_the_one_fold() -> None:
    dataset = data.load("synthetic", None)
    splits = make_splits(dataset, seed=0)
    assert len(splits.folds) == splits.searched == 1
    assert set(splits.folds[0].validation) == {c.clip_id for c in dataset.part("validation")}


def test_a_class_without_a_training_clip_is_named(task4_copy: Path) -> None:
    table = task4_copy / "dataset/metadata/train/weak.csv"
    table.write_text(table.read_text().replace("Frying", "Speech"))
    with pytest.raises(UserError, match="no training clip of class Frying"):
        make_splits(load(task4_copy), seed=0)


def test_training_data_shows_what_a_fold_may_see(task4_folder: Path) -> None:
    dataset = load(task4_folder)
    splits = make_splits(dataset, seed=0)
    fold = training_data(dataset, splits, 0)
    refit = training_data(dataset, splits, None)
    assert isinstance(fold.validation, ClipSet)
    assert fold.validation.clip_ids == splits.folds[0].validation
    assert refit.validation is None
    assert len(refit.labelled) == 24
    assert fold.unlabelled["unlabelled"].targets is None
    assert not any("test/" in i or "eval/" in i for i in (*refit.labelled.clip_ids,))


def test_seeds_draw_other_folds_and_few_groups_are_refused(task4_folder: Path) -> None:
    dataset = load(task4_folder)
    assert make_splits(dataset, seed=0).folds != make_splits(dataset, seed=1).folds
    with pytest.raises(UserError, match="2 groups of clips cannot make 5"):
        stratified_groups(np.ones((6, 1)), list("ababab"), 5, seed=0)


def test_clips_without_events_are_part_of_the_sealed_labels(task4_folder: Path) -> None:
    labels = load(task4_folder).open_sealed("eval", lambda: None)
    assert sorted(map(len, labels.values.values())) == [0, 2]


@pytest.mark.parametrize(
    ("table", "column"), [("train/weak", "event_labels"), ("test/test", "event_label")]
)
def test_a_missing_column_is_named(task4_copy: Path, table: str, column: str) -> None:
    path = task4_copy / "dataset/metadata" / f"{table}.csv"
    path.write_text(path.read_text().replace(column, "label", 1))
    with pytest.raises(UserError, match=f"has no column {column}"):
        load(task4_copy)


def test_a_clip_that_is_listed_twice_is_named(task4_copy: Path) -> None:
    path = task4_copy / "dataset/metadata/train/weak.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(UserError, match="more than once"):
        load(task4_copy)


# Splits of unequal classes


def labelled_set(labels: Sequence[str], groups: Sequence[str] | None = None) -> Dataset:
    """A data set of training clips alone."""
    ids = [f"c{i}" for i in range(len(labels))]
    clips = [
        Clip(i, "train", "labelled", group, 1.0)
        for i, group in zip(ids, groups or ids, strict=True)
    ]
    values = dict(zip(ids, labels, strict=True))
    return replace(
        data.load("synthetic", None),
        classes=tuple(sorted(set(labels))),
        clips=tuple(clips),
        labels={"train": Labels("class", values)},
        official_validation=None,
    )


def test_a_class_with_fewer_clips_than_folds_is_noted() -> None:
    splits = make_splits(labelled_set(["often"] * 20 + ["rare"] * 3), seed=0)
    assert splits.notes == ("class rare: 2 of 5 validation part(s) have no clip of it",)
    assert make_splits(labelled_set(["often"] * 20 + ["even"] * 5), seed=0).notes == ()


def test_a_class_that_some_fold_cannot_train_is_refused() -> None:
    groups = [f"g{i}" for i in range(20)] + ["one"] * 3
    with pytest.raises(UserError) as error:
        make_splits(labelled_set(["often"] * 20 + ["rare"] * 3, groups), seed=0)
    assert "class rare (3 training clip(s) in 1 group(s))" in str(error.value)
    assert "at least 2 examples, of two groups" in str(error.value)


def test_own_folds_are_checked_whoever_reads_them() -> None:
    dataset = labelled_set(["x"] * 4)
    own = replace(dataset, folds={"c0": "b", "c1": "a", "c2": "b", "c3": "a"})
    splits = make_splits(own, seed=0)
    assert splits.protocol == "own folds"
    assert [fold.validation for fold in splits.folds] == [("c1", "c3"), ("c0", "c2")]
    with pytest.raises(UserError, match="c3: has no fold"):
        make_splits(replace(dataset, folds={"c0": "b", "c1": "a", "c2": "b"}), seed=0)
