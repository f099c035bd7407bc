"""No clip trains, or chooses, what is judged by its copy or by a clip of its group."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from systems import data
from systems.data.dataset import Dataset
from systems.data.splits import make_splits, training_data
from systems.errors import UserError

RATE = 8_000  # Hz


def noise(path: Path, seed: int, channels: int = 1) -> Path:
    """Half a second that begins with silence, as many recordings do."""
    samples = np.random.default_rng(seed).normal(0, 0.1, RATE // 2)
    samples[: RATE // 4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.tile(samples[:, None], channels), RATE, subtype="PCM_16")
    return path


def table(folder: Path, *more: str, validation: bool = True) -> str:
    """Ten training, two validation and two test clips, each with its own group and sound, and
    further rows (path, label, part, group), whose sound is there or made."""
    parts = ["train"] * 10 + (["validation"] * 2 if validation else []) + ["test"] * 2
    rows = [f"{part}{i}.wav,{'xy'[i % 2]},{part}," for i, part in enumerate(parts)]
    for seed, row in enumerate([*rows, *more]):
        path = folder / row.split(",")[0]
        if not path.exists():
            noise(path, seed)
    (folder / "table.csv").write_text("\n".join(["path,labels,part,group", *rows, *more]))
    return str(folder)


def refused(folder: str) -> str:
    with pytest.raises(UserError) as error:
        data.load("table", folder)
    return str(error.value)


def ids(dataset: Dataset, part: str) -> set[str]:
    return {clip.clip_id for clip in dataset.part(part)}


def copied(source: Path, target: Path) -> None:
    shutil.copy(source, target)


def linked(source: Path, target: Path) -> None:
    target.symlink_to(source)


def rewritten(source: Path, target: Path) -> None:
    """The same samples in other bytes: two channels, 24 bits."""
    samples, rate = soundfile.read(source, always_2d=True)
    soundfile.write(target, np.tile(samples, 2), rate, subtype="PCM_24", format="WAV")


def compressed(source: Path, target: Path) -> None:
    samples, rate = soundfile.read(source)
    soundfile.write(target, samples, rate, format="FLAC")


@pytest.mark.parametrize("how", [copied, linked, rewritten, compressed])
@pytest.mark.parametrize("judge", ["validation10.wav", "test13.wav"])
def test_the_same_sound_under_another_name_trains_nothing(
    how: object, judge: str, tmp_path: Path
) -> None:
    table(tmp_path)
    how(tmp_path / judge, tmp_path / "other.wav")  # type: ignore[operator]
    folder = table(tmp_path, "other.wav,x,train,")
    text = refused(folder)
    assert f"other.wav is the same sound as {judge}" in text
    assert "--skip-shared" in text
    assert "train3.wav" not in text
    left = data.load("table", folder, skip_shared=True)
    assert ids(left, "train") == {f"train{i}.wav" for i in range(10)}
    assert "other.wav" not in left.labels["train"].values
    assert any("other.wav" in note and "--skip-shared" in note for note in left.notes)


def test_a_group_is_in_one_part_alone(tmp_path: Path) -> None:
    folder = table(tmp_path, "a.wav,x,train,home", "b.wav,y,test,home", "c.wav,x,validation,home")
    text = refused(folder)
    for clip in ("a.wav", "c.wav"):
        assert f"{clip} is of group 'home', as b.wav is" in text
    left = data.load("table", folder, skip_shared=True)
    assert "a.wav" not in ids(left, "train")
    assert "c.wav" not in ids(left, "validation")  # it would choose what the test part judges
    assert "b.wav" in ids(left, "test")


def test_unlabelled_clips_are_left_out_with_a_note(tmp_path: Path) -> None:
    table(tmp_path, "b.wav,y,test,home")
    copied(tmp_path / "validation11.wav", tmp_path / "u3.wav")
    folder = table(tmp_path, "b.wav,y,test,home", "u1.wav,,unlabelled,home",
                   "u2.wav,,unlabelled,other", "u3.wav,,unlabelled,")  # fmt: skip
    dataset = data.load("table", folder)
    assert ids(dataset, "unlabelled") == {"u2.wav"}
    (note,) = [note for note in dataset.notes if "u1.wav" in note]
    assert "u3.wav" in note
    assert "u2.wav" not in note


def test_copies_that_train_are_one_group_and_no_fault(tmp_path: Path) -> None:
    table(tmp_path, validation=False)
    pairs = {f"train{i}.wav": f"again{i}.wav" for i in range(3)}
    for first, second in pairs.items():
        copied(tmp_path / first, tmp_path / second)
    more = [f"{second},{'xy'[int(first[5]) % 2]},train," for first, second in pairs.items()]
    dataset = data.load("table", table(tmp_path, *more, validation=False))
    group = {clip.clip_id: clip.group for clip in dataset.clips}
    assert all(group[first] == group[second] for first, second in pairs.items())
    assert len(set(group.values())) == len(group) - 3
    assert any("train0.wav = again0.wav" in note for note in dataset.notes)
    for fold in make_splits(dataset, 0).folds:
        assert not {group[i] for i in fold.train} & {group[i] for i in fold.validation}


def test_own_folds_that_split_a_sound_are_refused(tmp_path: Path) -> None:
    rows = [f"{i}.wav,{'xy'[i % 2]},{'train' if i < 8 else 'test'},{i % 4 if i < 8 else ''}"
            for i in range(10)]  # fmt: skip
    for i in range(10):
        noise(tmp_path / f"{i}.wav", i)
    copied(tmp_path / "2.wav", tmp_path / "6.wav")  # in the same fold
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["path,labels,part,fold", *rows]))
    assert make_splits(data.load("table", str(tmp_path)), 0).protocol == "own folds"
    copied(tmp_path / "2.wav", tmp_path / "5.wav")
    assert "2.wav in fold '2', 5.wav in fold '1', 6.wav in fold '2'" in refused(str(tmp_path))


def test_an_unlabelled_clip_is_not_heard_where_its_group_validates(tmp_path: Path) -> None:
    rows = [f"u{i}.wav,,unlabelled,home{i}" for i in range(3)]
    more = [f"l{i}.wav,x,train,home{i}" for i in range(3)]
    dataset = data.load("table", table(tmp_path, *rows, *more, validation=False))
    splits = make_splits(dataset, 0)
    missed = 0
    for number, fold in enumerate(splits.folds):
        heard = {*training_data(dataset, splits, number).unlabelled["unlabelled"].clip_ids}
        for i in range(3):
            assert (f"u{i}.wav" in heard) == (f"l{i}.wav" not in fold.validation)
            missed += f"u{i}.wav" not in heard
    assert missed == 3
    assert len(training_data(dataset, splits, None).unlabelled["unlabelled"]) == 3


def test_challenge_lists_that_share_files_are_refused(task4_copy: Path) -> None:
    """Of the first published lists 46 of 288 test files were in others too."""
    dataset = data.load("dcase2018_task4", str(task4_copy))
    weak, bare, tested = (dataset.part(p) for p in ("weak", "unlabel_in_domain", "test"))
    root = task4_copy / "dataset"

    def sound(part: str, name: str) -> Path:
        return root / "audio" / (part if part == "test" else f"train/{part}") / name

    test = [clip.clip_id.split("/")[1] for clip in tested[:3]]
    copied(sound("test", test[0]), sound("weak", test[0]))  # listed under its own name
    copied(sound("test", test[1]), sound("weak", weak[0].clip_id.split("/")[1]))  # renamed
    copied(sound("test", test[2]), sound("unlabel_in_domain", bare[0].clip_id.split("/")[1]))
    listed = root / "metadata/train/weak.csv"
    listed.write_text(f"{listed.read_text().rstrip()}\n{test[0]}\tDog\n")
    with pytest.raises(UserError) as error:
        data.load("dcase2018_task4", str(task4_copy))
    assert f"weak/{test[0]} is the same sound as test/{test[0]}" in str(error.value)
    assert f"{weak[0].clip_id} is the same sound as test/{test[1]}" in str(error.value)
    left = data.load("dcase2018_task4", str(task4_copy), skip_shared=True)
    assert ids(left, "weak") == {clip.clip_id for clip in weak[1:]}
    assert ids(left, "unlabel_in_domain") == {clip.clip_id for clip in bare[1:]}
    assert ids(left, "test") == {clip.clip_id for clip in tested}
