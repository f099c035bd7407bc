"""What single public sets have of their own, and small sets of real sounds in their layouts."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sets import (
    CASES,
    FOLDS,
    FSD_SCORED,
    Case,
    breathing,
    edit,
    fsdkaggle2018,
    mask,
    refusal,
    scenes,
    sound,
    table,
)

from systems import data
from systems.data.dataset import Dataset
from systems.errors import UserError
from systems.predictions import Predictions

# --- FSDKaggle2018 ---


def test_leaderboards_come_with_the_sealed_labels_and_padding_is_left_out(tmp_path: Path) -> None:
    fsdkaggle2018(tmp_path)
    sound(tmp_path / "FSDKaggle2018.audio_test/padding.wav")
    dataset = data.load("fsdkaggle2018", str(tmp_path))
    assert any("padding" in note for note in dataset.notes)
    labels = dataset.open_sealed("test", lambda: None)
    usage = Counter(columns["usage"] for columns in labels.columns.values())
    assert usage == {"Public": 1, "Private": 3}
    assert sum(clip.columns["manually_verified"] for clip in dataset.part("train")) == 4
    edit(
        (tmp_path / FSD_SCORED).rename(tmp_path / FSD_SCORED.replace("_scoring_clips", "")),
        lambda lines: [*lines, "padding.wav,None,Ignored,7,Attribution"],
    )
    kaggle = data.load("fsdkaggle2018", str(tmp_path))
    assert kaggle.clips == dataset.clips
    assert kaggle.open_sealed("test", lambda: None) == labels


# --- TUT Urban Acoustic Scenes 2018 ---


@pytest.mark.parametrize("case", CASES[1:3], ids=lambda case: case.name)
def test_lists_that_contradict_the_table_are_told(case: Case, tmp_path: Path) -> None:
    root = tmp_path
    case.make(root)
    train, test = (root / path for path in FOLDS)
    lines = train.read_text().splitlines()
    first, last = (lines[i].split("\t")[0] for i in (0, -1))
    edit(train, lambda lines: [lines[0].replace("\tbus", "\ttram"), *lines[1:]])
    edit(test, lambda rows: [*rows, lines[0], "audio/nowhere.wav\tbus"])
    text = refusal(case, root)
    assert f"{FOLDS[0]} line 1: 'tram' is not what meta.csv line 2 says" in text
    assert f"{first} trains too ({FOLDS[0]} line 1)" in text
    assert "no row of meta.csv is of audio/nowhere.wav" in text
    table(train, [line.split("\t") for line in lines[:-1]], "\t")
    edit(test, lambda rows: rows[:-2])
    text = refusal(case, root)
    assert f"{last} is in no list" in text
    edit(test, lambda rows: [*rows, lines[-1]])
    text = refusal(case, root)  # the other clips of that place still train
    assert "is of group 'paris-10', as test/" in text


@pytest.mark.parametrize("given", ["", "outer"])
def test_only_the_mobile_set_has_phones(given: str, tmp_path: Path) -> None:
    unpacked = tmp_path / "TUT-urban-acoustic-scenes-2018-mobile-development"
    scenes(unpacked, "abc", 1)
    folder = str(tmp_path if given else unpacked)
    devices = Counter(clip.columns["device"] for clip in data.load("tut2018_mobile", folder).clips)
    assert devices == {"a": 24, "b": 24, "c": 24}
    with pytest.raises(UserError, match="device b and c, as the Mobile set"):
        data.load("tut2018", str(unpacked))


# --- ComParE 2020 ---


def load(name: str, root: Path) -> Dataset:
    return data.load(f"compare2020_{name}", str(root))


def test_mask_is_read_from_one_table_or_from_three(tmp_path: Path) -> None:
    mask(tmp_path / "three")
    mask(tmp_path / "one", ("labels",))
    three, one = load("mask", tmp_path / "three"), load("mask", tmp_path / "one")
    assert one.clips == three.clips
    assert one.labels == three.labels
    assert one.official_validation == "devel"
    edit(tmp_path / "three/lab/devel.csv", lambda lines: [*lines, "train_00000.wav,clear"])
    with pytest.raises(UserError, match=r"'train_00000\.wav' is no clip of part devel"):
        load("mask", tmp_path / "three")


def test_speakers_of_mask_are_groups_where_they_are_known(tmp_path: Path) -> None:
    mask(tmp_path, ("labels",))
    path = tmp_path / "lab/labels.csv"

    def speakers(lines: list[str]) -> list[str]:
        return [f"{lines[0]},speaker", *(f"{x},{x[:5]}{i % 2}" for i, x in enumerate(lines[1:]))]

    edit(path, speakers)
    dataset = load("mask", tmp_path)
    assert Counter(c.group for c in dataset.part("train")) == {"train0": 4, "train1": 4}
    assert dataset.clips[0].columns == {"speaker": "train0"}
    edit(path, lambda lines: [line.replace("devel0", "train0") for line in lines])
    with pytest.raises(UserError, match="is of group 'train0', as devel/"):
        load("mask", tmp_path)


def test_labels_of_compare_are_withheld_altogether_or_not_at_all(tmp_path: Path) -> None:
    mask(tmp_path, ("labels",))
    path = tmp_path / "lab/labels.csv"
    edit(path, lambda lines: [line.replace("test_00001.wav,?", "test_00001.wav,mask")
                              for line in lines])  # fmt: skip
    with pytest.raises(UserError, match="the labels of 3 of 4 test clips are"):
        load("mask", tmp_path)
    edit(path, lambda lines: [line.replace("?", "clear") for line in lines])
    dataset = load("mask", tmp_path)
    assert dataset.label_kind("test") == "class"
    assert len(dataset.open_sealed("test", lambda: None).values) == 4
    edit(path, lambda lines: [line.replace("train_00000.wav,clear", "train_00000.wav,?")
                              for line in lines])  # fmt: skip
    with pytest.raises(UserError, match="line 2: '\\?' is no class"):
        load("mask", tmp_path)


def test_a_belt_has_a_number_at_each_step(tmp_path: Path) -> None:
    breathing(tmp_path)
    dataset = load("breathing", tmp_path)
    assert dataset.label_hop == 0.04
    values = dataset.labels["devel"].values["devel/devel_01.wav"]
    assert values.shape == (11, 1)
    np.testing.assert_allclose(values[:, 0], np.sin(1 + np.arange(11)), atol=1e-5)
    assert [clip.columns["steps"] for clip in dataset.part("test")] == [10, 11, 12]
    path = tmp_path / "lab/labels.csv"
    whole = path.read_text()
    changes = {
        "train_00.wav,0.08,": "train_00.wav,0.08,nan#",
        "train_01.wav,0.20,": "train_01.wav,0.25,",
        "train_02.wav,": "",
        "devel_00.wav,": "other_00.wav,",
    }

    def spoil(lines: list[str]) -> list[str]:
        for old, new in changes.items():
            lines = [line.replace(old, new) for line in lines]
        gone = ("0.", "devel_01.wav,0.3", "devel_01.wav,0.4")  # rows of train_02, and three
        return [line for line in lines if not line.startswith(gone)]

    edit(path, spoil)
    with pytest.raises(UserError) as error:
        load("breathing", tmp_path)
    text = str(error.value)
    assert "line 4: upper_belt 'nan#" in text
    assert "timeFrame '0.25' instead of 0.20" in text
    assert "wav/train_02.wav: no row of lab/labels.csv is of it" in text
    assert "'other_00.wav' begins with none of train_, devel_, test_" in text
    assert "8 rows for 0.44 s of wav/devel_01.wav; one is needed every 0.04 s (11)" in text
    path.write_text(whole)
    assert load("breathing", tmp_path).fingerprint() != dataset.fingerprint()


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_a_submission_of_mask_has_a_decision_for_each_test_clip(tmp_path: Path) -> None:
    mask(tmp_path / "set")
    dataset = load("mask", tmp_path / "set")
    ids = tuple(clip.clip_id for clip in dataset.part("test"))
    scores = np.array([[0.2, 0.3], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    said = Predictions.of(ids[::-1], dataset.classes, clip_scores=scores)
    write = data.reader("compare2020_mask").write_submission
    path = write(dataset, said, tmp_path / "submission")
    assert path.parent == tmp_path / "submission"
    labels = ("mask", "clear", "clear", "mask")
    assert rows_of(path) == [
        ["file_name", "prediction"],
        *([f"test_{i:05d}.wav", label] for i, label in enumerate(labels)),
    ]
    few = replace(said, clip_ids=(ids[0], *ids[:3]))
    with pytest.raises(UserError, match=r"2 have none or several, such as test/test_00000\.wav"):
        write(dataset, few, tmp_path / "submission")


def test_a_submission_of_breathing_has_the_rows_of_the_table(tmp_path: Path) -> None:
    breathing(tmp_path / "set")
    dataset = load("breathing", tmp_path / "set")
    clips = dataset.part("test")[::-1]
    values = tuple(np.full((c.columns["steps"], 1), n / 4) for n, c in enumerate(clips))
    said = Predictions.of([c.clip_id for c in clips], dataset.classes, frame_values=values)
    write = data.reader("compare2020_breathing").write_submission
    found = rows_of(write(dataset, said, tmp_path / "submission"))
    assert found[0] == ["filename", "timeFrame", "prediction"]
    table = [row for row in rows_of(tmp_path / "set/lab/labels.csv") if row[2] == "?"]
    assert [row[:2] for row in found[1:]] == [row[:2] for row in table]
    assert {(row[0], float(row[2])) for row in found[1:]} == {
        ("test_00.wav", 0.5), ("test_01.wav", 0.25), ("test_02.wav", 0.0)}  # fmt: skip
    short = replace(said, frame_values=(values[0][1:], *values[1:]))
    with pytest.raises(UserError, match=r"test_02\.wav is answered at 11 steps instead of 12"):
        write(dataset, short, tmp_path / "submission")


# --- small sets of real sounds, where the machine has them ---

MINI = Path(os.environ.get("SOUNDSWEEP_MINI_SETS", "-"))


@pytest.mark.skipif(not MINI.is_dir(), reason="SOUNDSWEEP_MINI_SETS names no folder")
@pytest.mark.parametrize(
    ("name", "clips", "counted", "column", "rate", "channels"),
    [
        ("fsdkaggle2018", (140, 50), {1: 86, 0: 54}, "manually_verified", 44_100, 1),
        ("tut2018", (16, 8), {"a": 16}, "device", 48_000, 2),
        ("tut2018_mobile", (18, 18), {"a": 6, "b": 6, "c": 6}, "device", 44_100, 1),
        ("compare2020_breathing", (4, 2), {1000: 4}, "steps", 16_000, 1),
    ],
)
def test_the_mini_sets(
    name: str, clips: tuple[int, int], counted: dict[object, int], column: str, rate: int,
    channels: int,
) -> None:  # fmt: skip
    dataset = data.load(name, str(MINI / f"{name.removeprefix('compare2020_')}_mini"))
    assert (len(dataset.part("train")), len(dataset.part("test"))) == clips
    assert Counter(clip.columns[column] for clip in dataset.part("train")) == counted
    samples, found = dataset.source.read(dataset.clips[0].clip_id)
    assert (len(samples), found) == (channels, rate)


@pytest.mark.skipif(not MINI.is_dir(), reason="SOUNDSWEEP_MINI_SETS names no folder")
def test_the_mini_set_of_mask(tmp_path: Path) -> None:
    """With the labels and speakers that it keeps beside it, the speakers are groups."""
    dataset = data.load("compare2020_mask", str(MINI / "mask_mini"))
    assert {part: len(dataset.part(part)) for part in dataset.parts()} == {
        "train": 120, "devel": 60, "test": 60}  # fmt: skip
    assert Counter(dataset.labels["train"].values.values()) == {"clear": 60, "mask": 60}
    (tmp_path / "lab").mkdir()
    (tmp_path / "wav").symlink_to(MINI / "mask_mini/wav")
    told = (MINI / "mask_mini/extra/all_with_test_labels.csv").read_text()
    (tmp_path / "lab/labels.csv").write_text(told)
    known = data.load("compare2020_mask", str(tmp_path))
    assert known.label_kind("test") == "class"
    assert len({clip.group for clip in known.part("train")}) < 20
