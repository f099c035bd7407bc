"""Papers' protocols: the folds that they make, the clips that count, and what data must have."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from systems import data
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.protocol import Protocol, judged_by
from systems.data.splits import Fold, make_splits, training_data
from systems.errors import UserError

GCNN = Protocol(
    folds=5, grouped="clip", strata=("manually_verified",), judged={"manually_verified": (1,)}
)
NNF = Protocol(hold_out=0.3, within=("label", "city"))
MASK = Protocol(folds=10, grouped="clip", of=("train", "devel"), final="fold_mean")
BREATH = Protocol(folds=4, of=("devel", "train"), shuffled=False)


def made(clips: Iterable[tuple[str, str, Any, dict[str, Any]]], kind: str = "class") -> Dataset:
    """A data set of (part, group, label, columns)."""
    rows = list(clips)
    parts = dict.fromkeys(part for part, *_ in rows)
    ids = [f"{part}_{n:04d}" for n, (part, *_) in enumerate(rows)]
    values: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for clip_id, (part, _, label, _) in zip(ids, rows, strict=True):
        values[part][clip_id] = label
    names = {label for _, _, label, _ in rows} if kind == "class" else {"belt"}
    return Dataset(
        "made", "any", tuple(sorted(names)),
        tuple(Clip(i, part, "labelled", group, 1.0, columns)
              for i, (part, group, _, columns) in zip(ids, rows, strict=True)),
        {part: Labels(kind, values[part]) for part in parts},  # type: ignore[arg-type]
        {}, {}, source=None, test_part=None,  # type: ignore[arg-type]
        official_validation="devel" if "devel" in parts else None,
    )  # fmt: skip


def noisy_labels() -> Dataset:
    r = np.random.default_rng(0)
    return made(
        ("train", f"sound{n // 2}", str(r.choice(list("abcdefg"), p=np.arange(1, 8) / 28)),
         {"manually_verified": int(r.random() < 0.4)})
        for n in range(1040)
    )  # fmt: skip


def column(dataset: Dataset, name: str) -> dict[str, str]:
    return {c.clip_id: str(c.columns.get(name)) for c in dataset.clips}


def check_partition(dataset: Dataset, folds: Iterable[Fold]) -> None:
    every = {clip.clip_id for clip in dataset.clips}
    validated = [i for fold in folds for i in fold.validation]
    assert sorted(validated) == sorted(every)
    for fold in folds:
        assert {*fold.train} == every - {*fold.validation}


def test_folds_spread_classes_and_a_column_and_count_verified_clips_alone() -> None:
    dataset = noisy_labels()
    splits = make_splits(dataset, 0, GCNN)
    assert len(splits.folds) == 5
    check_partition(dataset, splits.folds)
    verified, label = column(dataset, "manually_verified"), dataset.labels["train"].values
    cells = Counter((label[i], verified[i]) for i in verified)
    for fold in splits.folds:
        inside = Counter((label[i], verified[i]) for i in fold.validation)
        for cell, clips in cells.items():
            assert clips // 5 <= inside[cell] <= -(-clips // 5), cell
    seen = training_data(dataset, splits, 0, "map_at_3")
    assert seen.validation is not None
    assert seen.validation.judged is not None
    ids = seen.validation.clip_ids
    assert seen.validation.judged.tolist() == [verified[i] == "1" for i in ids]
    assert [row["manually_verified"] for row in seen.labelled.columns] == [
        int(verified[i]) for i in seen.labelled.clip_ids
    ]
    assert seen.halves is not None
    counted = [int(seen.validation.judged[seen.halves == half].sum()) for half in (0, 1)]
    assert abs(counted[0] - counted[1]) <= 7  # one of each class at most


def test_the_honest_default_keeps_groups_and_counts_the_same_clips() -> None:
    dataset = noisy_labels()
    judged, note = judged_by(dataset, GCNN, strict=False)
    splits = make_splits(dataset, 0, judged=judged)
    assert (splits.protocol, dict(splits.judged), note) == (
        "folds",
        {"manually_verified": (1,)},
        "",
    )
    group = {c.clip_id: c.group for c in dataset.clips}
    for fold in splits.folds:
        assert not {group[i] for i in fold.train} & {group[i] for i in fold.validation}
    assert splits.searched == 5  # 80 verified clips in a fold are too few, 200 clips were enough
    assert make_splits(dataset, 0).searched == 1


def scenes() -> Dataset:
    r = np.random.default_rng(1)
    places = [
        (scene, city, f"{city}-{scene}-{n}")
        for scene in ("park", "tram")
        for city in ("wien", "graz", "linz")
        for n in range(3 if city == "wien" else 7)
    ]
    places.append(("tram", "steyr", "steyr-tram-0"))
    return made(
        ("train", place, scene, {"city": city})
        for scene, city, place in places for _ in range(int(r.integers(2, 9)))
    )  # fmt: skip


def test_a_hold_out_takes_its_share_of_the_places_of_each_scene_and_city() -> None:
    dataset = scenes()
    (fold,) = make_splits(dataset, 0, NNF).folds
    assert {*fold.train} | {*fold.validation} == {c.clip_id for c in dataset.clips}
    about = {c.clip_id: c for c in dataset.clips}
    scene = dataset.labels["train"].values

    def places(ids: Iterable[str]) -> set[tuple[str, str, str]]:
        return {(scene[i], about[i].columns["city"], about[i].group) for i in ids}

    train, held = places(fold.train), places(fold.validation)
    assert not train & held
    cells = Counter((s, c) for s, c, _ in held)
    assert cells == {(s, c): 1 if c == "wien" else 2
                     for s in ("park", "tram") for c in ("wien", "graz", "linz")}  # fmt: skip
    assert ("tram", "steyr", "steyr-tram-0") in train  # a single place of a city trains


def test_folds_are_halves_of_two_parts_of_clips_that_may_share_speakers() -> None:
    dataset = made(
        (part, f"speaker{n % 8}", ("clear", "mask")[int(n % 11 < 5)], {})
        for part, clips in (("train", 210), ("devel", 290)) for n in range(clips)
    )  # fmt: skip
    splits = make_splits(dataset, 0, MASK)
    assert len(splits.folds) == 10
    check_partition(dataset, splits.folds)
    labels = {**dataset.labels["train"].values, **dataset.labels["devel"].values}
    for number, fold in enumerate(splits.folds):
        part, clips = ("train", 210) if number < 5 else ("devel", 290)
        assert {i.split("_")[0] for i in fold.validation} == {part}
        assert len(fold.validation) == clips // 5
        masks = sum(labels[i] == "mask" for i in fold.validation)
        of_part = sum(labels[c.clip_id] == "mask" for c in dataset.part(part))
        assert of_part // 5 <= masks <= -(-of_part // 5)


def test_unshuffled_folds_are_contiguous_parts_of_whole_recordings() -> None:
    dataset = made(
        ((part, f"{part}{n}", 0.0, {}) for part, clips in (("train", 17), ("devel", 16))
         for n in range(clips) for _ in range(2)), "values",
    )  # fmt: skip
    splits = make_splits(dataset, 0, BREATH)
    check_partition(dataset, splits.folds)
    group = {c.clip_id: c.group for c in dataset.clips}
    found = [list(dict.fromkeys(group[i] for i in fold.validation)) for fold in splits.folds]
    assert found == [
        [f"devel{n}" for n in range(8)], [f"devel{n}" for n in range(8, 16)],
        [f"train{n}" for n in range(8)], [f"train{n}" for n in range(8, 17)],
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", [GCNN, NNF, MASK, BREATH])
def test_a_seed_changes_what_is_shuffled_alone(protocol: Protocol) -> None:
    dataset = made(
        (part, f"g{n // 3}", "ab"[n % 2], {"city": f"city{n // 30}", "manually_verified": n % 2})
        for part in ("train", "devel") for n in range(90)
    )  # fmt: skip
    splits = [make_splits(dataset, seed, protocol).folds for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert (splits[0] != splits[2]) == protocol.shuffled


def test_what_the_data_lacks_is_named() -> None:
    plain = made(("train", f"g{n}", "ab"[n % 2], {"device": "a"}) for n in range(40))
    with pytest.raises(UserError, match="folds of the part 'devel', which made does not have"):
        make_splits(plain, 0, MASK)
    with pytest.raises(UserError, match="column 'city', which the clips do not have"):
        make_splits(plain, 0, NNF)
    with pytest.raises(UserError, match="column 'manually_verified'"):
        make_splits(plain, 0, GCNN)
    with pytest.raises(UserError, match="column 'manually_verified'"):
        judged_by(plain, GCNN, strict=True)
    judged, note = judged_by(plain, GCNN, strict=False)
    assert judged == {}
    assert "'manually_verified'" in note
    with pytest.raises(UserError, match="no clip that counts"):
        make_splits(plain, 0, judged={"device": ("b",)})


@pytest.mark.parametrize(
    "values",
    [{"folds": 1}, {"folds": 5, "of": ("train", "devel")}, {"hold_out": 1.0}, {"within": ("city",)},
     {"hold_out": 0.3, "strata": ("city",)}, {"shuffled": False, "strata": ("city",)},
     {"strata": "city"}],
)  # fmt: skip
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Protocol(**values)


@pytest.mark.skipif("SOUNDSWEEP_MINI_SETS" not in os.environ, reason="needs the mini data sets")
def test_the_protocols_split_the_papers_data() -> None:
    folder = os.environ["SOUNDSWEEP_MINI_SETS"]
    kaggle = data.load("fsdkaggle2018", f"{folder}/fsdkaggle2018_mini")
    splits = make_splits(kaggle, 0, GCNN)
    verified = column(kaggle, "manually_verified")
    counts = [sum(verified[i] == "1" for i in fold.validation) for fold in splits.folds]
    assert sum(counts) == 86
    assert max(counts) - min(counts) <= 6
    mobile = data.load("tut2018_mobile", f"{folder}/tut2018_mobile_mini")
    with pytest.raises(UserError, match="hold-out"):  # a place a scene
        make_splits(mobile, 0, NNF)
    scenes_ = data.load("tut2018", f"{folder}/tut2018_mini")
    (fold,) = make_splits(scenes_, 0, Protocol(hold_out=0.3, within=("label",))).folds
    place = {c.clip_id: c.group for c in scenes_.clips}
    assert not {place[i] for i in fold.train} & {place[i] for i in fold.validation}
    assert len({place[i] for i in fold.validation}) == 4
