"""The reader of a user's own sounds."""

from __future__ import annotations

import os
import pickle
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from systems import data
from systems.data.dataset import Dataset, Event
from systems.data.splits import make_splits
from systems.data.store import open_store
from systems.errors import UserError

RATE = 8_000  # Hz


def sound(folder: Path, name: str, rate: int = RATE, channels: int = 1) -> None:
    """A second of a tone with noise."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    noise = generator.normal(0, 0.05, (rate, channels))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise, rate)


def table(folder: Path, lines: Sequence[str], name: str = "sounds.csv") -> Path:
    """A table, and a sound for each path that it names."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines[1:]:
        clip = line.replace(";", ",").replace("\t", ",").split(",")[0]
        if clip and not (folder / clip).exists():
            sound(folder, clip)
    return path


def read(path: Path, skip_broken: bool = False) -> Dataset:
    return data.load("table", str(path), skip_broken)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value)


def opened(dataset: Dataset) -> dict[str, Any]:
    return dict(dataset.open_sealed("test", lambda: None).values)


def test_parts_roles_groups_and_free_columns_are_read(tmp_path: Path) -> None:
    dataset = read(
        table(
            tmp_path,
            [
                "path,labels,part,group,device",
                "a.wav,dog,train,kitchen,phone",
                "b.wav,cat|dog,train,,phone",
                "c.wav,,train,,camera",
                "d.wav,,unlabelled,,camera",
                "e.wav,cat,validation,,phone",
                "sub/f.wav,cat,test,,phone",
            ],
        )
    )
    assert dataset.task == "any"
    assert dataset.classes == ("cat", "dog")
    assert [(c.clip_id, c.part, c.role) for c in dataset.clips] == [
        ("a.wav", "train", "labelled"),
        ("b.wav", "train", "labelled"),
        ("c.wav", "unlabelled", "unlabelled"),
        ("d.wav", "unlabelled", "unlabelled"),
        ("e.wav", "validation", "labelled"),
        ("sub/f.wav", "test", "labelled"),
    ]
    assert [clip.group for clip in dataset.clips[:2]] == ["kitchen", "b.wav"]
    assert dataset.clips[2].columns == {"device": "camera"}
    assert dataset.clips[0].duration == 1.0
    assert dataset.labels["train"].values == {"a.wav": ("dog",), "b.wav": ("cat", "dog")}
    assert {p: dataset.label_kind(p) for p in ("train", "validation", "test")} == dict.fromkeys(
        ("train", "validation", "test"), "tags"
    )
    assert make_splits(dataset, 0).protocol == "official"
    assert dataset.notes == (
        "1 clips without labels are used as unlabelled",
        "columns without a meaning of their own: device",
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_that_of_the_header(separator: str, tmp_path: Path) -> None:
    rows = [["path", "labels", "part"], ["a.wav", "dog", "train"], ["b.wav", "dog", "test"]]
    path = table(tmp_path, [separator.join(row) for row in rows])
    text = path.read_text() + 2 * separator + "\n\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())  # as Excel does
    assert [clip.clip_id for clip in read(path).clips] == ["a.wav", "b.wav"]


def test_one_label_in_every_clip_of_all_parts_is_a_class(tmp_path: Path) -> None:
    lines = ["path,labels,part", "a.wav,dog,train", "b.wav,cat,train", "c.wav,cat,test"]
    single = read(table(tmp_path, lines))
    assert single.label_kind("train") == single.label_kind("test") == "class"
    assert single.labels["train"].values == {"a.wav": "dog", "b.wav": "cat"}
    lines[-1] = "c.wav,cat|dog,test"
    both = read(table(tmp_path, lines))
    assert both.label_kind("train") == both.label_kind("test") == "tags"


def test_rows_with_times_are_events_of_their_part_alone(tmp_path: Path) -> None:
    dataset = read(
        table(
            tmp_path,
            [
                "path,labels,onset,offset,part",
                "a.wav,dog|cat,,,train",
                "b.wav,dog,0.1,0.5,test",
                "b.wav,cat,0.25,1.0,test",
                "c.wav,,,,test",
            ],
        )
    )
    assert dataset.label_kind("train") == "tags"
    assert dataset.label_kind("test") == "events"
    assert len(dataset.part("test")) == 2
    assert opened(dataset) == {
        "b.wav": (Event(0.1, 0.5, "dog"), Event(0.25, 1.0, "cat")),
        "c.wav": (),
    }


def test_a_training_clip_without_events_is_labelled(tmp_path: Path) -> None:
    lines = ["path,labels,onset,offset,part", "a.wav,dog,0,1,train", "b.wav,,,,train"]
    dataset = read(table(tmp_path, [*lines, "c.wav,dog,0,1,test"]))
    assert [clip.role for clip in dataset.part("train")] == ["labelled", "labelled"]
    assert dataset.labels["train"].values["b.wav"] == ()


def test_test_labels_are_sealed_and_recorded_before_they_open(tmp_path: Path) -> None:
    dataset = read(table(tmp_path, ["path,labels,part", "a.wav,dog,train", "b.wav,dog,test"]))
    assert "test" not in dataset.labels
    record: list[str] = []
    labels = dataset.open_sealed("test", lambda: record.append("opened"))
    assert record == ["opened"]
    assert labels.values == {"b.wav": "dog"}
    assert opened(pickle.loads(pickle.dumps(dataset))) == {"b.wav": "dog"}


def many(clips: int = 40, per_group: int = 2) -> list[str]:
    """Rows of a path, one of four labels and a group."""
    return [f"{i}.wav,{'abcd'[i // per_group % 4]},g{i // per_group}" for i in range(clips)]


def test_without_a_part_column_a_fifth_becomes_the_test_part(tmp_path: Path) -> None:
    path = table(tmp_path, ["path,labels,group", *many(), "u.wav,,"])
    dataset = read(path)
    test, train = dataset.part("test"), dataset.part("train")
    assert 2 <= len(test) <= 16
    assert len(test) + len(train) == 40
    assert not {clip.group for clip in test} & {clip.group for clip in train}
    assert [clip.clip_id for clip in dataset.role("unlabelled")] == ["u.wav"]
    assert f"{len(test)} of 40 labelled clips are the test part" in dataset.notes[-1]
    assert read(path).part("test") == test
    splits = make_splits(dataset, 0)
    assert splits.protocol == "folds"
    assert not {i for fold in splits.folds for i in fold.train} & {c.clip_id for c in test}


def test_a_made_test_part_has_events_where_training_has(tmp_path: Path) -> None:
    rows = [f"{i}.wav,dog,0,1" if i else "0.wav,,," for i in range(10)]
    dataset = read(table(tmp_path, ["path,labels,onset,offset", *rows]))
    assert dataset.label_kind("train") == dataset.label_kind("test") == "events"
    assert {clip.clip_id for clip in dataset.part("test")} == set(opened(dataset)) != set()


def test_rows_that_are_added_move_no_clip_out_of_a_drawn_test_part(tmp_path: Path) -> None:
    """Nor does a class that loses to newcomers its places in the training part."""
    rows = [f"{i}.wav,{'abcdef'[i // 2 % 6]},g{i // 2}" for i in range(120)]
    before: set[str] = set()
    shares = []
    for count in (60, 62, 66, 90, 120):
        dataset = read(table(tmp_path, ["path,labels,group", *rows[:count]]))
        test = {clip.clip_id for clip in dataset.part("test")}
        assert before <= test
        for label in "abcdef":
            assert sum(value == label for value in dataset.labels["train"].values.values()) >= 4
        shares.append(len(test) / count)
        before = test
    assert shares[-1] == pytest.approx(0.2, abs=0.12)
    backwards = read(table(tmp_path, ["path,labels,group", *rows[::-1]]))
    assert {clip.clip_id for clip in backwards.part("test")} == before


def test_a_copy_of_a_drawn_test_clip_is_drawn_with_it(tmp_path: Path) -> None:
    lines = ["path,labels,group", *many()]
    path = table(tmp_path, lines)
    test = [clip.clip_id for clip in read(path).part("test")]
    shutil.copy(tmp_path / test[0], tmp_path / "copy.wav")
    again = read(table(tmp_path, [*lines, "copy.wav,a,another"]))
    found = {clip.clip_id: clip for clip in again.part("test")}
    assert {*test, "copy.wav"} <= set(found)
    assert found["copy.wav"].group == found[test[0]].group


def test_too_few_groups_make_no_test_part(tmp_path: Path) -> None:
    text = refused(table(tmp_path, ["path,labels,group", *many(8)]))
    assert "4 groups of labelled clips are too few to make a test part of: it takes 5" in text


def test_labels_that_are_all_rare_make_no_test_part(tmp_path: Path) -> None:
    rows = [f"{i}.wav,{label}" for i, label in enumerate("abcdef")]
    text = refused(table(tmp_path, ["path,labels", *rows]))
    assert "none of the 6 groups" in text
    assert "'a' (1), 'b' (1)" in text


def test_own_folds_are_used(tmp_path: Path) -> None:
    rows = [f"{i}.wav,{'ab'[i % 2]},train,{'xyz'[i // 2 % 3]}" for i in range(12)]
    dataset = read(table(tmp_path, ["path,labels,part,fold", *rows, "t.wav,a,test,"]))
    splits = make_splits(dataset, seed=0)
    assert (splits.protocol, len(splits.folds), splits.searched) == ("own folds", 3, 3)
    assert splits.folds[0].validation == ("0.wav", "1.wav", "6.wav", "7.wav")
    for fold in splits.folds:
        assert sorted((*fold.train, *fold.validation)) == sorted(
            clip.clip_id for clip in dataset.part("train")
        )


def test_own_folds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    header = "path,labels,part,group,fold"
    rows = ["a.wav,x,train,g,1", "b.wav,x,train,g,2", "c.wav,x,train,,", "d.wav,x,test,,1"]
    text = refused(table(tmp_path, [header, *rows]))
    assert "line 3 (b.wav): group 'g' is in fold '2' here and in fold '1' with a.wav" in text
    assert "line 4 (c.wav): has no fold" in text
    assert "line 5 (d.wav): fold '1', but part 'test'" in text
    rows = ["a.wav,x,train,,1", "b.wav,x,train,,1", "d.wav,x,test,,"]
    assert "'1' is the only fold" in refused(table(tmp_path, [header, *rows]))
    rows = ["a.wav,x,train,,1", "b.wav,x,train,,2", "c.wav,x,validation,,", "d.wav,x,test,,"]
    assert "both say who validates" in refused(table(tmp_path, [header, *rows]))


def test_a_fold_that_trains_without_a_class_is_refused(tmp_path: Path) -> None:
    rows = ["a.wav,x,train,1", "b.wav,x,train,2", "c.wav,rare,train,1", "d.wav,rare,train,1"]
    dataset = read(table(tmp_path, ["path,labels,part,fold", *rows, "t.wav,x,test,"]))
    with pytest.raises(UserError, match=r"class rare \(2 training clip.* at least 2 examples"):
        make_splits(dataset, 0)


def test_every_fault_of_a_table_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        [
            "path,labels,onset,offset,part,group",
            "a.wav,dog,,,train,g1",
            "b.wav,dog||cat,,,train,",
            "c.wav,cat,,,trian,",
            "d.wav,dog,0.5,,test,",
            "e.wav,dog,0.5,0.5,test,",
            "f.wav,dog,0.5,3,test,",
            "g.wav,dog,half,1,test,",
            "h.wav,,0.1,0.2,test,",
            "i.wav,dog,0.1,0.2,test,g1",
            "i.wav,dog,0.3,0.4,train,g2",
            "a.wav,dog,,,train,g1",
            "j.wav,dgo,0.1,0.2,test,",
            "k.wav,dog,,,test,",
            "l.wav,dog,,,unlabelled,",
            "m.wav,dog,,,train",
            ",dog,,,train,",
            "gone.wav,dog,,,train,",
            "empty.wav,dog,,,train,",
        ],
    )
    (tmp_path / "gone.wav").unlink()
    (tmp_path / "empty.wav").write_bytes(b"")
    text = refused(path)
    for fault in (
        "line 3 (b.wav): a label is empty in 'dog||cat'",
        "line 4 (c.wav): unknown part 'trian' (did you mean 'train'?)",
        "line 5 (d.wav): onset '0.5' and offset ''",
        "line 6 (e.wav): onset 0.5 does not come before offset 0.5",
        "line 7 (f.wav): event 0.5 to 3 s does not lie in its clip of 1.000 s",
        "line 8 (g.wav): onset 'half' or offset '1' is no number",
        "line 9 (h.wav): an event without a label",
        "line 11 (i.wav): part 'train', but 'test' on line 10",
        "line 11 (i.wav): group 'g2', but 'g1' on line 10",
        "line 12 (a.wav): is on line 2 too",
        "line 13 (j.wav): class 'dgo' has no training clip (did you mean 'dog'?)",
        "line 14 (k.wav): labels without onset, but part 'test' has events",
        "line 15 (l.wav): labels in part 'unlabelled'",
        "line 16 (m.wav): 5 fields instead of 6",
        "line 17 (?): the path is empty",
        "2 of 14 audio files cannot be used",
        "line 18 (gone.wav)   is listed in sounds.csv and missing",
        "line 19 (empty.wav)  is empty (0 bytes)",
    ):
        assert fault in text
    assert text.endswith("or pass --skip-broken to leave them out (they are listed in the report).")
    assert text.count("\n") == 15 + 1 + 2 + 1  # and nothing else is blamed


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["path,label,part", "a.wav,dog,train"], r"no column 'labels' \(did you mean 'label'\?\)"),
        (["path,labels,onset", "a.wav,dog,0"], "no column 'offset'"),
        (["path,labels,labels", "a.wav,dog,cat"], "two columns 'labels'"),
        (["path,labels,part", "a.wav,dog,train"], "no clip of part 'test'"),
        (["path,labels,part", "a.wav,dog,train", "b.wav,,test"], "no label, but part 'test' is s"),
        (["path,labels,part", "a.wav,,train", "b.wav,dog,test"], "no labelled training clip"),
        (["path,labels,part"], "no labelled training clip"),
        (['path,labels,part', 'a.wav,"dog,train'], "line 2: a quote"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_is_refused(lines: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        read(table(tmp_path, lines))


def test_a_folder_holds_one_table(tmp_path: Path) -> None:
    lines = ["path,labels,part", "a.wav,dog,train", "b.wav,dog,test"]
    assert "no *.csv" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "nowhere")
    with pytest.raises(UserError, match="--data"):
        data.load("table", None)
    table(tmp_path, lines, "one.csv")
    assert len(read(tmp_path).clips) == 2
    table(tmp_path, lines[:1], "two.csv")
    assert "one.csv, two.csv: name the table" in refused(tmp_path)
    table(tmp_path, lines, "table.csv")
    assert len(read(tmp_path).clips) == 2
    assert "cannot be read as a table" in refused(tmp_path / "a.wav")


def test_a_path_is_one_clip_however_it_is_written(tmp_path: Path) -> None:
    sound(tmp_path, "elsewhere/b.wav")
    folder = tmp_path / "sounds"
    sound(folder, "a.wav")
    lines = ["path,labels,part", f"{folder}/a.wav,dog,train", "../elsewhere/b.wav,dog,test"]
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    assert [c.clip_id for c in read(path).clips] == ["a.wav", str(tmp_path / "elsewhere/b.wav")]
    path.write_text("\n".join([*lines, "./a.wav,dog,train"]))
    assert "line 4 (a.wav): is on line 2 too" in refused(path)


@pytest.mark.parametrize(
    ("old", "new"), [("b.wav,cat", "b.wav,dog"), ("a.wav,dog,train", "a.wav,dog,test")]
)
def test_an_edited_table_is_other_data_with_the_same_sound(
    old: str, new: str, tmp_path: Path
) -> None:
    lines = ["path,labels,part", "a.wav,dog,train", "b.wav,cat,train", "c.wav,dog,train",
             "d.wav,cat,test", "e.wav,cat,train"]  # fmt: skip
    path = table(tmp_path, lines)
    before = read(path)
    assert read(path).fingerprint() == before.fingerprint()
    store = open_store(before, ("a.wav",), RATE, tmp_path / "store", map)
    path.write_text(path.read_text().replace(old, new))
    after = read(path)
    assert after.fingerprint() != before.fingerprint()
    assert open_store(after, ("a.wav",), RATE, tmp_path / "store", map).folder == store.folder


def test_size_and_time_of_a_table_are_both_noticed(tmp_path: Path) -> None:
    path = table(tmp_path, ["path,labels,part,note", "a.wav,dog,train,1", "b.wav,dog,test,2"])
    os.utime(path, ns=(0, 0))
    before = read(path).fingerprint()
    os.utime(path, ns=(0, 1))
    assert read(path).fingerprint() != before
    path.write_text(path.read_text() + "\n")
    os.utime(path, ns=(0, 0))
    assert read(path).fingerprint() != before


def test_other_rates_and_channels_are_mixed_down_and_resampled(tmp_path: Path) -> None:
    sound(tmp_path, "a.flac", 44_100, channels=2)
    sound(tmp_path, "b.ogg", 22_050, channels=1)
    lines = ["path,labels,part", "a.flac,dog,train", "b.ogg,dog,train", "c.wav,dog,test"]
    dataset = read(table(tmp_path, lines))
    store = open_store(dataset, ("a.flac", "b.ogg", "c.wav"), 16_000, tmp_path / "store", map)
    for clip in dataset.clips:
        assert store[clip.clip_id].shape == (16_000,)
        assert store.duration(clip.clip_id) == 1.0


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)


def not_finite(path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, RATE)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("breaks", [silence, not_finite, missing, truncated])
def test_broken_files_are_left_out_on_demand_and_listed(
    breaks: Callable[[Path], None], tmp_path: Path
) -> None:
    rows = ["a.wav,dog,train", "b.wav,dog,train", "c.wav,,unlabelled", "d.wav,dog,test"]
    path = table(tmp_path, ["path,labels,part", *rows])
    whole = read(path, skip_broken=True)
    assert whole.skipped == ()
    breaks(tmp_path / "b.wav")
    dataset = read(path, skip_broken=True)
    ((skipped, why),) = dataset.skipped
    assert skipped == "b.wav"
    words = {"silence": "silent", "not_finite": "not finite"}
    assert words.get(breaks.__name__, breaks.__name__) in why
    assert [clip.clip_id for clip in dataset.clips] == ["a.wav", "c.wav", "d.wav"]
    assert dataset.labels["train"].values == {"a.wav": "dog"}
    ids = [clip.clip_id for clip in dataset.clips]
    assert open_store(dataset, ids, RATE, tmp_path / "store", map).duration("a.wav") == 1.0


def test_what_is_left_without_broken_files_is_checked(tmp_path: Path) -> None:
    path = table(tmp_path, ["path,labels,part", "a.wav,dog,train", "b.wav,dog,test"])
    silence(tmp_path / "b.wav")
    with pytest.raises(UserError, match="no clip of part 'test'"):
        read(path, skip_broken=True)
