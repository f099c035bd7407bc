"""Reader, splits and waveform store."""

from __future__ import annotations

import errno
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from systems import data
from systems.data.dataset import Clip, ClipSet, Dataset, Labels
from systems.data.files import Files, examine
from systems.data.splits import make_splits, stratified_groups, training_data
from systems.data.store import load_mono, open_store, process_map
from systems.errors import UserError


def load(folder: Path) -> Dataset:
    return data.load("dcase2018_task4", str(folder))


def plain_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
    return map(function, items)


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
    assert text.startswith("3 of 44 audio files")
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


def test_the_store_holds_what_the_files_hold(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.clips)
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map)
    for clip_id in ids:
        waveform, _ = dataset.source.read(clip_id)
        np.testing.assert_array_equal(store[clip_id], waveform[0])
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again[ids[3]], store[ids[3]])
    assert store.duration(ids[0]) == 1.0


def test_a_broken_off_store_goes_on(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.clips)

    def killed(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path, plain_map, killed)
    counts: list[int] = []
    store = open_store(
        dataset, ids, 16_000, tmp_path, plain_map, lambda done, total: counts.append(done)
    )
    assert counts[0] >= 16
    whole = open_store(dataset, ids, 16_000, tmp_path / "other", plain_map)
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], whole[clip_id])
    counts.clear()
    open_store(dataset, ids, 16_000, tmp_path, plain_map, lambda d, t: counts.append(d))
    assert counts == []  # it is there: nothing is built


def test_sound_is_mixed_down_and_resampled(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, subtype="FLOAT")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    mono = load_mono(samples.T, rate, 16_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(mono) == 16_000
    np.testing.assert_allclose(mono[500:-500], expected[500:-500], atol=1e-3)


def test_the_store_resamples_to_the_length_of_the_clip(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.part("weak"))[:3]
    for rate in (8_000, 22_050):
        store = open_store(dataset, ids, rate, tmp_path, plain_map)
        for clip_id in ids:
            assert len(store[clip_id]) == rate
            assert store.duration(clip_id) == 1.0
        samples, source_rate = dataset.source.read(ids[0])
        np.testing.assert_array_equal(store[ids[0]], load_mono(samples, source_rate, rate))
    assert len(list(tmp_path.glob("*/index.json"))) == 2  # a store a rate


def test_a_file_that_breaks_after_the_check_is_named(task4_copy: Path, tmp_path: Path) -> None:
    dataset = load(task4_copy)
    clip = dataset.part("weak")[2]
    path = task4_copy / "dataset/audio/train" / clip.clip_id
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=f"{path.name}  cannot be read"):
        open_store(dataset, (clip.clip_id,), 16_000, tmp_path / "stores", plain_map)
    assert not list((tmp_path / "stores").glob("*/index.json"))


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


# --- faults of files ---


def noise(path: Path, seconds: float = 1.0) -> Path:
    """A mono file at 16 kHz, in the format of its suffix."""
    samples = np.random.default_rng(0).normal(0, 0.05, round(seconds * 16_000))
    soundfile.write(path, samples, 16_000)
    return path


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def why_not(path: Path, decode: bool = False) -> str:
    """Why a file cannot be used, or an empty string."""
    _, broken = examine(Files(str(path.parent), {"x": path.name}), {"x": "a table"}, decode)
    return broken[0][1] if broken else ""


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac", "mp3"])
def test_a_truncated_file_is_known_by_its_header(suffix: str, tmp_path: Path) -> None:
    path = noise(tmp_path / f"a.{suffix}")
    assert why_not(path) == why_not(path, decode=True) == ""
    cut(path)
    assert why_not(path).startswith("is truncated")


def test_the_length_that_a_pipe_leaves_open_is_no_fault(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav")
    written = bytearray(path.read_bytes())
    written[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(written)
    assert why_not(path, decode=True) == ""
    flac = noise(tmp_path / "b.flac")
    written = bytearray(flac.read_bytes())
    written[21:26] = bytes([written[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO: total samples unknown
    flac.write_bytes(written)
    assert "does not say how long it is" in why_not(flac)


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.zeros((0, 1)), "holds no samples"),
        (np.zeros((800, 1)), "is silent"),
        (np.full((800, 1), 0.25), "is silent"),
        (np.linspace(-0.5, 0.5, 800)[:, None] * [[1.0, -1.0]], "is silent"),  # as a mix
        (np.r_[np.full((799, 1), 0.25), [[np.inf]]], "not finite"),
        (np.r_[np.zeros((799, 1)), [[1e-6]]], ""),
    ],
)
def test_what_sound_cannot_be_used(samples: np.ndarray, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    assert why in why_not(path, decode=True)
    assert bool(why_not(path, decode=True)) == bool(why)


def test_the_error_of_broken_files_says_what_to_do(task4_copy: Path) -> None:
    weak = sorted((task4_copy / "dataset/audio/train/weak").iterdir())
    cut(weak[0])
    soundfile.write(weak[1], np.zeros(0), 16_000)
    with pytest.raises(UserError) as error:
        load(task4_copy)
    text = str(error.value)
    assert f"{weak[0].name}  is truncated" in text
    assert f"{weak[1].name}  holds no samples" in text
    assert text.endswith(
        "Mend or remove them (and their rows), or pass --skip-broken to leave them out (they are "
        "listed in the report)."
    )


def test_broken_files_are_left_out_with_their_rows(task4_copy: Path) -> None:
    audio = task4_copy / "dataset/audio"
    weak, test = (sorted((audio / part).iterdir()) for part in ("train/weak", "test"))
    weak[0].unlink()
    soundfile.write(weak[1], np.zeros(16_000), 16_000)
    cut(test[0])
    dataset = data.load("dcase2018_task4", str(task4_copy), skip_broken=True)
    assert dict(dataset.skipped).keys() == {
        f"audio/train/weak/{weak[0].name}", f"audio/train/weak/{weak[1].name}",
        f"audio/test/{test[0].name}",
    }  # fmt: skip
    assert (len(dataset.part("weak")), len(dataset.part("test"))) == (22, 7)
    assert len(dataset.labels["weak"].values) == 22
    assert len(dataset.open_sealed("test", lambda: None).values) == 7
    assert set(dataset.source.paths) == {clip.clip_id for clip in dataset.clips}  # type: ignore[attr-defined]
    for path in test:
        path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="no clip of part test"):
        data.load("dcase2018_task4", str(task4_copy), skip_broken=True)


def test_edited_labels_are_changed_data(task4_copy: Path) -> None:
    before = load(task4_copy).fingerprint()
    table = task4_copy / "dataset/metadata/train/weak.csv"
    table.write_text(table.read_text().replace("Frying", "Speech", 1))
    assert load(task4_copy).fingerprint() != before


# --- faults that only decoding shows, in the store ---


def test_all_unusable_clips_of_a_store_are_named_at_once(task4_copy: Path, tmp_path: Path) -> None:
    dataset = load(task4_copy)
    ids = [clip.clip_id for clip in dataset.clips]
    paths = [Path(dataset.source.where(clip_id)) for clip_id in ids]
    soundfile.write(paths[1], np.zeros(16_000), 16_000)
    paths[20].write_bytes(b"no sound at all")
    soundfile.write(paths[40], np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    noise(paths[-1], seconds=0.5)
    for _ in range(2):  # a later build believes nothing that this one left
        with pytest.raises(UserError) as error:
            open_store(dataset, ids, 16_000, tmp_path / "stores", process_map)
        text = re.sub(" +", " ", str(error.value))
        assert text.startswith("4 of 44 clips of dcase2018_task4 cannot be used:")
        assert f"{paths[1]} is silent" in text
        assert f"{paths[20]} cannot be read: Format not recognised" in text
        assert f"{paths[40]} holds samples that are not finite" in text
        assert f"{paths[-1]} decodes to 0.500 s instead of 1.000 s" in text
        assert "--skip-broken" in text
        assert not list((tmp_path / "stores").glob("*/*"))


def test_a_full_disk_names_the_folder_and_the_bytes_needed(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(UserError) as error:
            open_store(dataset, ids, 16_000, tmp_path, plain_map)
    text = str(error.value)
    assert f"{tmp_path}/dcase2018_task4-16000-" in text
    assert "No space left on device. It needs 2,816,000 bytes in all" in text  # 44 x 1 s x 16 kHz
    assert open_store(dataset, ids, 16_000, tmp_path, plain_map).duration(ids[0]) == 1.0


def test_a_disk_that_fills_up_while_decoding_loses_nothing(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]
    synced: list[int] = []

    def fills_up(file: int) -> None:
        synced.append(file)
        if len(synced) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fills_up)
        with pytest.raises(UserError, match="It needs 2,816,000 bytes"):
            open_store(dataset, ids, 16_000, tmp_path, plain_map)
    counts: list[int] = []
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map, lambda d, t: counts.append(d))
    assert counts[0] == 16
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], dataset.source.read(clip_id)[0][0])


def test_a_worker_whose_errors_lose_their_number_says_what_is_needed(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def remote_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        for item in items:
            try:
                yield function(item)
            except OSError as error:
                raise OSError(str(error)) from None

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"No space left on device. It needs 64,000 bytes"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path, remote_map)


def test_a_build_killed_after_a_silent_clip_is_not_believed(
    task4_copy: Path, tmp_path: Path
) -> None:
    dataset = load(task4_copy)
    ids = [clip.clip_id for clip in dataset.clips]
    soundfile.write(dataset.source.where(ids[0]), np.zeros(16_000), 16_000)

    def killed(done: int, total: int) -> None:
        if done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path / "stores", plain_map, killed)
    with pytest.raises(UserError, match="is silent"):
        open_store(dataset, ids, 16_000, tmp_path / "stores", plain_map)


def test_a_log_entry_that_was_cut_is_not_believed(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path, plain_map, killed)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "done.txt").write_text("<1")  # of chunk 12, say
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map)
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], dataset.source.read(clip_id)[0][0])


def test_a_folder_that_cannot_be_made_is_named(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"waveform store .*file/store/.* cannot be written"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path / "file/store", plain_map)


BUILDER = """
import sys, time
from pathlib import Path
from systems import data
from systems.data.store import open_store

folder, root, me, other = sys.argv[1:]
dataset = data.load("dcase2018_task4", folder)
decoded = []

def slow_map(function, items):
    while not (Path(root) / other).exists():
        time.sleep(0.01)
    time.sleep(0.3)  # until the other one waits for the lock
    for item in items:
        decoded.append(item)
        yield function(item)

ids = [clip.clip_id for clip in dataset.clips]
(Path(root) / me).touch()
store = open_store(dataset, ids, 16_000, Path(root) / "stores", slow_map)
print(len(decoded), sum(float(abs(store[i]).sum()) > 0 for i in ids))
"""


def test_of_two_builds_at_once_one_decodes(task4_folder: Path, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(task4_folder), str(tmp_path), *names],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )
        for names in (("a", "b"), ("b", "a"))
    ]  # fmt: skip
    said = sorted(process.communicate(timeout=120)[0].split() for process in both)
    assert said == [["0", "44"], ["3", "44"]]
    assert [process.returncode for process in both] == [0, 0]
    assert len(list((tmp_path / "stores").glob("*/waveforms.f32"))) == 1


# --- splits of unequal classes ---


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
